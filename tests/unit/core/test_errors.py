"""Which errors of which libraries count as transient, also after a worker process; and how a command prints errors."""

import http.client
import io
import pickle
import socket
import ssl
import sys
import urllib.error

import pytest
import requests
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from twofold.core.errors import DataError, SourceError, exit_with_message, is_transient

PLACE = {"endpoint_url": "http://s3:8333"}
CERTIFICATE = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"


def s3(code, status):
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


def web(status):
    return urllib.error.HTTPError("http://there", status, "", http.client.HTTPMessage(), None)


def rest(status):
    answer = requests.Response()
    answer.status_code = status
    return requests.HTTPError("no", response=answer)


def caused(error, cause):
    error.__cause__ = cause
    return error


TRANSIENT = [
    *(s3(code, status) for code, status in (("InternalError", 500), ("SlowDown", 503), ("", 429), ("SlowDown", 400))),
    *(s3("RequestTimeout", 400), EndpointConnectionError(**PLACE), ConnectTimeoutError(**PLACE)),
    *(ReadTimeoutError(**PLACE), web(503), rest(502), requests.ConnectionError(), requests.ReadTimeout()),
    *(ConnectionResetError(), TimeoutError(), http.client.IncompleteRead(b""), http.client.RemoteDisconnected()),
    urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution")),
    caused(OSError("the server answered 503"), web(503)),
]
PERMANENT = [
    *(s3("NoSuchBucket", 404), s3("AccessDenied", 403), s3("NotImplemented", 501), NoCredentialsError()),
    *(web(404), rest(401), rest(413), OSError("disk full"), ValueError("no address"), PermissionError()),
    *(SSLError(**PLACE, error=CERTIFICATE), requests.exceptions.SSLError(CERTIFICATE)),
    urllib.error.URLError(ssl.SSLCertVerificationError(1, CERTIFICATE)),
    caused(OSError("the server answered 404"), web(404)),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_a_failed_connection_a_timeout_and_a_failing_server_are_transient(error):
    assert is_transient(error)


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_a_refusal_a_wrong_address_and_a_wrong_certificate_are_not(error):
    assert not is_transient(error)


@pytest.mark.parametrize("transient", [True, False])
def test_an_error_of_a_worker_process_stays_transient(transient):
    error = pickle.loads(pickle.dumps(SourceError("s3://images: it is busy", transient=transient)))  # noqa: S301
    assert (type(error), str(error), error.transient) == (SourceError, "s3://images: it is busy", transient)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "电池 é".encode()), ("latin-1", b"\\u7535\\u6c60 \xe9"), ("utf-8", "电池 é".encode())],
)
def test_names_in_any_script_are_printed_under_any_locale(monkeypatch, encoding, shown):
    """An ASCII locale is that of a container without one, whose terminal shows UTF-8."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding))
    with pytest.raises(SystemExit), exit_with_message("twofold toy"):
        print("电池 é")
        raise DataError("电池 é")
    for stream, before in ((sys.stdout, b""), (sys.stderr, b"twofold toy: error: ")):
        stream.flush()
        assert stream.buffer.getvalue() == before + shown + b"\n"


@pytest.mark.parametrize(("error", "status"), [(DataError("x"), 1), (KeyboardInterrupt(), 130)])
def test_a_command_ends_with_a_status_and_no_traceback(error, status):
    with pytest.raises(SystemExit) as caught, exit_with_message("twofold"):
        raise error
    assert caught.value.code == status
