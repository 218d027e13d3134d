"""The evaluation of a version as its run has logged it, and contradictions between its records."""

from dataclasses import replace

import pytest

from twofold.core.artifacts import file_sha256
from twofold.core.errors import RegistryError
from twofold.registry.recorded_evaluation import CHAMPION_PREDICTIONS, candidate_key, fetch_evaluation, find_differences


@pytest.fixture
def recorded(models_store, tmp_path):
    version = models_store.client.get_model_version("corner", "2")
    return fetch_evaluation(models_store, version, tmp_path)


def test_an_evaluation_is_fetched_whole(recorded):
    assert (recorded.number, len(recorded.test)) == (2, 7)
    assert recorded.run.info.run_id == recorded.version.run_id
    assert recorded.threshold == recorded.decision["threshold"]
    assert set(recorded.test.sha256) == recorded.splits["test"]
    assert {path.name for path in recorded.sealed.iterdir()} >= {"model.safetensors", "seal.json", "splits.json"}
    predictions = recorded.sealed.parents[1].rglob("predictions.parquet")
    assert recorded.digests["predictions"] in {file_sha256(path) for path in predictions}


def test_the_champions_predictions_are_on_the_compared_images_and_an_older_version_has_none(
    recorded, models_store, tmp_path
):
    (logged,) = recorded.champions.values()
    assert list(recorded.champions) == ["1"]
    champion = fetch_evaluation(models_store, models_store.client.get_model_version("corner", "1"), tmp_path)
    assert logged.sha256.tolist() == champion.test.sha256.tolist()
    assert logged.probability == pytest.approx(champion.test.probability, abs=1e-6)
    assert logged.predicted.tolist() == champion.test.predicted.tolist()
    assert champion.champions == {}, "there was no champion before it"
    models_store.client.delete_model_version_tag("corner", "2", f"{CHAMPION_PREDICTIONS}1")
    older = fetch_evaluation(models_store, models_store.client.get_model_version("corner", "2"), tmp_path / "older")
    assert (older.champions, any(find_differences(older).values())) == ({}, False)


def test_a_version_of_another_program_has_no_evaluation(models_store, tmp_path):
    models_store.client.create_model_version("corner", "file:///elsewhere")
    version = models_store.client.get_model_version("corner", "4")
    with pytest.raises(RegistryError, match="version 4 names no run"):
        fetch_evaluation(models_store, version, tmp_path)


def test_unchanged_records_agree(recorded):
    found = find_differences(recorded)
    assert set(found) == {
        "decision",
        "model in the decision",
        "test images",
        "key",
        "predictions",
        "predictions of version 1",
        "metrics",
        "metrics in metrics.json",
        "metrics in MLflow's run",
    }
    assert not any(found.values())


@pytest.mark.parametrize(
    ("metric", "changed"),
    [("accuracy", 0.99), ("accuracy", "0.9"), ("accuracy", None), ("n", 8), ("threshold", 0.1), ("platt_slope", 9.0)],
)
def test_a_changed_metric_is_named(recorded, metric, changed):
    found = find_differences(replace(recorded, metrics=recorded.metrics | {metric: changed}))
    (difference,) = found.pop("metrics in metrics.json")
    assert difference.startswith(f"{metric} is {changed}, the logged predictions give ")
    assert not any(found.values())


def test_a_metric_that_differs_by_rounding_alone_is_the_same(recorded):
    for metric, change in (("accuracy", 1e-12), ("threshold", -1e-12)):
        metrics = recorded.metrics | {metric: recorded.metrics[metric] + change}
        assert not any(find_differences(replace(recorded, metrics=metrics)).values())


def test_an_older_decision_without_calibration_is_compared_without_it(recorded):
    decision = {key: value for key, value in recorded.decision.items() if not key.startswith("platt_")}
    metrics = recorded.metrics | {"platt_intercept": 9.0}
    assert not any(find_differences(replace(recorded, decision=decision, metrics=metrics)).values())


def test_another_digest_than_the_recorded_one_is_named(recorded):
    decision = recorded.decision | {"model_digest": "x"}
    digests = {**recorded.digests, "predictions": "y"}
    found = find_differences(replace(recorded, decision=decision, digests=digests))
    model = recorded.version.tags["twofold.model_digest"]
    assert found.pop("model in the decision") == [f"digest is x, recorded is {model}"]
    assert found.pop("predictions")[0].startswith("SHA-256 is y, recorded is ")
    assert not any(found.values())


def test_the_key_depends_on_each_of_its_digests():
    tags = {f"twofold.{name}": name for name in ("model_digest", "decision_digest", "test_fingerprint")}
    assert len({candidate_key(tags), *(candidate_key(tags | {name: ""}) for name in tags), candidate_key({})}) == 5
