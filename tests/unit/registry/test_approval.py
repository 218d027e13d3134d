"""`twofold models approve`, `reject` and `rollback` on a real MLflow store: what they change and what they refuse."""

import json

import pytest

from tests.support import models_case
from tests.support import registration_case as case
from tests.support.models_case import WHY, aliases, decide_meanwhile, entries
from twofold.core.artifacts import file_sha256
from twofold.evaluation import predictions
from twofold.metrics.platt_scaling import PlattScaling
from twofold.registry import approval, transitions
from twofold.registry.recorded_evaluation import CHAMPION_PREDICTIONS
from twofold.registry.transitions import Change
from twofold.tracking import registry_client
from twofold.tracking import store as tracking


def test_approve_evaluates_the_gates_and_records_actor_and_reason(models, models_store):
    status, text = models("approve", "--json", *WHY)
    found = json.loads(text)
    assert (status, found["promoted"], found["version"]) == (0, True, 3)
    assert [(gate["passed"], gate["against"]) for gate in found["gates"]] == [(True, None), (True, "2"), (True, "1")]
    assert found["comparison"]["version"] == 2
    assert aliases(models_store) == {"champion": 3}
    assert entries(models_store)[-1] == ("promote", 3, 2, "ann", "because")
    version = models_store.client.get_model_version("corner", "3")
    assert version.tags[registry_client.JUDGED_AGAINST] == "2"
    assert json.loads(version.tags["twofold.best"])["accuracy"] == "1", "it was not proven to be better"
    status, text = models("approve", "3", *WHY)
    assert (status, "version 3 of 'corner' is the champion already" in text) == (1, True)


def test_approve_compares_a_version_with_the_current_champion(models, models_store):
    assert models("rollback", "1", "--unasked", *WHY)[0] == 0
    assert models("approve", "challenger", *WHY)[0] == 0
    assert entries(models_store)[-1][:3] == ("promote", 3, 1)
    assert models_store.client.get_model_version("corner", "3").tags[registry_client.JUDGED_AGAINST] == "1"
    assert "judged again; held against version 1; candidate " in models("history")[1]


def test_approve_names_the_gate_that_is_not_passed_and_changes_nothing(models, models_store):
    gates = [{"figure": "accuracy", "min": 0.7}, {"figure": "roc_auc", "non_inferior_by": 0.1}]
    conditions = json.dumps({"gates": gates, "reference_since": 1})
    models_store.client.set_model_version_tag("corner", "3", registry_client.CONDITIONS, conditions)
    status, text = models("approve", *WHY)
    assert status == 1
    assert "FAILED          roc_auc worse than the champion by less than 0.1" in text
    assert "not promoted:" in text
    assert aliases(models_store) == {"champion": 2, "challenger": 3}
    assert len(entries(models_store)) == 3


@pytest.mark.parametrize("words", [("approve", "3"), ("rollback", "1", "--unasked")])
def test_a_champion_that_changes_meanwhile_stops_the_decision(models, models_store, monkeypatch, words):
    decide_meanwhile(monkeypatch, approval, "open_sealed", Change("rollback", None, "bob", "it failed"), expected=2)
    status, text = models(*words, *WHY)
    assert (status, "was version 2 when this model was judged and is version none now" in text) == (1, True)
    assert entries(models_store)[-1] == ("rollback", None, 2, "bob", "it failed")
    assert "champion" not in aliases(models_store)


@pytest.mark.parametrize("command", ["approve", "reject", "rollback"])
def test_a_decision_needs_a_reason(models, models_store, command):
    assert models(command)[0] == 2
    status, text = models(command, "--reason", " ", "--actor", "ann", *(["1", "--unasked"] * (command == "rollback")))
    assert (status, "reason: must be 1 to 2000 characters" in text) == (1, True)
    assert (aliases(models_store), len(entries(models_store))) == ({"champion": 2, "challenger": 3}, 3)


def test_reject_removes_the_challenger_and_refuses_the_champion(models, models_store):
    status, text = models("reject", *WHY)
    assert (status, "version 3 of 'corner' is rejected" in text) == (0, True)
    assert (aliases(models_store), entries(models_store)[-1]) == ({"champion": 2}, ("reject", 3, 2, "ann", "because"))
    assert json.loads(models("list", "--json")[1])[0]["standing"] == "rejected"
    status, text = models("reject", *WHY)
    assert (status, "has no version 'challenger'" in text) == (1, True)
    status, text = models("reject", "champion", *WHY)
    assert (status, "is the champion; use `twofold models rollback` instead" in text) == (1, True)


def test_a_version_that_was_approved_meanwhile_is_not_rejected(models, models_store, monkeypatch):
    decide_meanwhile(monkeypatch, transitions, "sound_ledger", Change("promote", 3, "bob", "it is good"), expected=2)
    status, text = models("reject", *WHY)
    assert (status, "is version 3 now; someone else has changed it" in text) == (1, True)
    assert (aliases(models_store), entries(models_store)[-1][:2]) == ({"champion": 3}, ("promote", 3))


@pytest.mark.parametrize(
    ("command", "other"),
    [("approve", Change("reject", 3, "bob", "too slow")), ("reject", Change("challenge", 3, "bob", "again"))],
)
def test_a_version_that_someone_decides_on_meanwhile_is_not_decided_on(
    models, models_store, monkeypatch, command, other
):
    decide_meanwhile(monkeypatch, transitions, "sound_ledger", other, expected=2)
    status, text = models(command, "3", *WHY)
    expected = f"version 3 of 'corner' has been decided on meanwhile: {other.action} by bob ({other.reason})"
    assert (status, expected in text) == (1, True)
    assert entries(models_store)[-1][:2] == (other.action, 3)
    assert models(command, "3", *WHY)[0] == 0


