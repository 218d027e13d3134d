"""An outage in front of a real server, a step that counts its tries, and what a task must tell about them."""

import functools
import re
import time
from contextlib import contextmanager

import pytest

from tests.support.tools.faulty_proxy import ERROR, XML, between
from tests.support.tools.servers import free_port
from twofold.storage import s3_client

TRIES = 3
JSON, HTML = {"content-type": "application/json"}, {"content-type": "text/html"}
GATEWAY = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body>\r\n</html>\r\n"
S3_KINDS = {
    "500": (500, XML, ERROR.format("InternalError").encode()),
    "503": (503, XML, ERROR.format("SlowDown").encode()),
    "429": (429, XML, ERROR.format("TooManyRequests").encode()),
    "RequestTimeout": (400, XML, ERROR.format("RequestTimeout").encode()),
}
MLFLOW_KINDS = {
    "500": (500, JSON, b'{"error_code": "INTERNAL_ERROR", "message": "the database is full"}'),
    "502": (502, HTML, GATEWAY),
    "503": (503, JSON, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "the database is away"}'),
    "429": (429, {}, b"slow down, please"),
    "upload": (500, {}, b"Internal Server Error"),
    "401": (401, {}, b"You are not authenticated"),
    "403": (403, {}, b"Permission denied"),
    "400": (400, JSON, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}'),
}


class Outage:
    """An outage that begins with the first request that matches; `only` these requests fail, or all later ones."""

    def __init__(self, kind, begin="", only=False):
        self.kind, self.begin, self.only = kind, begin, only
        self.began = self.ended = False

    def __call__(self, handler, listing, status, headers, body):
        matches = bool(re.search(self.begin, f"{handler.command} {handler.path}"))
        self.began = self.began or matches
        if self.ended or not (matches if self.only else self.began):
            return status, headers, body
        if isinstance(self.kind, tuple):
            return self.kind
        if self.kind == "stall":
            time.sleep(2.5)  # longer than the timeouts
        elif self.kind == "reset":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * len(body) + 2) + body)
        return None

    def end(self):
        self.ended = True


@contextmanager
def failing(behind, outage, monkeypatch, variable):
    """Put an outage in front of a server, and the address into an environment variable."""
    if outage.kind == "stall":  # only then: on a busy machine an answer may take seconds
        monkeypatch.setattr(s3_client, "READ_TIMEOUT", 2)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with between(behind, outage, monkeypatch, variable):
        if outage.kind == "refused":
            monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
            outage.end = functools.partial(monkeypatch.setenv, variable, behind)
        yield


class Counted:
    """A step that counts its calls; at the second one, the outage ends."""

    def __init__(self, step, end=lambda: None):
        functools.update_wrapper(self, step)
        self.step, self.end, self.calls = step, end, 0

    def __call__(self, *arguments, **more):
        self.calls += 1
        if self.calls == 2:
            self.end()
        return self.step(*arguments, **more)


def told(capfd):
    """The lines of the task on stderr, without the progress of the step."""
    lines = [line for line in capfd.readouterr().err.splitlines() if re.match(r"twofold \w+: |Traceback", line)]
    assert not any(line.startswith("Traceback") for line in lines)
    return lines


def assert_told_once(lines, pattern):
    assert [bool(re.search(pattern, line)) for line in lines] == [True], lines
    assert lines[0].endswith(f"; trying again in 0 s (try 2 of {TRIES})")


def assert_given_up(lines, pattern):
    assert [bool(re.search(pattern, line)) for line in lines] == [True] * TRIES, lines
    assert f": error: after {TRIES} tries: " in lines[-1]
    assert all("; trying again in 0 s (try " in line for line in lines[:-1])


def assert_permanent(step, capfd, message, run):
    capfd.readouterr()
    with pytest.raises(SystemExit):
        run(step)
    (line,) = told(capfd)
    assert step.calls == 1
    assert re.search(f"^twofold {step.__name__}: error: (?!after).*{message}", line), line
