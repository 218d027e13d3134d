"""A server at which nothing answers: what a command says, at once, and what a step says that waits for it."""

import socket
import threading
import time

import pytest

from tests.support.tools.servers import free_port
from twofold.cli import main
from twofold.core import progress
from twofold.tracking import urls


@pytest.fixture
def nobody(monkeypatch):
    """An address of this machine that refuses connections."""
    monkeypatch.setattr(urls, "PATIENCE", 0.2)
    monkeypatch.delenv("http_proxy", raising=False)
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    return f"http://me:s3cret@127.0.0.1:{free_port()}"


@pytest.mark.parametrize("words", [["models", "list"], ["models", "reject", "--reason", "x"], ["predict", "champion"]])
def test_a_command_names_the_address_at_which_nothing_answers(words, nobody, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", nobody)
    (tmp_path / "x.png").touch()
    given = ["models:/x/1", str(tmp_path / "x.png")] if words[0] == "predict" else [*words[1:], "--name", "x"]
    begin = time.monotonic()
    with pytest.raises(SystemExit):
        main.main([words[0], *given])
    (line,) = capsys.readouterr().err.splitlines()
    address = nobody.replace("me:s3cret@", "")
    reason = "Connection refused; is the server running? MLFLOW_TRACKING_URI names it; unset it to use mlflow.db here"
    assert line.endswith(f": error: nothing answers at {address}: {reason}")
    assert time.monotonic() - begin < 30


def test_a_server_that_starts_meanwhile_is_waited_for(nobody, monkeypatch):
    monkeypatch.setattr(urls, "PATIENCE", 10)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert urls.unreachable(address) == "Connection refused"
        threading.Timer(0.3, server.listen).start()
        urls.require_server(address)
        assert urls.unreachable(address) == ""
    for other in ("sqlite:///mlflow.db", "http://127.0.0.1:x", "postgresql://127.0.0.1:1/db"):
        assert urls.unreachable(other) == ""


def test_an_unknown_host_is_named_and_a_proxy_is_left_to_find_it(nobody, monkeypatch):
    assert urls.unreachable("https://mlflow.invalid")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert urls.unreachable("https://mlflow.invalid") == ""


def test_a_step_that_waits_says_why(nobody, monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    with urls.waiting_for_server(nobody):
        time.sleep(0.4)
    address = nobody.replace("me:s3cret@", "")
    assert capsys.readouterr().err.splitlines()[0] == f"still waiting for MLflow at {address} (0 s): Connection refused"