def test_a_challenger_that_was_deleted_in_mlflow_can_be_rejected(models, models_store):
    models_store.client.delete_model_version("corner", "3")
    assert models("reject", "3", *WHY)[0] == 0
    assert entries(models_store)[-1][:2] == ("reject", 3)


def test_rollback_checks_the_golden_samples_first(models, models_store, models_made):
    status, text = models("rollback", *WHY)
    assert status == 1
    assert "no golden samples are sealed with it, only the SHA-256 of 7 are (evaluate.pictures is false)" in text
    assert aliases(models_store)["champion"] == 2
    status, text = models("rollback", "--data", str(models_made[1]), *WHY)
    assert status == 0
    assert "asked about 7 of the 7 images sealed with it" in text
    assert (aliases(models_store)["champion"], entries(models_store)[-1]) == (1, ("rollback", 1, 2, "ann", "because"))


def test_rollback_without_golden_samples_is_possible_and_recorded(models):
    status, text = models("rollback", "1", "--unasked", *WHY)
    assert (status, "it was asked about no image, by --unasked" in text) == (0, True)
    assert "[its seal and files were checked; it was asked about no image, by --unasked]" in " ".join(
        models("history")[1].split()
    )


def test_rollback_to_no_model_and_back(models, models_store):
    assert models("rollback", "none", *WHY)[0] == 0
    assert aliases(models_store) == {"challenger": 3}
    status, text = models("rollback", "none", *WHY)
    assert (status, "has no champion: there is nothing to roll back" in text) == (1, True)
    assert models("rollback", "--unasked", *WHY)[0] == 0
    assert aliases(models_store)["champion"] == 2


def test_rollback_refuses_a_version_that_was_never_champion_and_the_champion(models):
    status, text = models("rollback", "3", *WHY)
    assert status == 1
    assert "version 3 of 'corner' was never its champion (former champions: 1)" in text
    status, text = models("rollback", "2", *WHY)
    assert (status, "is the champion already" in text) == (1, True)


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_rollback_refuses_a_version_whose_files_are_not_the_sealed_ones(models, models_store, models_made, damage):
    seal = models_store.client.get_model_version("corner", "1").tags[registry_client.SEAL]
    (folder,) = [path for path in models_made[0].rglob("artifacts/sealed") if file_sha256(path / "seal.json") == seal]
    weights = folder / "model.safetensors"
    if damage == "gone":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    status, text = models("rollback", "1", "--data", str(models_made[1]), *WHY)
    assert (status, "version 1 cannot be made champion again" in text) == (1, True)
    assert (aliases(models_store)["champion"], len(entries(models_store))) == (2, 3)


def test_rollback_refuses_a_version_whose_predictions_have_changed(models, models_store, models_made, monkeypatch):
    calibrate = PlattScaling.calibrate
    monkeypatch.setattr(PlattScaling, "calibrate", lambda scaling, found: calibrate(scaling, found) * 0.999)
    status, text = models("rollback", "1", "--data", str(models_made[1]), *WHY)
    assert (status, "its probabilities differ by up to 0.00" in text) == (1, True)
    assert aliases(models_store)["champion"] == 2


def test_approve_comes_to_the_same_verdict_as_register(models):
    registered = json.loads(models("show", "3", "--json")[1])["gates"]
    again = json.loads(models("approve", "--json", *WHY)[1])["gates"]
    assert len(again) == len(registered) == 3
    for one, other in zip(registered, again, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert other[key] == (pytest.approx(value, abs=1e-6) if isinstance(value, float) else value), key


def test_approve_after_the_test_has_grown(mlflow_store, tmp_path, monkeypatch, capsys):
    case.hurry(monkeypatch)
    _, before = case.make_known(tmp_path)
    grown = case.make_data(tmp_path / "grown", [("test", 70, False), ("test", 230, True)])
    candidate, models = case.make_candidate(tmp_path / "9", grown, 9.0), models_case.runner(capsys)
    case.run(before, tmp_path)
    registered = case.run(candidate, tmp_path, models_case.REVIEW)
    assert (registered["version"], registered["alias"], registered["comparison"]["n"]) == (2, "challenger", 9)
    # A version that an earlier Twofold has registered: register logs what is missing, and moves nothing.
    store, tag = tracking.connect(), f"{CHAMPION_PREDICTIONS}1"
    store.client.delete_model_version_tag("corner", "2", tag)
    status, text = models("approve", *WHY)
    assert (status, "2 were not in the test of version 1" in text, "run register again" in text) == (1, True, True)
    assert case.run(candidate, tmp_path, models_case.REVIEW)["version"] == 2
    assert (len(entries(store)), case.run(candidate, tmp_path, models_case.REVIEW)["nothing_new"]) == (2, True)
    status, text = models("approve", "--json", *WHY)
    assert (status, aliases(store), json.loads(text)["gates"]) == (0, {"champion": 2}, registered["gates"])
    assert models("verify", "champion")[0] == 0


def test_approve_refuses_a_version_whose_record_of_the_champion_was_changed(models, models_store):
    run_id, _, sha256 = (
        models_store.client.get_model_version("corner", "3").tags[f"{CHAMPION_PREDICTIONS}2"].partition("/")
    )
    (path,) = models_store.files.rglob(f"{run_id}/artifacts/champions/{sha256}.parquet")
    found = predictions.read(path)
    found.probability[:] = 0.5
    predictions.write(path, found)
    status, text = models("approve", *WHY)
    expected = (
        "the records of version 3 contradict each other, and nothing is promoted on them: predictions of version 2"
    )
    assert (status, expected in text, aliases(models_store)["champion"]) == (1, True, 2)
