"""Fixtures of the unit tests: one thread, separate folders without live runs, a small data set, a Kubeflow server."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.kfp_server.case import Cli
    from tests.support.kfp_server.server import KfpServer
    from twofold.tracking.store import MlflowStore

# Set before torch is imported: several processes with several threads each would slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data/prepared` of 30 generated grey images of 32 px."""
    from tests.support.training_maker import make_prepared

    return make_prepared(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def models_made(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store with versions of every status, and ingest's artifact; `models_case.fresh` restores its first state."""
    from tests.support import models_case

    return models_case.make(empty_store, tmp_path_factory.mktemp("models"))


@pytest.fixture
def models_store(models_made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> "MlflowStore":
    """That store in its first state."""
    from tests.support import models_case

    return models_case.fresh(models_made[0], monkeypatch)


@pytest.fixture
def models(models_store: "MlflowStore", capsys: pytest.CaptureFixture[str]) -> "Callable[..., tuple[int, str]]":
    """Runs `twofold models` on that store; returns exit status and output."""
    from tests.support import models_case

    return models_case.runner(capsys)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with its own cache, checkpoints and weights, and without live runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("TWOFOLD_CACHE", "TWOFOLD_CHECKPOINTS", "TWOFOLD_WEIGHTS", "TWOFOLD_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TWOFOLD_LIVE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> "Iterator[KfpServer]":
    """A stand-in for Kubeflow's API over HTTP, with short waiting times in the commands."""
    from tests.support.kfp_server.case import quick
    from tests.support.kfp_server.server import KfpServer

    quick(monkeypatch)
    with KfpServer() as server:
        yield server


@pytest.fixture
def cli(server: "KfpServer", capfd: pytest.CaptureFixture[str]) -> "Cli":
    """The command line, connected to that server."""
    from tests.support.kfp_server.case import Cli

    return Cli(server, capfd)


@pytest.fixture
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a file that poisoned data creates if its code is executed."""
    return tmp_path_factory.mktemp("canary") / "alive"
