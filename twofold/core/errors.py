"""Errors with messages for users; each one ends a command with exit status 1."""

from collections.abc import Sequence


class TwofoldError(Exception):
    """A message that names the file or key, the value found, and the values allowed."""


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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def shortened(names: Sequence[str], most: int = 3) -> str:
    """Join the first `most` names: `a, b, c, …`."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def listed(title: str, lines: Sequence[str], most: int) -> str:
    """Return a title, the first `most` lines indented below it, and the number of lines left out."""
    more = [f"… and {len(lines) - most} more"] if len(lines) > most else []
    return "\n  ".join([title, *lines[:most], *more])
