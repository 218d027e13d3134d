"""`twofold models verify`: everything that was recorded of a version, altered one at a time, is named."""

import json
import sqlite3

import pytest

from tests.support import models_case
from tests.support import registration_case as case
from twofold.core.artifacts import read_json, write_json
from twofold.promotion.gates import Minimum
from twofold.registry.lineage import LINEAGE
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


def test_a_version_that_nobody_touched_is_as_recorded(models, models_made):
    status, text = models("verify", "champion", "--data", str(models_made[1]), "--json")
    found = json.loads(text)
    assert (status, found["version"], found["as_recorded"]) == (0, 2, True)
    verdicts = {check["name"]: check["verdict"] for check in found["checks"]}
    assert verdicts.pop("training") == "not checked"
    assert set(verdicts.values()) == {"as recorded"}
    assert {
        "ledger",
        "seal",
        "sealed decision and base weights",
        "answers",
        "decision",
        "test images",
        "figures in metrics.json",
        "figures in MLflow's run",
        "intervals in metrics.json",
        "parameters",
        "lineage",
        "gates of entry 2",
    } <= set(verdicts)


def test_without_images_to_ask_about_it_says_so_and_is_no_difference(models):
    status, text = models("verify", "2")
    assert status == 0
    assert "not checked  answers: no images are sealed with it; name data that holds them with --data" in text


def the(store, path):
    """A file of the champion's run or of its sealed model."""
    version = store.client.get_model_version("corner", "2")
    where = store.files.rglob(path) if store.files else []
    (found,) = [each for each in where if version.run_id in str(each) or _sealed(each, version)]
    return found


def _sealed(path, version):
    from twofold.core.artifacts import file_sha256

    seal = path.parent / "seal.json"
    return seal.exists() and file_sha256(seal) == version.tags[SEAL]


def edit(path, **values):
    write_json(path, read_json(path) | values)


def tag(store, key, value):
    store.client.set_model_version_tag("corner", "2", key, value)


def lineage(store, change):
    values = json.loads(store.client.get_model_version("corner", "2").tags[LINEAGE])
    change(values)
    tag(store, LINEAGE, json.dumps(values))


def weights(store):
    path = the(store, "sealed/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def predictions(store, row=-1):
    from twofold.evaluation import predictions as table

    path = the(store, "evaluation/predictions.parquet")
    found = table.read(path)
    found.probability[row] = 0.999
    table.write(path, found)


def gates(store):
    (key,) = [key for key in store.client.get_model_version("corner", "2").tags if key.startswith("twofold.gates.")]
    text = store.client.get_model_version("corner", "2").tags[key]
    tag(store, key, text.replace('"limit":0.7', '"limit":0.6'))


def figure_in_the_run(store):
    with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as base:
        base.execute("UPDATE latest_metrics SET value = 0.99 WHERE key = 'accuracy'")


def entry(store):
    tags = store.client.get_registered_model("corner").tags
    (key,) = [key for key in tags if ".000001." in key]
    store.client.set_registered_model_tag("corner", key, tags[key].replace("promote", "rollback"))


def intervals(store):
    path = the(store, "evaluation/metrics.json")
    found = read_json(path)
    found["intervals"]["accuracy"]["low"] = 0.7
    write_json(path, found)


ALTERED = {
    "weights": (weights, "seal", "altered"),
    "the seal's tag": (lambda store: tag(store, SEAL, "0" * 64), "seal", "altered"),
    "decision": (lambda s: edit(the(s, "evaluation/decision.json"), threshold=0.9), "decision", "recorded is"),
    "figures": (lambda s: edit(the(s, "evaluation/metrics.json"), f1=0.9), "figures in metrics.json", "f1 is 0.9"),
    "counts": (lambda s: edit(the(s, "evaluation/metrics.json"), n=8), "figures in metrics.json", "n is 8"),
    "temperature": (
        lambda s: edit(the(s, "evaluation/metrics.json"), temperature=2.0),
        "figures in metrics.json",
        "temperature is 2.0",
    ),
    "intervals": (intervals, "intervals in metrics.json", "accuracy is"),
    "predictions": (predictions, "predictions", "SHA-256 is"),
    "test": (lambda s: predictions(s, 0), "figures in metrics.json", "the logged predictions give"),
    "another figure": (
        lambda s: edit(the(s, "evaluation/metrics.json"), ece_uncalibrated=0.0),
        "metrics",
        "SHA-256 is",
    ),
    "a figure of the run": (figure_in_the_run, "figures in MLflow's run", "accuracy is 0.99"),
    "parameters": (
        lambda s: lineage(s, lambda values: values["params"]["evaluate"].update(views=8)),
        "parameters",
        "evaluate.views is '8', in the run '1'",
    ),
    "data": (
        lambda s: tag(s, "twofold.data_fingerprint", "0" * 64),
        "lineage",
        "data_fingerprint is",
    ),
    "model": (lambda s: tag(s, "twofold.model_digest", "0" * 64), "model in the decision", "digest is"),
    "test images": (lambda s: tag(s, "twofold.test_fingerprint", "0" * 64), "test images", "fingerprint is"),
    "base weights": (
        lambda s: lineage(s, lambda values: values.update(base_sha256="0" * 64)),
        "sealed decision and base weights",
        "base weights are bbb",
    ),
    "gates": (gates, "gates of entry 2", "they were changed"),
    "ledger": (entry, "ledger", "entry 1 was changed"),
    "alias": (
        lambda s: s.client.set_registered_model_alias("corner", "champion", "1"),
        "ledger",
        "at version 1, by the ledger at 2",
    ),
    "run": (lambda s: the(s, "evaluation/predictions.parquet").unlink(), "test", "cannot be fetched"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_what_was_altered_is_named(models, models_store, models_made, what):
    alter, name, words = ALTERED[what]
    alter(models_store)
    status, text = models("verify", "2", "--data", str(models_made[1]), "--json")
    differing = {check["name"]: check for check in json.loads(text)["checks"] if check["verdict"] == "DIFFERS"}
    assert (status, name in differing) == (1, True), differing
    assert words in "".join(differing[name]["differences"])
    text = models("verify", "2")[1]
    assert f"DIFFERS      {name}" in text


def test_what_does_not_fit_together_is_not_promoted(models, models_store):
    assert models("rollback", "1", "--unasked", *models_case.WHY)[0] == 0
    predictions(models_store)
    status, text = models("approve", "2", *models_case.WHY)
    assert status == 1
    assert (
        "what is recorded of version 2 does not fit together, and nothing is promoted on it: predictions: SHA-256 is"
        in text
    )
    assert models_case.aliases(models_store)["champion"] == 1
