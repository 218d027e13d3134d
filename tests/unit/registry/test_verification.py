"""`twofold models verify`: every record of a version that was altered is named."""

import json
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest

from tests.support import judging_case, models_case
from tests.support import registration_case as case
from twofold.core.artifacts import file_sha256, read_json, write_json
from twofold.evaluation import predictions
from twofold.metrics.metric_intervals import metric_intervals
from twofold.promotion.gates import Minimum
from twofold.registry import verification
from twofold.registry.lineage import LINEAGE
from twofold.registry.recorded_evaluation import CHAMPION_PREDICTIONS
from twofold.tracking.registry_client import SEAL


def test_gates_that_were_changed_after_a_refusal_are_no_difference(mlflow_store, tmp_path, monkeypatch, capsys):
    case.hurry(monkeypatch)
    _, candidate = case.make_known(tmp_path)
    case.know_corner(monkeypatch)
    strict = case.PARAMS.model_copy(update={"gates": [Minimum(figure="accuracy", min=0.99)]})
    assert case.run(candidate, tmp_path, strict)["promoted"] is False
    assert case.run(candidate, tmp_path)["promoted"] is True
    status, text = models_case.runner(capsys)("verify", "champion", "--json")
    differing = [check for check in json.loads(text)["checks"] if check["verdict"] == "DIFFERS"]
    assert (status, differing) == (0, [])


def test_an_unchanged_version_is_as_recorded(models, models_made):
    status, text = models("verify", "champion", "--data", str(models_made[1]), "--json")
    found = json.loads(text)
    assert (status, found["version"], found["as_recorded"]) == (0, 2, True)
    verdicts = {check["name"]: check["verdict"] for check in found["checks"]}
    assert verdicts.pop("training") == "not checked"
    assert set(verdicts.values()) == {"as recorded"}
    expected = (
        "ledger, seal, sealed decision and base weights, answers, decision, test images, metrics in metrics.json, "
    )
    expected += "metrics in MLflow's run, intervals in metrics.json, parameters, lineage, gates of entry 2"
    assert set(expected.split(", ")) <= set(verdicts)


def test_a_run_with_the_many_metrics_of_an_earlier_version_is_as_recorded(models, models_store):
    run = models_store.client.get_model_version("corner", "2").run_id
    for name in ("slices.type.mono.accuracy", "intervals.accuracy.low", "train_head.validation_log_loss"):
        models_store.client.log_metric(run, name, 0.5)
    assert models("verify", "2")[0] == 0


def test_a_version_without_golden_samples_is_not_checked_on_them_and_this_is_no_difference(models):
    status, text = models("verify", "2")
    assert status == 0
    assert "not checked  answers: no images are sealed with it; name data that holds them with --data" in text


def find_file(store, path):
    """A file of the champion's run or of its sealed model."""
    version = store.client.get_model_version("corner", "2")

    def is_own(file):
        seal = file.parent / "seal.json"
        return version.run_id in str(file) or (seal.exists() and file_sha256(seal) == version.tags[SEAL])

    (found,) = [file for file in store.files.rglob(path) if is_own(file)]
    return found


def edit_json(store, path, **values):
    file = find_file(store, path)
    write_json(file, read_json(file) | values)


def set_tag(store, key, value):
    store.client.set_model_version_tag("corner", "2", key, value)


def edit_lineage(store, change):
    values = json.loads(store.client.get_model_version("corner", "2").tags[LINEAGE])
    change(values)
    set_tag(store, LINEAGE, json.dumps(values))


