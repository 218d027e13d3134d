"""Errors with messages for users; each one ends a command with exit status 1.

Errors of boto3, requests, MLflow and urllib are recognised by their names, because this floor imports none of them.
"""

import codecs
import io
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from twofold.core.redaction import redact

# Soft hyphens, zero-width spaces, byte order marks and reading directions; not the joiners, which change letters.
INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
# HTTP: a request that took too long, too many requests, a server or a gateway that fails.
TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_CODES = frozenset({"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"})  # of S3
_CONNECTION_ERRORS = frozenset(
    {"ConnectionError", "Timeout", "TimeoutError", "HTTPClientError", "ProtocolError", "RetryError", "gaierror"}
    | {"IncompleteRead", "ChunkedEncodingError"}
)
_WRONG_SERVER = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")


class TwofoldError(Exception):
    """A message that names the file or key, the value found, and the values allowed.

    Credentials in it become `***`, and invisible characters their codes.

    Attributes:
        transient: whether the same work may succeed in a minute, so that a task of a pipeline tries it again.
    """

    def __init__(self, message: str = "", *, transient: bool = False) -> None:
        super().__init__(INVISIBLE.sub(lambda found: ascii(found[0])[1:-1], redact(message)))
        self.transient = transient


class ParameterError(TwofoldError):
    """params.yaml: a wrong, missing or unknown key."""


class DataError(TwofoldError):
    """Images, labels or splits."""


class SourceError(DataError):
    """A source that does not answer, denies access, or changes while it is read."""


class WeightsError(TwofoldError):
    """Pretrained weights that are missing, modified, or of another architecture."""


class ArtifactError(TwofoldError):
    """Files of a step that are missing, of another kind, or modified."""


class TrainingError(TwofoldError):
    """A training that cannot continue."""


class RegistryError(TwofoldError):
    """MLflow: tracking, registry, promotion."""


class ServerError(TwofoldError):
    """The Kubeflow server: connection, authentication, refused requests."""


def is_transient(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, is a failed connection, a timeout, or an answer that may change.

    A refusal, a wrong address and a certificate that is not valid are none.
    """
    if error is None or any(text in str(error) for text in _WRONG_SERVER):
        return False
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):  # of boto3
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status in TRANSIENT_STATUSES or answer.get("Error", {}).get("Code") in _CODES
    status = getattr(answer, "status_code", getattr(error, "code", None))  # of requests, of urllib
    if isinstance(status, int):
        return status in TRANSIENT_STATUSES
    if _CONNECTION_ERRORS & {kind.__name__ for kind in type(error).__mro__}:
        return True
    cause = getattr(error, "reason", None)  # of urllib's URLError
    return is_transient(cause if isinstance(cause, Exception) else error.__cause__ or error.__context__)


@contextmanager
def exit_with_message(program: str) -> Iterator[None]:
    """Turn an error of a command into text on stderr and exit status 1, and an interruption into status 130.

    A TwofoldError, or an error of the system with its path, is one line; of any other error the traceback is printed.
    Nothing of it contains credentials. What the command prints cannot fail: letters that the locale lacks are escaped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A machine without a locale shows UTF-8 all the same (PEP 540).
            utf8 = "utf-8" if codecs.lookup(stream.encoding).name == "ascii" else None
            stream.reconfigure(encoding=utf8, errors="backslashreplace")
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        message = str(error) if isinstance(error, TwofoldError | OSError) else traceback.format_exc()
        print(f"{program}: error: {redact(message)}", file=sys.stderr)
        raise SystemExit(1) from None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without credentials, or its type if the message is empty."""
    return (redact(str(error)).splitlines() or [type(error).__name__])[0]


def shortened(names: Sequence[str], most: int = 3) -> str:
    """Join the first `most` names: `a, b, c, …`."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def listed(title: str, lines: Sequence[str], most: int) -> str:
    """Return a title, the first `most` lines indented below it, and the number of lines left out."""
    more = [f"… and {len(lines) - most} more"] if len(lines) > most else []
    return "\n  ".join([title, *lines[:most], *more])
