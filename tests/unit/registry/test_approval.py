"""`twofold models approve`, `reject` and `rollback` on a real MLflow store: what they move and what they refuse."""

import json

import pytest

from tests.support.models_case import WHY, aliases, entries
from twofold.registry import approval, transitions
from twofold.tracking import registry_client


def tag(store, version, key, value):
    store.client.set_model_version_tag("corner", version, key, value)


def test_approve_promotes_with_who_when_and_why_after_judging_again(models, models_store):
    status, text = models("approve", "--json", *WHY)
    found = json.loads(text)
    assert (status, found["promoted"], found["version"]) == (0, True, 3)
    assert [gate["passed"] for gate in found["gates"]] == [True, True]
    assert found["comparison"]["version"] == 2
    assert aliases(models_store) == {"champion": 3}
    assert entries(models_store)[-1] == ("promote", 3, 2, "ann", "because")
    version = models_store.client.get_model_version("corner", "3")
    assert version.tags[registry_client.JUDGED_AGAINST] == "2"
    assert json.loads(version.tags["twofold.best"]) == {}
    status, text = models("approve", "3", *WHY)
    assert (status, "version 3 of 'corner' is the champion already" in text) == (1, True)


def test_approve_holds_a_version_against_the_champion_of_the_moment(models, models_store):
    assert models("rollback", "1", "--unasked", *WHY)[0] == 0
    assert models("approve", "challenger", *WHY)[0] == 0
    assert entries(models_store)[-1][:3] == ("promote", 3, 1)
    assert models_store.client.get_model_version("corner", "3").tags[registry_client.JUDGED_AGAINST] == "1"


def test_approve_says_which_gate_is_not_passed_and_moves_nothing(models, models_store):
    gates = [{"figure": "accuracy", "min": 0.7}, {"figure": "roc_auc", "non_inferior_by": 0.1}]
    tag(models_store, "3", registry_client.CONDITIONS, json.dumps({"gates": gates, "reference_since": 1}))
    status, text = models("approve", *WHY)
    assert status == 1
    assert "FAILED          roc_auc worse than the champion by less than 0.1" in text
    assert "not promoted:" in text
    assert aliases(models_store) == {"champion": 2, "challenger": 3}
    assert len(entries(models_store)) == 3


@pytest.mark.parametrize("words", [("approve", "3"), ("rollback", "1", "--unasked")])
def test_a_champion_that_moved_while_it_was_decided_stops_the_decision(models, models_store, monkeypatch, words):
    opened = approval.open_sealed

    def open_while_someone_acts(*rest):
        with monkeypatch.context() as patch:
            patch.setattr(approval, "open_sealed", opened)
            with transitions.change_under_lock(models_store, "corner") as (held, _):
                transitions.commit(held, transitions.Change("rollback", None, "bob", "it failed"), expected=2)
        return opened(*rest)

    monkeypatch.setattr(approval, "open_sealed", open_while_someone_acts)
    status, text = models(*words, *WHY)
    assert (status, "was version 2 when this model was judged and is version none now" in text) == (1, True)
    assert entries(models_store)[-1] == ("rollback", None, 2, "bob", "it failed")
    assert "champion" not in aliases(models_store)


@pytest.mark.parametrize("command", ["approve", "reject", "rollback"])
def test_a_decision_needs_a_reason(models, models_store, command):
    assert models(command)[0] == 2
    status, text = models(command, "--reason", " ", "--actor", "ann", *(["1", "--unasked"] * (command == "rollback")))
    assert (status, "reason: must be 1 to 2000 characters and not blank" in text) == (1, True)
    assert (aliases(models_store), len(entries(models_store))) == ({"champion": 2, "challenger": 3}, 3)


def test_reject_takes_the_challenger_off_and_is_not_for_the_champion(models, models_store):
    status, text = models("reject", *WHY)
    assert (status, "version 3 of 'corner' is rejected" in text) == (0, True)
    assert (aliases(models_store), entries(models_store)[-1]) == ({"champion": 2}, ("reject", 3, 2, "ann", "because"))
    assert json.loads(models("list", "--json")[1])[0]["standing"] == "rejected"
    status, text = models("reject", *WHY)
    assert (status, "has no version 'challenger'" in text) == (1, True)
    status, text = models("reject", "champion", *WHY)
    assert (status, "take it back with `twofold models rollback`" in text) == (1, True)


def test_a_version_that_was_approved_in_the_meantime_is_not_rejected(models, models_store, monkeypatch):
    look = transitions.sound_ledger

    def look_before_someone_approves(store_, name):
        found = look(store_, name)
        with transitions.change_under_lock(store_, name) as (held, _):
            transitions.commit(held, transitions.Change("promote", 3, "bob", "it is good"), expected=2)
        return found

    monkeypatch.setattr(transitions, "sound_ledger", look_before_someone_approves)
    status, text = models("reject", *WHY)
    assert (status, "is version 3 now; someone else has changed it" in text) == (1, True)
    assert (aliases(models_store), entries(models_store)[-1][:2]) == ({"champion": 3}, ("promote", 3))


