"""Fixtures of all tests: waiting threads that do not spin, and a cache and an MLflow store for each test."""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Set before torch is imported, as in a step's command, so that waiting threads do not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_cache_numbers = count()


class _LoadScheduling(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "tests/pipeline" if file.startswith("tests/pipeline/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Give a file to one worker, and so all of tests/pipeline, which share a project that takes a minute to make."""
    return _LoadScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for the fixtures that several tests share, in place of the project's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOFOLD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def own_cache(shared_cache: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache for each test, so that no test uses the results of another."""
    monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path_factory.getbasetemp() / f"cache-{next(_cache_numbers)}"))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database, which tests copy, because creating one takes seconds."""
    from twofold.tracking.store import silence_mlflow

    silence_mlflow()
    from mlflow import MlflowClient

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def mlflow_store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An MLflow database for this test, set as the tracking URI; returns its folder, which also holds the artifacts."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME", "TWOFOLD_LIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}")
    return folder
