"""The values of `twofold models`, from a real MLflow store."""

import math
from dataclasses import replace

import pytest

from twofold.core.errors import RegistryError
from twofold.registry import version_catalog
from twofold.registry.version_catalog import open_catalog
from twofold.tracking.registry_client import CONDITIONS, FIGURES, KEY


def test_a_list_has_the_latest_version_first_with_its_origin(models_store):
    found = version_catalog.list_versions(open_catalog("corner", models_store))
    assert [(each["version"], each["standing"]) for each in found] == [
        (3, "challenger"),
        (2, "champion"),
        (1, "was champion"),
    ]
    for each in found:
        assert set(each["figures"]) == set(version_catalog.HEADLINE)
        assert each["n"] == 7
        assert len(each["commit"]) == 40
        assert len(each["data_fingerprint"]) == 64


def test_a_list_asks_a_few_questions_however_many_versions_there_are(models_store):
    client = models_store.client
    for version in client.search_model_versions("name = 'corner'"):
        if int(version.version) > 1:  # those of an earlier Twofold have no tag
            client.delete_model_version_tag("corner", version.version, FIGURES)
    expected = version_catalog.list_versions(open_catalog("corner", models_store))
    for number in (2, 3):
        run_id, tags = client.get_model_version("corner", str(number)).run_id, {KEY: f"k{number}"}
        for _ in range(20):
            client.create_model_version("corner", "s3://nowhere/m", run_id, tags)
    calls = []

    class Counting:
        def __getattr__(self, name):
            calls.append(name)
            return getattr(client, name)

    found = version_catalog.list_versions(open_catalog("corner", replace(models_store, client=Counting())))
    assert (found[40:], {tuple(each["figures"]) for each in found}) == (expected, {version_catalog.HEADLINE})
    assert len(calls) <= 5, calls


def test_the_main_metrics_are_the_numbers_among_the_metrics():
    values = {"accuracy": 1, "f1": math.nan, "roc_auc": "0.9", "n": 7, "brier": 0.1}
    assert version_catalog.main_metrics(values) == {"accuracy": 1.0, "n": 7.0}


def test_a_version_has_its_gates_metrics_decisions_and_links(models_store):
    found = version_catalog.describe(open_catalog("corner", models_store), "champion")
    run = models_store.client.get_model_version("corner", "2").run_id
    experiment = models_store.client.get_run(run).info.experiment_id
    assert (found["version"], found["judged_against"], len(found["gates"])) == (2, "1", 2)
    assert {"accuracy", "threshold", "n"} <= set(found["figures"])
    assert [entry["version"] for entry in found["decisions"]] == [2]
    assert found["links"] == {
        "version": "http://127.0.0.1:5000/#/models/corner/versions/2?workflowType=machine_learning",
        "run": f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning",
        "decision page": f"registration/decision.html of run {run}",
        "report": f"evaluation/evaluation.html of run {run}",
        "model": "models:/corner/2",
        "server": f"`mlflow ui --backend-store-uri {models_store.uri}` starts it",
    }
    assert version_catalog.describe(open_catalog("corner", models_store), "1")["judged_against"] is None


def test_a_changed_record_of_conditions_is_an_error(models_store):
    models_store.client.set_model_version_tag("corner", "2", CONDITIONS, "{")
    with pytest.raises(RegistryError, match=r"version 2: its tag .+ is not JSON"):
        version_catalog.describe(open_catalog("corner", models_store), "2")


def test_a_comparison_holds_what_differs_and_nothing_else(models_store):
    found = version_catalog.compare(open_catalog("corner", models_store), "1", "champion")
    assert (found["versions"], found["standings"]) == ([1, 2], ["was champion", "champion"])
    assert found["same_test"]
    assert [each["n"] for each in found["own_tests"]] == [7, 7]
    assert all(one != other for one, other in found["made_differently"].values())
    assert found["made_differently"]["params.finetune_all.seed"] == [8.0, 9.0]


def test_a_history_has_the_aliases_and_what_is_wrong(models_store):
    found = version_catalog.history(open_catalog("corner", models_store))
    assert (found["aliases"], found["unfinished"]) == ({"champion": 2, "challenger": 3}, False)
    assert (len(found["entries"]), found["void"], found["problems"], found["acknowledged"]) == (3, [], [], [])
