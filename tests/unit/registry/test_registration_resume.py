"""register killed before any of its writes and run again: the same state as if nothing had happened.

All writes are tried in the slow tests (`-m slow`), the first one of each kind here.
"""

import shutil
from pathlib import Path

import pytest

from tests.support import registration_case as case
from twofold.registry import lock


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("candidate")
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        data = case.make_data(root)
        return case.make_candidate(root / "one", data), case.make_candidate(root / "two", data, 9.0)


@pytest.fixture
def standing(made, mlflow_store, tmp_path, monkeypatch):
    """A store with a champion, and a better candidate; locks expire at once."""
    case.hurry(monkeypatch)
    monkeypatch.setattr(lock, "LEASE", 0.2)
    case.run(made[0], tmp_path)
    return made[1]


def uninterrupted(candidate, place, monkeypatch):
    """The writes of one registration, and the state after it."""
    with monkeypatch.context() as patch:
        watched = case.watch(patch)
        case.run(candidate, place)
    return watched.writes, case.state()


def kill(candidate, place, number, monkeypatch):
    with monkeypatch.context() as patch:
        case.watch(patch, kill_before=number)
        with pytest.raises(case.Killed):
            case.run(candidate, place)


def every_kill(candidate, place, store, monkeypatch, chosen):
    """Kill before each of the chosen writes, each time from the same start; run again; compare."""
    database, artifacts = store / "mlflow.db", store / "mlartifacts"
    start = place / "start"
    shutil.copytree(store, start)
    writes, expected = uninterrupted(candidate, place, monkeypatch)
    assert {"create_model_version", "set_registered_model_alias", "log_model_artifacts"} <= set(writes)
    tried = [number for number in range(len(writes)) if chosen(writes, number)]
    for number in tried:
        # In the same place, for the database knows its artifacts by their absolute path.
        shutil.rmtree(artifacts)
        shutil.copytree(start / "mlartifacts", artifacts)
        overwrite(start / "mlflow.db", database)
        kill(candidate, place, number, monkeypatch)
        verdict = case.run(candidate, place)
        assert (verdict["version"], verdict["champion"]) == (2, 2), writes[number]
        assert case.state() == expected, f"killed before write {number}, {writes[number]}"
        assert case.run(candidate, place)["nothing_new"] is True
    return tried


def overwrite(source: Path, database: Path) -> None:
    """Put another content into a SQLite file that is open."""
    import sqlite3

    with sqlite3.connect(source) as before, sqlite3.connect(database) as now:
        before.backup(now)
    before.close()
    now.close()


def test_killed_before_the_first_write_of_each_kind_it_finishes_the_job(standing, tmp_path, mlflow_store, monkeypatch):
    tried = every_kill(
        standing, tmp_path, mlflow_store, monkeypatch, lambda writes, number: writes.index(writes[number]) == number
    )
    assert len(tried) >= 10


@pytest.mark.slow
def test_killed_before_any_write_it_finishes_the_job(standing, tmp_path, mlflow_store, monkeypatch):
    tried = every_kill(standing, tmp_path, mlflow_store, monkeypatch, lambda writes, number: True)
    assert len(tried) >= 20


def test_killed_when_the_ledger_said_so_and_judged_by_other_gates_it_is_champion(standing, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        watched = case.watch(patch)
        patch.setattr(watched, "set_registered_model_alias", killed, raising=False)
        with pytest.raises(case.Killed):
            case.run(standing, tmp_path)
    verdict = case.run(standing, tmp_path, case.REFUSING)
    assert (verdict["nothing_new"], verdict["passed"], verdict["alias"]) == (True, False, "champion")
    assert (verdict["version"], verdict["champion"]) == (2, 2)


def killed(*args):
    raise case.Killed


def test_a_refusal_that_was_killed_is_recorded_when_run_again(standing, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        watched = case.watch(patch)
        case.run(standing, tmp_path, case.REFUSING)
    for last in ("log_batch", "set_terminated"):
        params = case.REFUSING.model_copy(update={"experiment": f"with {last}"})
        with monkeypatch.context() as patch:
            case.watch(patch, kill_before=watched.writes.index(last))
            with pytest.raises(case.Killed):
                case.run(standing, tmp_path, params)
        verdict = case.run(standing, tmp_path, params)
        assert (verdict["headline"], verdict["champion"]) == ("Refused", 1)
