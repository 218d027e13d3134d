"""The command line against the stand-in: words in, exit status and output out, and never a secret among it."""

import argparse
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.kfp_server.server import KfpServer
from twofold.cli.kfp import submit
from twofold.cli.kfp.command import main
from twofold.cli.kfp.options import add_connection_options, connection_from
from twofold.core.errors import ServerError
from twofold.kubeflow.definition.compiler import compile_to
from twofold.kubeflow.server import kfp_client, run_submission, run_watcher
from twofold.kubeflow.server.connection import Connection, connect

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"
SECRET = "s3cr3t-T0ken.of_much~length"
IMAGES = [
    f"--image=data=registry.example/data@sha256:{'0' * 64}",
    f"--image=train=registry.example/t@sha256:{'1' * 64}",
]

_COMPILED: dict[str, bytes] = {}


class Said(NamedTuple):
    """What a command printed."""

    out: str
    err: str


class Cli:
    """Calls commands in this process; `submit` and `schedule apply` get images and parameters of the tests."""

    def __init__(self, server: KfpServer, capfd: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self.capfd = capfd

    def __call__(self, *words: str, status: int = 0) -> Said:
        compiles = words[0] == "submit" or words[:2] == ("schedule", "apply")
        rest = [*IMAGES, "--params", str(PARAMS)] if compiles else []
        with pytest.raises(SystemExit) as caught:
            main([*words, "--host", self.server.host, *rest])
        said = Said(*self.capfd.readouterr())
        assert SECRET not in said.out + said.err
        assert caught.value.code == status, said
        return said


def options(server: KfpServer, *words: str) -> Connection:
    """What the command line would make of the words."""
    parser = argparse.ArgumentParser()
    add_connection_options(parser)
    return connection_from(parser.parse_args(["--host", server.host, *words]))


def fails(server: KfpServer, *words: str) -> str:
    """The message of a connection that fails, which holds no secret, nor does its traceback."""
    with pytest.raises(ServerError) as caught:
        connect(options(server, *words))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits; and what this machine knows of other servers stays out."""
    monkeypatch.setattr(kfp_client, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(run_watcher, "POLL", 0.0)
    monkeypatch.setattr(run_watcher, "BACKOFF", (0.0, 0.0))
    monkeypatch.setattr(run_submission, "LOOKS", (0.0, 0.0))
    monkeypatch.setattr(submit, "compile_to", _compile_once)
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", "/nonexistent/kfp/context.json")
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KFP_TOKEN", "KFP_COOKIES"):
        monkeypatch.delenv(name, raising=False)


def _compile_once(path: Path, **inputs: Any) -> None:
    """The same bytes for the same inputs, which is half a second less a call."""
    key = repr(inputs)
    if key not in _COMPILED:
        compile_to(path, **inputs)
        _COMPILED[key] = path.read_bytes()
    path.write_bytes(_COMPILED[key])


def only(things: dict[str, Any]) -> Any:
    """The one value there is."""
    (thing,) = things.values()
    return thing


def positions(text: str, parts: Sequence[str]) -> list[int]:
    """Where each part begins; all must be there."""
    found = [text.find(part) for part in parts]
    assert -1 not in found, f"{parts[found.index(-1)]!r} not in:\n{text}"
    return found