def edit_weights(store):
    path = find_file(store, "sealed/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def edit_predictions(store, row=-1):
    path = find_file(store, "evaluation/predictions.parquet")
    found = predictions.read(path)
    found.probability[row] = 0.999
    predictions.write(path, found)


def champion_file(store):
    """What version 2's run has logged of version 1."""
    run_id, _, sha256 = store.client.get_model_version("corner", "2").tags[f"{CHAMPION_PREDICTIONS}1"].partition("/")
    return find_file(store, f"{run_id}/artifacts/champions/{sha256}.parquet")


def edit_champion(store):
    path = champion_file(store)
    found = predictions.read(path)
    found.probability[0] += 1e-6
    predictions.write(path, found)


def edit_gates(store):
    tags = store.client.get_model_version("corner", "2").tags
    (key,) = [key for key in tags if key.startswith("twofold.gates.")]
    set_tag(store, key, tags[key].replace('"limit":0.7', '"limit":0.6'))


def edit_metric_of_run(store):
    with closing(sqlite3.connect(store.uri.removeprefix("sqlite:///"))) as base, base:
        base.execute("UPDATE latest_metrics SET value = 0.99 WHERE key = 'accuracy'")


def edit_entry(store):
    tags = store.client.get_registered_model("corner").tags
    (key,) = [key for key in tags if ".000001." in key]
    store.client.set_registered_model_tag("corner", key, tags[key].replace("promote", "rollback"))


def edit_interval(store):
    intervals = read_json(find_file(store, METRICS))["intervals"]
    intervals["accuracy"]["low"] = 0.7
    edit_json(store, METRICS, intervals=intervals)


METRICS = "evaluation/metrics.json"
IN_METRICS = "metrics in metrics.json"
# By what is altered: how, the check that finds it, and words of the difference.
ALTERED = {
    "weights": (edit_weights, "seal", "altered"),
    "the seal's tag": (lambda s: set_tag(s, SEAL, "0" * 64), "seal", "altered"),
    "decision": (lambda s: edit_json(s, "evaluation/decision.json", threshold=0.9), "decision", "recorded is"),
    "metrics": (lambda s: edit_json(s, METRICS, f1=0.9), IN_METRICS, "f1 is 0.9"),
    "counts": (lambda s: edit_json(s, METRICS, n=8), IN_METRICS, "n is 8"),
    "calibration": (lambda s: edit_json(s, METRICS, platt_slope=2.0), IN_METRICS, "platt_slope is 2.0"),
    "intervals": (edit_interval, "intervals in metrics.json", "accuracy is"),
    "predictions": (edit_predictions, "predictions", "SHA-256 is"),
    "a champion's predictions": (edit_champion, "predictions of version 1", "SHA-256 is"),
    "a champion's digest": (
        lambda s: set_tag(s, f"{CHAMPION_PREDICTIONS}1", f"{champion_file(s).parents[2].name}/{'0' * 64}"),
        "test",
        "champions/0000",
    ),
    "a champion's file": (lambda s: champion_file(s).unlink(), "test", "cannot be fetched"),
    "test": (lambda s: edit_predictions(s, 0), IN_METRICS, "the logged predictions give"),
    "another metric": (lambda s: edit_json(s, METRICS, ece_uncalibrated=0.0), "metrics", "SHA-256 is"),
    "a metric of the run": (edit_metric_of_run, "metrics in MLflow's run", "accuracy is 0.99"),
    "parameters": (
        lambda s: edit_lineage(s, lambda values: values["params"]["evaluate"].update(views=8)),
        "parameters",
        "evaluate.views is '8', in the run '1'",
    ),
    "data": (lambda s: set_tag(s, "twofold.data_fingerprint", "0" * 64), "lineage", "data_fingerprint is"),
    "model": (lambda s: set_tag(s, "twofold.model_digest", "0" * 64), "model in the decision", "digest is"),
    "test images": (lambda s: set_tag(s, "twofold.test_fingerprint", "0" * 64), "test images", "fingerprint is"),
    "base weights": (
        lambda s: edit_lineage(s, lambda values: values.update(base_sha256="0" * 64)),
        "sealed decision and base weights",
        "base weights are bbb",
    ),
    "sealed decision": (
        lambda s: set_tag(s, "twofold.decision_digest", "0" * 64),
        "sealed decision and base weights",
        "the sealed decision's SHA-256 is",
    ),
    "gates": (edit_gates, "gates of entry 2", "they were changed"),
    "ledger": (edit_entry, "ledger", "entry 1 was changed"),
    "alias": (
        lambda s: s.client.set_registered_model_alias("corner", "champion", "1"),
        "ledger",
        "at version 1, by the ledger at 2",
    ),
    "run": (lambda s: find_file(s, "evaluation/predictions.parquet").unlink(), "test", "cannot be fetched"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_an_altered_record_is_named(models, models_store, models_made, what):
    alter, name, words = ALTERED[what]
    alter(models_store)
    status, text = models("verify", "2", "--data", str(models_made[1]), "--json")
    differing = {check["name"]: check for check in json.loads(text)["checks"] if check["verdict"] == "DIFFERS"}
    assert (status, name in differing) == (1, True), differing
    assert words in "".join(differing[name]["differences"])
    assert f"DIFFERS      {name}" in models("verify", "2")[1]


def test_a_version_with_contradictory_records_is_not_promoted(models, models_store):
    assert models("rollback", "1", "--unasked", *models_case.WHY)[0] == 0
    edit_predictions(models_store)
    status, text = models("approve", "2", *models_case.WHY)
    expected = (
        "the records of version 2 contradict each other, and nothing is promoted on them: predictions: SHA-256 is"
    )
    assert (status, expected in text) == (1, True)
    assert models_case.aliases(models_store)["champion"] == 1


def test_intervals_that_an_earlier_version_has_computed_in_another_way_are_no_difference():
    test = judging_case.predictions([0, 1] * 20, [0.2, 0.9] * 20)
    now = metric_intervals(test.target, test.probability, 0.5)
    moved = now | {"accuracy": {"low": 0.8, "high": 1.0, "method": "wilson_or_exact"}}
    earlier = {"accuracy": {"low": 0.8, "high": 1.0, "method": "wilson"}}  # and none of F1
    found = [
        verification._compare_intervals(SimpleNamespace(test=test, threshold=0.5, metrics={"intervals": intervals}))
        for intervals in (now, earlier, moved)
    ]
    assert found[:2] == [[], []]
    assert [line.split()[0] for line in found[2]] == ["accuracy"]
