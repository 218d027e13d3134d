"""A store with versions of every status, made once, and `twofold models` as a user runs it."""

import shutil
from pathlib import Path

import pytest

from tests.support import registration_case as case
from twofold.cli import main
from twofold.registry import ledger as ledgers
from twofold.registry import transitions
from twofold.tracking import store as tracking

REVIEW = case.PARAMS.model_copy(update={"promotion": "review"})
WHY = ("--reason", "because", "--actor", "ann")


def make(empty_store: Path, root: Path) -> tuple[Path, Path]:
    """Make a store with version 1 (was champion), 2 (champion) and 3 (challenger); return it and ingest's artifact."""
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
    """Restore the store as it was made, in the same folder, because MLflow records absolute paths."""
    before = place.parent / "before"
    database = shutil.copy(before / "mlflow.db", place / f"{len(list(place.iterdir()))}.db")
    shutil.rmtree(place / "mlartifacts")
    shutil.copytree(before / "mlartifacts", place / "mlartifacts")
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    case.know_corner(patch)
    return tracking.connect()


def runner(capsys: pytest.CaptureFixture[str]):
    """A function that runs one command and returns its exit status and output."""

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main.main(["models", words[0], "--name", "corner", *words[1:]])
        printed = capsys.readouterr()
        errors = [line for line in printed.err.splitlines(keepends=True) if "error" in line]
        return ended.value.code, printed.out + "".join(errors)

    return run


def decide_meanwhile(patch: pytest.MonkeyPatch, module, function: str, change: transitions.Change, expected: int):
    """Let another process write a change right after the next call of a function."""
    original = getattr(module, function)

    def call(*arguments):
        patch.setattr(module, function, original)
        result = original(*arguments)
        with transitions.change_under_lock(tracking.connect(), "corner") as (lock, _):
            transitions.commit(lock, change, expected=expected)
        return result

    patch.setattr(module, function, call)


def aliases(store: tracking.MlflowStore) -> dict[str, int]:
    """The aliases in MLflow with their versions."""
    return {alias: int(number) for alias, number in store.client.get_registered_model("corner").aliases.items()}


def entries(store: tracking.MlflowStore) -> list[tuple]:
    """Action, version, champion before, actor, reason of each entry of the ledger."""
    found = ledgers.read(store.client.get_registered_model("corner").tags).entries
    return [(entry.action, entry.version, entry.champion, entry.actor, entry.reason) for entry in found]