@pytest.mark.parametrize("mine", ["approve", "reject"])
def test_what_someone_else_has_decided_in_the_meantime_is_not_decided_over(models, models_store, monkeypatch, mine):
    look = transitions.sound_ledger
    theirs = {
        "approve": transitions.Change("reject", 3, "bob", "too slow"),
        "reject": transitions.Change("challenge", 3, "bob", "again"),
    }

    def look_before_someone_decides(store_, name):
        found = look(store_, name)
        with monkeypatch.context() as patch:
            patch.setattr(transitions, "sound_ledger", look)
            with transitions.change_under_lock(store_, name) as (held, _):
                transitions.commit(held, theirs[mine], expected=2)
        return found

    monkeypatch.setattr(transitions, "sound_ledger", look_before_someone_decides)
    status, text = models(mine, "3", *WHY)
    said = f"version 3 of 'corner' has been decided on meanwhile: {theirs[mine].action} by bob ({theirs[mine].reason})"
    assert (status, said in text) == (1, True)
    assert entries(models_store)[-1][:2] == (theirs[mine].action, 3)
    monkeypatch.setattr(transitions, "sound_ledger", look)
    assert models(mine, "3", *WHY)[0] == 0


def test_a_challenger_that_was_deleted_in_mlflow_can_be_rejected(models, models_store):
    models_store.client.delete_model_version("corner", "3")
    assert models("reject", "3", *WHY)[0] == 0
    assert entries(models_store)[-1][:2] == ("reject", 3)


def test_rollback_asks_the_old_version_about_its_images_first(models, models_store, models_made):
    status, text = models("rollback", *WHY)
    assert status == 1
    assert "sealed without images to ask it about, only with the SHA-256 of 7 (evaluate.pictures is false)" in text
    assert aliases(models_store)["champion"] == 2
    status, text = models("rollback", "--data", str(models_made[1]), *WHY)
    assert status == 0
    assert "asked about 7 of the 7 images sealed with it" in text
    assert (aliases(models_store)["champion"], entries(models_store)[-1]) == (1, ("rollback", 1, 2, "ann", "because"))


def test_rollback_without_images_is_possible_and_on_record(models, models_store):
    status, text = models("rollback", "1", "--unasked", *WHY)
    assert (status, "it was asked about no image, by --unasked" in text) == (0, True)
    assert "[its seal and files were checked; it was asked about no image, by --unasked]" in models("history")[1]


def test_rollback_to_no_model_and_back(models, models_store):
    assert models("rollback", "none", *WHY)[0] == 0
    assert aliases(models_store) == {"challenger": 3}
    status, text = models("rollback", "none", *WHY)
    assert (status, "has no champion: there is nothing to take back" in text) == (1, True)
    assert models("rollback", "--unasked", *WHY)[0] == 0
    assert aliases(models_store)["champion"] == 2


def test_rollback_is_for_what_was_champion(models):
    status, text = models("rollback", "3", *WHY)
    assert status == 1
    assert "version 3 of 'corner' was never its champion (those were: 1)" in text
    status, text = models("rollback", "2", *WHY)
    assert (status, "is the champion already" in text) == (1, True)


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_version_whose_files_are_not_what_was_sealed_does_not_come_back(models, models_store, models_made, damage):
    where = models_store.client.get_model_version("corner", "1").tags[registry_client.SEAL]
    (folder,) = [path for path in models_made[0].rglob("artifacts/sealed") if sha256(path / "seal.json") == where]
    weights = folder / "model.safetensors"
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    status, text = models("rollback", "1", "--data", str(models_made[1]), *WHY)
    assert (status, "version 1 cannot be made champion again" in text) == (1, True)
    assert (aliases(models_store)["champion"], len(entries(models_store))) == (2, 3)


def sha256(path):
    from twofold.core.artifacts import file_sha256

    return file_sha256(path)


def test_a_version_that_says_something_else_than_it_did_does_not_come_back(
    models, models_store, models_made, monkeypatch
):
    from twofold.metrics import temperature_scaling

    monkeypatch.setattr(
        "twofold.serving.sealed_model.apply_temperature",
        lambda found, by: temperature_scaling.apply_temperature(found, by) * 0.999,
    )
    status, text = models("rollback", "1", "--data", str(models_made[1]), *WHY)
    assert (status, "its probabilities differ by up to 0.00" in text) == (1, True)
    assert aliases(models_store)["champion"] == 2


def test_approve_comes_to_the_very_verdict_of_register(models):
    registered = json.loads(models("show", "3", "--json")[1])["gates"]
    again = json.loads(models("approve", "--json", *WHY)[1])["gates"]
    assert len(again) == len(registered) == 2
    for one, other in zip(registered, again, strict=True):
        assert {key: value for key, value in one.items() if not isinstance(value, float)} == {
            key: value for key, value in other.items() if not isinstance(value, float)
        }
        numbers = {key: value for key, value in one.items() if isinstance(value, float)}
        assert {key: other[key] for key in numbers} == pytest.approx(numbers, abs=1e-6)
