"""A store with versions in every standing, made once, and `twofold models` as a user runs it."""

import shutil
from pathlib import Path

import pytest

from tests.support import registration_case as case
from twofold.cli import main
from twofold.registry import ledger as ledgers
from twofold.tracking import store as tracking

REVIEW = case.PARAMS.model_copy(update={"promotion": "review"})
WHY = ("--reason", "because", "--actor", "ann")


def make(empty_store: Path, root: Path) -> tuple[Path, Path]:
    """A store with version 1 (was champion), 2 (champion) and 3 (waits for review), and ingest's artifact."""
    place = root / "mlflow"
    place.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, place / 'mlflow.db')}")
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        case.hurry(patch)
        data = case.make_data(root)
        for slope, params in ((8.0, case.PARAMS), (9.0, case.PARAMS), (10.0, REVIEW)):
            case.run(case.make_candidate(root / str(slope), data, slope), root, params)
    shutil.copytree(place, root / "before")
    return place, data[0]


def fresh(place: Path, patch: pytest.MonkeyPatch) -> tracking.MlflowStore:
    """The same store as it was made; its files lie where they lay, for MLflow knows them by absolute paths."""
    before = place.parent / "before"
    database = shutil.copy(before / "mlflow.db", place / f"{len(list(place.iterdir()))}.db")
    shutil.rmtree(place / "mlartifacts")
    shutil.copytree(before / "mlartifacts", place / "mlartifacts")
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    case.know_corner(patch)
    return tracking.connect()


def runner(capsys: pytest.CaptureFixture[str]):
    """Runs one command; exit status and output."""

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main.main(["models", words[0], "--name", "corner", *words[1:]])
        told = capsys.readouterr()
        return ended.value.code, told.out + "".join(line for line in told.err.splitlines(True) if "error" in line)

    return run


def aliases(store: tracking.MlflowStore) -> dict[str, int]:
    """Who holds which alias in MLflow."""
    return {alias: int(number) for alias, number in store.client.get_registered_model("corner").aliases.items()}


def entries(store: tracking.MlflowStore) -> list[tuple]:
    """Action, version, champion before, actor, reason of each entry of the ledger."""
    found = ledgers.read(store.client.get_registered_model("corner").tags).entries
    return [(entry.action, entry.version, entry.champion, entry.actor, entry.reason) for entry in found]
