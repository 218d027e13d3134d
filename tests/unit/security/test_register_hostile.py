"""register while something else changes: files disappear, aliases are moved, the clock is set back."""

import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support import registration_case as case
from tests.support.corner_store import champion, client, ledger, versions
from twofold.core.errors import RegistryError
from twofold.registry import ledger as ledgers
from twofold.registry import registration, transitions
from twofold.serving import model_resolver
from twofold.tracking import registry_client
from twofold.tracking import store as tracking

REVIEW = case.PARAMS.model_copy(update={"promotion": "review"})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two candidates on the same data that differ only in their weights."""
    root = tmp_path_factory.mktemp("candidates")
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        data = case.make_data(root)
        return {name: case.make_candidate(root / name, data, slope) for name, slope in (("good", 8.0), ("better", 9.0))}


@pytest.fixture(autouse=True)
def smoke_tests(monkeypatch, mlflow_store):
    """The number of images in each smoke test."""
    return case.hurry(monkeypatch)


def logged(number="1"):
    """The folder of a version's logged model."""
    model = client().get_logged_model(client().get_model_version("corner", number).source.rpartition("/")[2])
    return Path(model.artifact_location.removeprefix("file://"))


def sealed(tmp_path, number="1"):
    version = client().get_model_version("corner", number)
    return model_resolver.fetch_sealed(tracking.connect(), version, tmp_path / "fetched")


def test_a_waiting_version_without_its_files_is_uploaded_and_tested_again_before_promotion(
    made, tmp_path, smoke_tests, capsys
):
    case.run(made["good"], tmp_path, REVIEW)
    shutil.rmtree(logged())
    verdict = case.run(made["good"], tmp_path)
    assert (verdict["version"], verdict["champion"], versions()) == (1, 1, [1])
    assert len(smoke_tests) == 2
    assert "has changed since its smoke test" in capsys.readouterr().err
    assert sealed(tmp_path).is_dir()


def test_a_waiting_version_with_its_files_is_not_tested_again(made, tmp_path, smoke_tests, capsys):
    case.run(made["good"], tmp_path, REVIEW)
    assert case.run(made["good"], tmp_path)["champion"] == 1
    assert len(smoke_tests) == 1
    assert "has changed since its smoke test" not in capsys.readouterr().err


def test_files_that_disappear_before_the_smoke_test_prevent_promotion_until_the_next_run(made, tmp_path, monkeypatch):
    upload = registry_client.upload

    def upload_to_a_store_that_forgets(store, model, packed):
        upload(store, model, packed)
        shutil.rmtree(model.artifact_location.removeprefix("file://"))

    monkeypatch.setattr(registry_client, "upload", upload_to_a_store_that_forgets)
    with pytest.raises(RegistryError, match=r"the files of logged model m-.* cannot be fetched from"):
        case.run(made["good"], tmp_path)
    assert registry_client.registered(tracking.connect(), "corner") is None
    monkeypatch.setattr(registry_client, "upload", upload)
    assert case.run(made["good"], tmp_path)["champion"] == 1
    assert (versions(), len(ledger()), sealed(tmp_path).is_dir()) == ([1], 1, True)


def test_file_storage_that_accepts_no_files_is_named_and_nothing_is_promoted(made, tmp_path, mlflow_store):
    case.run(made["good"], tmp_path)
    away = mlflow_store / "away"
    (mlflow_store / "mlartifacts").rename(away)
    (mlflow_store / "mlartifacts").write_text("not mounted")
    with pytest.raises(RegistryError, match=r"its file storage did not accept the files.*run register again"):
        case.run(made["better"], tmp_path / "two")
    assert (versions(), champion()) == ([1], 1)
    assert not list((tmp_path / "two").glob("*"))
    (mlflow_store / "mlartifacts").unlink()
    away.rename(mlflow_store / "mlartifacts")
    assert case.run(made["better"], tmp_path / "two")["champion"] == champion() == 2


def test_an_alias_moved_by_hand_after_the_decision_stops_the_promotion(made, tmp_path, monkeypatch):
    case.run(made["good"], tmp_path, REVIEW)
    case.run(made["good"], tmp_path)
    log_model = registration.log_model

    def log_while_an_alias_moves(store, *rest):
        store.client.delete_registered_model_alias("corner", "champion")
        return log_model(store, *rest)

    monkeypatch.setattr(registration, "log_model", log_while_an_alias_moves)
    with pytest.raises(RegistryError, match=r"'champion' of 'corner' is at version none, by the ledger at 1.*--repair"):
        case.run(made["better"], tmp_path)
    assert (versions(), [entry.action for entry in ledger()]) == ([1], ["challenge", "promote"])
    monkeypatch.setattr(registration, "log_model", log_model)
    transitions.repair(tracking.connect(), "corner", actor="ann", reason="")
    assert case.run(made["better"], tmp_path)["champion"] == champion() == 2


def test_a_candidate_that_is_rejected_while_register_runs_is_not_promoted(made, tmp_path, monkeypatch):
    case.run(made["good"], tmp_path, REVIEW)
    log_model = registration.log_model

    def log_while_someone_rejects(store, *rest):
        with transitions.change_under_lock(store, "corner") as (lock, _):
            transitions.commit(lock, transitions.Change("reject", 1, "ann", "it is too slow"), expected=None)
        return log_model(store, *rest)

    monkeypatch.setattr(registration, "log_model", log_while_someone_rejects)
    verdict = case.run(made["good"], tmp_path)
    assert (verdict["alias"], verdict["champion"], verdict["promoted"]) == ("rejected", None, False)
    assert [entry.action for entry in ledger()] == ["challenge", "reject"]


def test_a_clock_that_is_set_back_changes_only_the_times(made, tmp_path, monkeypatch):
    case.run(made["good"], tmp_path)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86400)
    yesterday = (datetime.now(transitions.UTC) - timedelta(days=1)).isoformat(timespec="seconds")
    monkeypatch.setattr(transitions, "_now", lambda: yesterday)
    assert case.run(made["better"], tmp_path)["champion"] == champion() == 2
    first, second = ledger()
    assert (first.number, second.number, second.time < first.time) == (1, 2, True)
    found = ledgers.read(client().get_registered_model("corner").tags)
    assert (found.problems, found.champion, found.before()) == ((), 2, [1])
    assert case.run(made["better"], tmp_path)["nothing_new"] is True
    assert case.run(made["good"], tmp_path)["champion"] == 2
