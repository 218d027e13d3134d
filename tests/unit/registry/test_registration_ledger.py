"""register respects earlier and concurrent decisions in the ledger, and detects changes made outside Twofold."""

import pytest

from tests.support import registration_case as case
from tests.support.corner_store import champion, client, ledger, versions
from tests.support.models_case import REVIEW, decide_meanwhile
from twofold.core.errors import RegistryError
from twofold.registry import registration, transitions
from twofold.registry.lineage import LINEAGE
from twofold.tracking import registry_client
from twofold.tracking import store as tracking


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    """Two candidates on the same data that differ only in their weights."""
    made = case.make_candidates(tmp_path_factory.mktemp("candidates"), 8.0, 9.0)
    return dict(zip(("good", "better"), made, strict=True))


@pytest.fixture(autouse=True)
def fast_registration(monkeypatch, mlflow_store):
    case.hurry(monkeypatch)


def test_the_logged_model_has_the_candidates_metrics(candidates, tmp_path):
    verdict = case.run(candidates["good"], tmp_path)
    model = client().get_logged_model(verdict["model_id"])
    run = client().get_run(verdict["run_id"]).data.metrics
    found = {metric.key: metric.value for metric in model.metrics}
    assert {"accuracy", "f1", "n"} <= found.keys()
    assert found.items() <= run.items()


@pytest.mark.parametrize("by", ["another model", "a person"])
def test_a_replaced_champion_is_not_promoted_again(candidates, tmp_path, by):
    case.run(candidates["good"], tmp_path)
    case.run(candidates["better"], tmp_path)
    last, stays = ("good", 2) if by == "another model" else ("better", 1)
    if by == "a person":
        store = tracking.connect()
        with transitions.change_under_lock(store, "corner") as (lock, _):
            transitions.commit(lock, transitions.Change("rollback", 1, "ann", "it was better"), expected=2)
    verdict = case.run(candidates[last], tmp_path)
    assert (verdict["nothing_new"], verdict["promoted"], verdict["champion"]) == (True, False, stays)
    assert (versions(), champion()) == ([2, 1], stays)
    assert "does not restore a former champion" in verdict["reasons"][-1]


def test_a_changed_champion_stops_the_promotion_before_a_version_is_made(candidates, tmp_path, monkeypatch):
    case.run(candidates["good"], tmp_path)
    rollback = transitions.Change("rollback", None, "ann", "it failed in the field")
    decide_meanwhile(monkeypatch, registration, "log_model", rollback, expected=1)
    with pytest.raises(RegistryError, match="was version 1 when this model was judged and is version none now"):
        case.run(candidates["better"], tmp_path)
    assert (versions(), champion()) == ([1], None)
    verdict = case.run(candidates["better"], tmp_path)
    assert (verdict["version"], verdict["judged_against"], verdict["champion"]) == (2, None, 2)


def test_an_alias_moved_by_hand_is_an_error_until_it_is_repaired(candidates, tmp_path):
    case.run(candidates["good"], tmp_path)
    case.run(candidates["better"], tmp_path)
    client().set_registered_model_alias("corner", "champion", "1")
    with pytest.raises(RegistryError, match="the alias 'champion' of 'corner' is at version 1, by the ledger at 2"):
        case.run(candidates["good"], tmp_path)
    done = transitions.repair(tracking.connect(), "corner", actor="ann", reason="")
    assert done == ["'champion' moved from version 1 to 2"]
    assert case.run(candidates["good"], tmp_path)["champion"] == champion() == 2


def test_a_champion_older_than_the_ledger_becomes_its_first_entry(candidates, tmp_path):
    case.run(candidates["good"], tmp_path)
    for key in client().get_registered_model("corner").tags:
        client().delete_registered_model_tag("corner", key)
    client().delete_model_version_tag("corner", "1", LINEAGE)
    assert case.run(candidates["good"], tmp_path)["nothing_new"] is True
    assert case.run(candidates["better"], tmp_path)["judged_against"] == 1
    entries = [(entry.action, entry.version, entry.champion) for entry in ledger()]
    assert entries == [("adopt", 1, None), ("promote", 2, 1)]


def test_a_ledger_that_was_deleted_completely_is_missed(candidates, tmp_path):
    case.run(candidates["good"], tmp_path)
    for key in client().get_registered_model("corner").tags:
        client().delete_registered_model_tag("corner", key)
    with pytest.raises(RegistryError, match="every entry is missing, though version 1 is champion"):
        case.run(candidates["better"], tmp_path)
    with pytest.raises(RegistryError, match="--repair --reason WHY"):
        transitions.repair(tracking.connect(), "corner", actor="ann", reason="")
    transitions.repair(tracking.connect(), "corner", actor="ann", reason="they were deleted by mistake")
    assert case.run(candidates["better"], tmp_path)["judged_against"] == 1
    entries = [(entry.action, entry.version) for entry in ledger()]
    assert entries == [("acknowledge", None), ("adopt", 1), ("promote", 2)]


def test_a_deleted_champion_is_named_and_nothing_is_judged_without_it(candidates, tmp_path):
    case.run(candidates["good"], tmp_path)
    client().delete_model_version("corner", "1")
    with pytest.raises(RegistryError, match=r"version 1, has been deleted in MLflow: .*rollback"):
        case.run(candidates["better"], tmp_path)


def test_register_does_not_promote_a_rejected_version(candidates, tmp_path):
    case.run(candidates["good"], tmp_path, REVIEW)
    with transitions.change_under_lock(tracking.connect(), "corner") as (lock, _):
        transitions.commit(lock, transitions.Change("reject", 1, "ann", "too slow"), expected=None)
    assert "challenger" not in client().get_registered_model("corner").aliases
    for params in (REVIEW, case.PARAMS):
        verdict = case.run(candidates["good"], tmp_path, params)
        assert (verdict["nothing_new"], verdict["alias"], verdict["champion"]) == (True, "rejected", None)
        assert "version 1 was rejected" in verdict["reasons"][-1]


def test_a_waiting_version_is_judged_again_when_the_champion_changes(candidates, tmp_path):
    case.run(candidates["good"], tmp_path, REVIEW)
    case.run(candidates["better"], tmp_path)
    verdict = case.run(candidates["good"], tmp_path, REVIEW)
    assert (verdict["nothing_new"], verdict["alias"], verdict["judged_against"]) == (False, "challenger", 2)
    version = client().get_model_version("corner", "1")
    assert version.tags[registry_client.JUDGED_AGAINST] == "2"
    assert [entry.action for entry in ledger()] == ["challenge", "promote"]
    assert case.run(candidates["good"], tmp_path, REVIEW)["nothing_new"] is True
