"""Calls the command line against the stand-in server; checks exit statuses, and that no output holds a secret."""

import argparse
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.kfp_server.server import KfpServer
from twofold.cli.kfp import options as cli_options
from twofold.cli.main import kfp_main as main
from twofold.core.errors import ServerError
from twofold.kubeflow.definition.compiler import compile_pipeline
from twofold.kubeflow.server import commits, kfp_client, run_submission, run_watcher
from twofold.kubeflow.server.connection import Connection, connect

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
SECRET = "s3cr3t-T0ken.of_much~length"
IMAGES = [f"--image={target}=registry.example/{target}@sha256:{'0' * 64}" for target in ("data", "train")]

_COMPILED: dict[str, bytes] = {}


class Output(NamedTuple):
    """What a command printed."""

    out: str
    err: str


class Cli:
    """Calls commands in this process; `submit` and `schedule apply` get the tests' images and parameters."""

    def __init__(self, server: KfpServer, capfd: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self.capfd = capfd

    def __call__(self, *words: str, status: int = 0) -> Output:
        compiles = words[0] == "submit" or words[:2] == ("schedule", "apply")
        rest = [*IMAGES, "--params", str(PARAMS)] if compiles else []
        with pytest.raises(SystemExit) as caught:
            main([*words, "--host", self.server.host, *rest])
        output = Output(*self.capfd.readouterr())
        assert SECRET not in output.out + output.err
        assert caught.value.code == status, output
        return output


def options(server: KfpServer, *words: str) -> Connection:
    """The connection that the command line makes from the words."""
    parser = argparse.ArgumentParser()
    cli_options.add_connection_options(parser)
    return cli_options.connection_from(parser.parse_args(["--host", server.host, *words]))


def fails(server: KfpServer, *words: str) -> str:
    """The message of a connection that fails; neither it nor its traceback may hold a secret."""
    with pytest.raises(ServerError) as caught:
        connect(options(server, *words))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all waiting, and this machine's own settings for other servers."""
    monkeypatch.setattr(kfp_client, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(run_watcher, "POLL_INTERVAL", 0.0)
    monkeypatch.setattr(run_watcher, "BACKOFF", (0.0, 0.0))
    monkeypatch.setattr(run_submission, "SEARCH_DELAYS", (0.0, 0.0))
    monkeypatch.setattr(cli_options, "compile_pipeline", _compile_once)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", "/nonexistent/kfp/context.json")
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KFP_TOKEN", "KFP_COOKIES"):
        monkeypatch.delenv(name, raising=False)


def check_out(monkeypatch: pytest.MonkeyPatch, commit: str | None, changed: str = "none") -> None:
    """Let the project be at a commit, with changed files, or in no git repository."""
    state = {"git.commit": commit, "git.changed": changed} if commit else {}
    monkeypatch.setattr(commits, "git_state", lambda _: state)


def _compile_once(path: Path, **inputs: Any) -> None:
    """Compile the same inputs only once, which saves half a second per call."""
    key = repr(inputs)
    if key not in _COMPILED:
        compile_pipeline(path, **inputs)
        _COMPILED[key] = path.read_bytes()
    path.write_bytes(_COMPILED[key])


def only(things: dict[str, Any]) -> Any:
    """The only value."""
    (thing,) = things.values()
    return thing


def assert_in_order(text: str, *parts: str) -> None:
    """Check that the text contains all parts, and that their first occurrences are in this order."""
    places = [text.find(part) for part in parts]
    assert -1 not in places, f"{parts[places.index(-1)]!r} not in:\n{text}"
    assert places == sorted(places), text
