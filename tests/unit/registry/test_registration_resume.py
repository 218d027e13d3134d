"""register killed before any of its writes and run again: it ends in the same state as an uninterrupted one.

The slow tests (`-m slow`) kill it before every write, the others before the first write of each kind.
"""

import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.support import registration_case as case
from twofold.registry import lock


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    return case.make_candidates(tmp_path_factory.mktemp("candidates"), 8.0, 9.0)


@pytest.fixture
def candidate(candidates, mlflow_store, tmp_path, monkeypatch):
    """A better candidate than the champion in the store; locks expire at once."""
    case.hurry(monkeypatch)
    monkeypatch.setattr(lock, "LEASE", 0.2)
    case.run(candidates[0], tmp_path)
    return candidates[1]


def kill_before_writes(candidate, place, store, monkeypatch, chosen):
    """Kill before each of the chosen writes, each time from the same state; run again; compare."""
    start = place / "start"
    shutil.copytree(store, start)
    with monkeypatch.context() as patch:
        watched = case.watch(patch)
        case.run(candidate, place)
    writes, expected = watched.writes, case.state()
    assert {"create_model_version", "set_registered_model_alias", "log_model_artifacts"} <= set(writes)
    numbers = [number for number in range(len(writes)) if chosen(writes, number)]
    for number in numbers:
        # In the same folder, because the database holds absolute paths.
        shutil.rmtree(store / "mlartifacts")
        shutil.copytree(start / "mlartifacts", store / "mlartifacts")
        # The database is open, so its content is replaced, not the file.
        with (
            closing(sqlite3.connect(start / "mlflow.db")) as before,
            closing(sqlite3.connect(store / "mlflow.db")) as now,
        ):
            before.backup(now)
        with monkeypatch.context() as patch:
            case.watch(patch, kill_before=number)
            with pytest.raises(case.Killed):
                case.run(candidate, place)
        verdict = case.run(candidate, place)
        assert (verdict["version"], verdict["champion"]) == (2, 2), writes[number]
        assert case.state() == expected, f"killed before write {number}, {writes[number]}"
        assert case.run(candidate, place)["nothing_new"] is True
    return numbers


@pytest.mark.slow
def test_killed_before_the_first_write_of_each_kind_it_finishes_the_work(
    candidate, tmp_path, mlflow_store, monkeypatch
):
    def is_first(writes, number):
        return writes.index(writes[number]) == number

    assert len(kill_before_writes(candidate, tmp_path, mlflow_store, monkeypatch, is_first)) >= 10


@pytest.mark.slow
def test_killed_before_any_write_it_finishes_the_work(candidate, tmp_path, mlflow_store, monkeypatch):
    numbers = kill_before_writes(candidate, tmp_path, mlflow_store, monkeypatch, lambda writes, number: True)
    assert len(numbers) >= 20


def test_killed_after_the_entry_and_judged_by_other_gates_it_is_champion(candidate, tmp_path, monkeypatch):
    def kill(*args):
        raise case.Killed

    with monkeypatch.context() as patch:
        watched = case.watch(patch)
        patch.setattr(watched, "set_registered_model_alias", kill, raising=False)
        with pytest.raises(case.Killed):
            case.run(candidate, tmp_path)
    verdict = case.run(candidate, tmp_path, case.REFUSING)
    assert (verdict["nothing_new"], verdict["passed"], verdict["alias"]) == (True, False, "champion")
    assert (verdict["version"], verdict["champion"]) == (2, 2)


def test_a_killed_refusal_is_recorded_when_run_again(candidate, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        watched = case.watch(patch)
        case.run(candidate, tmp_path, case.REFUSING)
    for last in ("log_batch", "set_terminated"):
        params = case.REFUSING.model_copy(update={"experiment": f"with {last}"})
        with monkeypatch.context() as patch:
            case.watch(patch, kill_before=watched.writes.index(last))
            with pytest.raises(case.Killed):
                case.run(candidate, tmp_path, params)
        verdict = case.run(candidate, tmp_path, params)
        assert (verdict["headline"], verdict["champion"]) == ("Refused", 1)
