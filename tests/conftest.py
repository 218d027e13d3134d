"""For all tests: threads that do not spin, a memo and an MLflow store of a test's own."""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

# Before anything imports torch, for the tests as for a step's command: threads that wait shall not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_memos = count()


@pytest.fixture(scope="session", autouse=True)
def memo_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A memo for what several tests share; never that of the project around them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWOFOLD_CACHE", str(tmp_path_factory.mktemp("memo")))
        yield


@pytest.fixture(autouse=True)
def memo_of_its_own(
    memo_of_all: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another test has seen is not known, so that a test sees it done."""
    monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path_factory.getbasetemp() / f"memo-of-{next(_memos)}"))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without content; making one takes seconds, copying it none."""
    from twofold.tracking.store import silence_mlflow

    silence_mlflow()
    from mlflow import MlflowClient

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def mlflow_store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An MLflow database of the test's own, which tracking finds; its artifacts lie beside it."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME", "TWOFOLD_LIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}")
    return folder
