"""register, from its artifacts to MLflow: what is recorded, and which aliases move."""

import hashlib
import json

import pytest

from tests.support import registration_case as case
from tests.support.corner_store import champion, client, ledger, versions
from tests.support.kfp_server.mlflow_plugin import MlflowPlugin
from twofold.core.artifacts import read_json, write_json
from twofold.core.errors import ArtifactError, RegistryError
from twofold.promotion.gates import Maximum, Minimum
from twofold.registry import approval, registration, verdict_store
from twofold.tracking import registry_client
from twofold.tracking import store as tracking

REVIEW = case.PARAMS.model_copy(update={"promotion": "review"})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Candidates on the same data: two good ones, and one with inverted predictions."""
    root = tmp_path_factory.mktemp("candidates")
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        data = case.make_data(root)
        slopes = {"good": 8.0, "better": 9.0, "backwards": -8.0}
        return {name: case.make_candidate(root / name, data, slope) for name, slope in slopes.items()}


@pytest.fixture(autouse=True)
def smoke_tests(monkeypatch, mlflow_store):
    return case.hurry(monkeypatch)


def test_a_model_that_passes_becomes_version_1_and_champion(made, tmp_path, smoke_tests):
    verdict = case.run(made["good"], tmp_path)
    assert (verdict["registered"], verdict["promoted"], verdict["nothing_new"]) == (True, True, False)
    assert (verdict["version"], verdict["champion"], verdict["judged_against"]) == (1, 1, None)
    assert [(gate["figure"], gate["value"], gate["applies"], gate["passed"]) for gate in verdict["gates"]] == [
        ("accuracy", 5 / 7, True, True),
        ("roc_auc", 10 / 12, False, True),
    ]
    assert champion() == 1
    index = (tmp_path / "index.html").read_text()
    assert 'href="registration/decision.html"' in index
    assert "promoted version 1" in index
    assert verdict["decided"]["by"] in index.replace("&lt;", "<").replace("&gt;", ">")
    assert smoke_tests == [7]  # all test images, there being fewer than 16
    version = client().get_model_version("corner", "1")
    card = (tmp_path / "registration" / "model_card.md").read_text()
    assert version.description == registry_client.version_description(card)
    assert "## Gates" in version.description
    assert version.tags[registry_client.SEAL] == verdict["seal"]
    (entry,) = ledger()
    assert (entry.action, entry.version, entry.champion, entry.report) == ("promote", 1, None, verdict["run_id"])
    kept = version.tags[f"{verdict_store.GATES}.{entry.gates[:12]}"]
    assert (hashlib.sha256(kept.encode()).hexdigest(), json.loads(kept)) == (entry.gates, verdict["gates"])


def test_the_run_holds_parameters_figures_curves_pictures_provenance_and_the_model(made, tmp_path):
    verdict = case.run(made["good"], tmp_path)
    run = client().get_run(verdict["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params["ingest.positive"] == "bad"
    assert run.data.params["train_head.epochs"] == "2"
    assert run.data.params["register.model_name"] == "corner"
    assert run.data.metrics["roc_auc"] == 10 / 12
    curve = client().get_metric_history(verdict["training_runs"]["finetune_all"], "validation_log_loss")
    assert [(point.step, point.value) for point in curve] == [(0, 0.7), (1, 0.5), (2, 0.4)]
    tags = run.data.tags
    assert tags["twofold.library.torch"].startswith("2.")
    assert tags["twofold.hardware.device"] == "cpu"
    assert tags["twofold.data_fingerprint"] == read_json(made["good"].raw / "meta.json")["fingerprint"]
    assert tags["twofold.verdict"] == "Promoted: version 1 is the champion"
    logged = {path for kind in ("evaluation", "registration") for path in files(verdict["run_id"], kind)}
    assert {"evaluation/roc.png", "evaluation/predictions.parquet", "registration/decision.html"} <= logged
    assert [output.model_id for output in run.outputs.model_outputs] == [verdict["model_id"]]
    model = client().get_logged_model(verdict["model_id"])
    assert {metric.key: metric.value for metric in model.metrics}["accuracy"] == 5 / 7
    assert "sealed/model.safetensors" in "".join(sealed_files(verdict["model_id"]))


def files(run_id, folder):
    return [info.path for info in client().list_artifacts(run_id, folder)]


def sealed_files(model_id):
    return [info.path for info in client().list_logged_model_artifacts(model_id, "artifacts/sealed")]


def test_a_second_run_writes_nothing_and_reports_nothing_new(made, tmp_path, monkeypatch):
    first = case.run(made["good"], tmp_path)
    watched = case.watch(monkeypatch)
    second = case.run(made["good"], tmp_path)
    assert watched.writes == []
    assert second["nothing_new"] is True
    assert second["headline"] == "Nothing new since version 1"
    changed = {key for key in first if first[key] != second[key]}
    assert changed == {"nothing_new", "headline"}


def test_a_model_that_does_not_pass_is_recorded_as_refused(made, tmp_path, monkeypatch):
    case.run(made["good"], tmp_path)
    verdict = case.run(made["backwards"], tmp_path)
    assert (verdict["registered"], verdict["promoted"], verdict["version"]) == (False, False, None)
    assert (verdict["judged_against"], verdict["champion"]) == (1, 1)
    assert verdict["champion_figures"]["roc_auc"] == 10 / 12
    assert verdict["reasons"] == [
        f"accuracy at least 0.7: {2 / 7:.4f} is below 0.7000",
        "roc_auc worse than the champion by less than 0.8: 0.1667 against 0.8333: a gain of -0.6667, at least -0.9751 "
        "(one-sided 95 % bound), which is not above -0.8000",
    ]
    assert (versions(), champion()) == ([1], 1)
    run = client().get_run(verdict["run_id"])
    assert (run.info.status, run.data.tags["twofold.verdict"]) == ("FINISHED", "Refused")
    assert "accuracy at least 0.7" in run.data.tags["twofold.reasons"]
    watched = case.watch(monkeypatch)
    assert case.run(made["backwards"], tmp_path)["nothing_new"] is False
    assert watched.writes == [], "refused for the same reasons"


def test_a_better_model_replaces_the_champion(made, tmp_path):
    case.run(made["good"], tmp_path)
    verdict = case.run(made["better"], tmp_path)
    assert (verdict["version"], verdict["judged_against"], verdict["champion"]) == (2, 1, 2)
    assert [gate["applies"] for gate in verdict["gates"]] == [True, True]
    assert champion() == 2
    again = case.run(made["better"], tmp_path)
    assert (again["nothing_new"], again["judged_against"]) == (True, 1), "it is not compared with itself"


def test_changed_gates_are_evaluated_again(made, tmp_path, smoke_tests):
    refused = case.run(made["good"], tmp_path, case.REFUSING)
    assert (refused["registered"], versions()) == (False, [])
    passed = case.run(made["good"], tmp_path)
    assert (passed["version"], passed["model_id"]) == (1, refused["model_id"]), "the model is not logged twice"
    assert passed["run_id"] != refused["run_id"], "parameters of a run do not change"
    strict = case.run(made["good"], tmp_path, case.REFUSING)
    assert (strict["nothing_new"], strict["passed"], strict["champion"]) == (True, False, 1)
    assert len(smoke_tests) == 1, "nor tested twice"


def test_an_experiment_is_recorded_and_never_moves_an_alias(made, tmp_path, monkeypatch, smoke_tests):
    case.run(made["good"], tmp_path)
    monkeypatch.setenv("DVC_EXP_NAME", "lucky-guess")
    watched = case.watch(monkeypatch)
    for name in ("better", "good"):
        verdict = case.run(made[name], tmp_path)
        assert (verdict["passed"], verdict["promoted"], verdict["champion"]) == (True, False, 1)
        run = client().get_run(verdict["run_id"])
        assert run.info.run_name.startswith("lucky-guess roc_auc 0.833 ")
    assert not {"set_registered_model_alias", "create_model_version", "create_logged_model"} & set(watched.writes)
    assert (versions(), champion(), len(smoke_tests)) == ([1], 1, 1)
    monkeypatch.delenv("DVC_EXP_NAME")
    assert case.run(made["good"], tmp_path)["nothing_new"] is True, "the candidate's own record is untouched"


def test_with_review_a_person_promotes(made, tmp_path):
    verdict = case.run(made["good"], tmp_path, REVIEW)
    assert (verdict["registered"], verdict["promoted"], verdict["alias"]) == (True, False, "challenger")
    assert champion() is None
    assert client().get_model_version_by_alias("corner", "challenger").version == 1
    assert "waits as 'challenger'" in verdict["reasons"][-1]
    assert case.run(made["good"], tmp_path, REVIEW)["nothing_new"] is True
    promoted = case.run(made["good"], tmp_path)
    assert (promoted["version"], promoted["promoted"], champion()) == (1, True, 1)


def test_the_verdict_names_the_person_who_decided_last_and_when(made, tmp_path):
    first = case.run(made["good"], tmp_path, REVIEW)["decided"]
    assert first["by"].startswith("register, run by ")
    assert first["time"] == f"{ledger()[0].time[:16].replace('T', ' ')} UTC"
    approval.reject(tracking.connect(), "corner", "1", actor="ann", reason="it misses scratches")
    assert case.run(made["good"], tmp_path, REVIEW)["decided"]["by"] == "ann"
    assert "<dd>ann</dd>" in (tmp_path / "index.html").read_text()


def test_a_run_that_was_opened_by_someone_else_is_joined(made, tmp_path, monkeypatch):
    place = tracking.experiment(tracking.connect(), "of the pipeline")
    outer = client().create_run(place, run_name="nightly").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", outer)
    verdict = case.run(made["good"], tmp_path)
    assert (verdict["run_id"], verdict["promoted"]) == (outer, True)
    run = client().get_run(outer)
    assert (run.info.status, run.info.run_name, run.data.metrics["accuracy"]) == ("RUNNING", "nightly", 5 / 7)
    nested = [client().get_run(each).data.tags["mlflow.parentRunId"] for each in verdict["training_runs"].values()]
    assert nested == [outer, outer]


def test_with_kubeflows_mlflow_plugin_one_candidate_is_the_pipeline_runs_run(made, tmp_path, monkeypatch):
    plugin = MlflowPlugin(tracking.connect())
    for pipeline_run, nothing_new in (("7", False), ("7", True), ("8", True)):
        if pipeline_run not in plugin.parents:
            plugin.start({"run_id": pipeline_run, "display_name": "run"})
        monkeypatch.setenv("MLFLOW_RUN_ID", plugin.environment(pipeline_run, "register")["MLFLOW_RUN_ID"])
        verdict = case.run(made["good"], tmp_path)
        parent = plugin.parents[pipeline_run][1]
        assert (verdict["run_id"], verdict["nothing_new"]) == (parent, nothing_new)
        assert client().get_run(parent).info.status == "RUNNING", "Kubeflow ends it"
        plugin.end(pipeline_run, "SUCCEEDED")
        assert client().get_run(parent).info.status == "FINISHED"
        client().update_run(parent, status="RUNNING")
    assert (versions(), champion()) == ([1], 1)


@pytest.mark.parametrize("name", ["model.safetensors", "decision.json", "seal.json"])
def test_a_champion_that_was_tampered_with_is_not_compared_and_nothing_is_promoted(made, tmp_path, mlflow_store, name):
    case.run(made["good"], tmp_path)
    path = next(mlflow_store.rglob(f"artifacts/sealed/{name}"))
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    verdict = case.run(made["better"], tmp_path)
    assert (verdict["registered"], champion()) == (False, 1)
    assert "version 1 could not be scored" in verdict["reasons"][0]
    assert f"{name}: altered" in verdict["reasons"][-1]
    assert "make another version champion with `twofold models rollback" in verdict["reasons"][-1]
    # The remedy that it names works.
    approval.rollback(tracking.connect(), "corner", approval.NONE, actor="ann", reason="its files are altered")
    again = case.run(made["better"], tmp_path)
    assert (again["promoted"], again["version"], champion()) == (True, 2, 2)


def test_a_champion_of_other_classes_is_not_compared(made, tmp_path, monkeypatch):
    case.run(made["good"], tmp_path)
    monkeypatch.setattr("twofold.serving.sealed_model.SealedModel.labels", ("cat", "dog"))
    verdict = case.run(made["better"], tmp_path)
    assert "('cat', 'dog')" in verdict["reasons"][-1]
    assert champion() == 1


def test_a_model_that_fails_its_smoke_test_is_an_error_and_no_version(made, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RegistryError("the sealed model does not predict what evaluate did")

    monkeypatch.setattr(registration, "run_smoke_test", fail)
    with pytest.raises(RegistryError, match="does not predict"):
        case.run(made["good"], tmp_path)
    assert (versions(), champion()) == ([], None)
    assert not (tmp_path / "registration").exists()


def test_files_that_the_store_altered_are_refused(made, tmp_path, monkeypatch):
    fetch = registry_client.download

    def fetch_altered(store, model, folder):
        found = fetch(store, model, folder)
        (found / "served.py").write_text("print('mine')")
        return found

    monkeypatch.setattr(registry_client, "download", fetch_altered)
    with pytest.raises(RegistryError, match="returns other files than were uploaded"):
        case.run(made["good"], tmp_path)
    assert champion() is None


def test_artifacts_that_were_not_made_from_each_other_are_refused_before_anything_is_written(
    made, tmp_path, monkeypatch
):
    own = case.copy(made["good"], tmp_path)
    write_json(own.metrics, read_json(own.metrics) | {"accuracy": 0.99})
    watched = case.watch(monkeypatch)
    with pytest.raises(ArtifactError, match=r"accuracy is 0\.99"):
        case.run(own, tmp_path)
    assert watched.writes == []


@pytest.mark.parametrize("figure", ["calibration", "slices"])
def test_a_gate_on_a_metric_that_is_no_number_refuses(made, tmp_path, figure):
    gates = [Minimum(figure="accuracy", min=0.0), Maximum(figure=figure, max=1.0)]
    verdict = case.run(made["good"], tmp_path, case.PARAMS.model_copy(update={"gates": gates}))
    assert (verdict["registered"], champion()) == (False, None)
    assert figure in verdict["reasons"][0]
