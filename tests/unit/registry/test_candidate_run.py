"""A candidate's run as a person finds it in the MLflow UI: name, description, metrics, data sets, nested trainings."""

import json
from datetime import UTC, datetime

import pytest

from tests.support import registration_case as case
from tests.support.corner_store import client
from twofold.core.artifacts import digest
from twofold.data.prepared import PreparedDataset
from twofold.evaluation.predictions import fingerprint
from twofold.tracking import runs, store
from twofold.tracking.live_run import PARENT, live_run
from twofold.tracking.store import DIGEST

MAIN = "accuracy precision recall f1 specificity roc_auc average_precision log_loss brier ece ece_uncalibrated"
COUNTS = "n n_positive n_negative n_units n_effective true_positive false_positive true_negative false_negative"
LIVE = case.PARAMS.model_copy(update={"experiment": "twofold"})  # where live runs are
PARTS = (("train_head", "head"), ("finetune_all", "model"))
REVIEW = LIVE.model_copy(update={"promotion": "review"})


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    """Two candidates on the same data, with the same trained head."""
    good, better = case.make_candidates(tmp_path_factory.mktemp("candidates"), 8.0, 9.0)
    return good, better._replace(head=good.head)


@pytest.fixture(autouse=True)
def fast_registration(monkeypatch, mlflow_store):
    case.hurry(monkeypatch)


def trained(step, folder):
    """The id of a finished live run of a training that has written the folder."""
    with live_run(step, {}, resume_key=str(folder)) as live:
        live.log(0, {"validation_log_loss": 0.75})
        live.finish(digest(folder))
    return live.run_id


def tags(run_id):
    return client().get_run(run_id).data.tags


def test_a_run_has_about_twenty_metrics_and_the_data_of_every_split(candidates, tmp_path, monkeypatch):
    monkeypatch.setenv("TWOFOLD_PIPELINE_RUN", "7")
    monkeypatch.setenv("TWOFOLD_SOURCE", "s3://bucket/cells")
    run = client().get_run(case.run(candidates[0], tmp_path)["run_id"])
    decided = {"platt_slope", "platt_intercept", "threshold", "model_bytes"}
    assert run.data.metrics.keys() == {*MAIN.split(), *COUNTS.split()} | decided
    prepared = PreparedDataset.open(candidates[0].data)
    for split, counts, each in zip(
        ("train", "validation", "test"),
        ({"good": 2, "bad": 2}, {"good": 3, "bad": 3}, {"good": 4, "bad": 3}),
        run.inputs.dataset_inputs,
        strict=True,
    ):
        rows = prepared.rows(split)
        sha256 = fingerprint(prepared.sha256[rows], prepared.column("label")[rows])
        data = each.dataset
        assert {tag.key: tag.value for tag in each.tags} == {"mlflow.data.context": split}
        assert (data.name, data.digest, data.source_type) == ("s3://bucket/cells", sha256[:12], "s3")
        assert json.loads(data.source) == {"uri": "s3://bucket/cells"}
        assert json.loads(data.profile) == {"num_rows": sum(counts.values()), **counts, "sha256": sha256}


def test_a_run_is_named_by_its_verdict_and_describes_it(candidates, tmp_path):
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    refused = case.run(candidates[0], tmp_path, case.REFUSING)
    found = tags(refused["run_id"])
    assert list(found)[:2] == ["twofold.verdict", "twofold.reasons"]
    assert found["mlflow.runName"] == f"refused roc_auc 0.833 {today}"
    head, training = (refused["training_runs"][step] for step in ("train_head", "finetune_all"))
    page, model = f"#/experiments/{refused['experiment_id']}/runs", "?workflowType=machine_learning"
    assert found["mlflow.note.content"] == (
        f"**Refused**\n\n{refused['reasons'][0]}\n\n"
        f"Trained by [train_head]({page}/{head}{model}) and [finetune_all]({page}/{training}{model}). For the gates "
        "and their reasons, open `registration/decision.html` under Artifacts. This run says what register decided; "
        f"the aliases of [corner](#/models/corner{model}) say what is in use now."
    )
    passed = tags(case.run(candidates[0], tmp_path)["run_id"])
    assert (passed["mlflow.runName"], passed["twofold.reasons"]) == (f"promoted roc_auc 0.833 {today}", "none")
    version = client().get_model_version("corner", "1").tags
    assert [version[metric] for metric in ("accuracy", "f1", "roc_auc")] == ["0.714", "0.667", "0.833"]


def test_trainings_are_nested_in_their_first_candidate_and_linked_from_later_ones(candidates, tmp_path):
    head, training = (trained(step, getattr(candidates[0], part)) for step, part in PARTS)
    first = case.run(candidates[0], tmp_path, LIVE)
    assert first["training_runs"] == {"train_head": head, "finetune_all": training}
    assert {tags(run)[PARENT] for run in (head, training)} == {first["run_id"]}
    second = case.run(candidates[1], tmp_path, LIVE)
    assert second["training_runs"]["train_head"] == head == tags(second["run_id"])["twofold.run.train_head"]
    assert tags(head)[PARENT] == first["run_id"], "a run has one parent"
    assert tags(second["training_runs"]["finetune_all"])[PARENT] == second["run_id"]
    # Deleted in the MLflow UI, the first candidate shows its trainings no longer.
    client().delete_run(first["run_id"])
    third = case.run(candidates[1], tmp_path, REVIEW)
    assert (third["training_runs"]["train_head"], tags(head)[PARENT]) == (head, third["run_id"])


def test_a_training_without_a_live_run_gets_a_nested_one_once(candidates, tmp_path, monkeypatch):
    def die(*arguments, **values):
        raise case.Killed

    # Killed while it made the run of train_head, and again before that was marked as complete.
    for module, name, dies in ((store, "log_metrics", fail_on_curves(store.log_metrics)), (runs, "close_run", die)):
        with monkeypatch.context() as patch, pytest.raises(case.Killed):
            patch.setattr(module, name, dies)
            case.run(candidates[0], tmp_path)
    verdict = case.run(candidates[0], tmp_path)
    assert len(client().search_runs([verdict["experiment_id"]])) == 3
    for step, part in PARTS:
        run = client().get_run(verdict["training_runs"][step])
        assert (run.info.run_name, run.info.status, run.data.tags[PARENT]) == (step, "FINISHED", verdict["run_id"])
        assert run.data.tags[DIGEST] == digest(getattr(candidates[0], part))
        points = client().get_metric_history(run.info.run_id, "validation_log_loss")
        assert [(point.step, point.value) for point in points] == [(0, 0.7), (1, 0.5), (2, 0.4)]


def fail_on_curves(log_metrics):
    """`log_metrics` that writes the first points of a curve and dies."""

    def write(place, run_id, metrics):
        if curve := [metric for metric in metrics if metric.key == "validation_log_loss"]:
            log_metrics(place, run_id, curve[:1])
            raise case.Killed
        log_metrics(place, run_id, metrics)

    return write


def test_a_deleted_training_run_is_made_again(candidates, tmp_path):
    first = case.run(candidates[0], tmp_path)
    client().delete_run(first["training_runs"]["train_head"])
    second = case.run(candidates[0], tmp_path, case.REFUSING)
    assert second["training_runs"]["finetune_all"] == first["training_runs"]["finetune_all"]
    assert tags(second["training_runs"]["train_head"])[PARENT] == second["run_id"]
