"""A training's live run in MLflow: its content, how it resumes, and an unavailable server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kfp_server.mlflow_plugin import MlflowPlugin
from twofold.core.errors import RegistryError
from twofold.tracking import store as tracking
from twofold.tracking.live_run import PARENT, joined_run, live_run

METRICS = {"train_loss": 0.5, "validation_log_loss": 0.6}


def test_telemetry_is_off_in_an_empty_home(tmp_path, empty_store):
    code = (
        "from twofold.tracking.live_run import live_run\n"
        "with live_run('train_head', {}, resume_key='k') as run:\n    run.log(0, {'a': 1.0})\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled\n"
        "print(bool(run.run_id), is_telemetry_disabled())"
    )
    (tmp_path / "home").mkdir()
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path.cwd())}
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=env | {"MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[-2:], done.stderr) == (0, ["True", "True"], "")


def found(run_id):
    return tracking.connect().client.get_run(run_id)


def curve(run_id, key="train_loss"):
    points = tracking.connect().client.get_metric_history(run_id, key)
    return [(point.step, point.value) for point in points]


def test_a_live_run_has_parameters_curves_and_the_digest_of_the_artifact(mlflow_store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "my parts / line 2")
    with live_run("train_head", {"epochs": 2, "nested": {"a": 1}}, resume_key="k") as live:
        live.log(0, METRICS)
        assert found(live.run_id).info.status == "RUNNING"
        live.log(1, {"train_loss": 0.25, "odd": float("nan")})
        live.finish("d" * 64)
    run = found(live.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"epochs": "2", "nested.a": "1"}
    assert (run.data.tags[tracking.DIGEST], run.data.tags["mlflow.runName"]) == ("d" * 64, "train_head")
    assert curve(live.run_id) == [(0, 0.5), (1, 0.25)]
    assert "odd" not in run.data.metrics
    assert run.info.artifact_uri.startswith(f"{(mlflow_store / 'mlartifacts').as_uri()}/my_parts___line_2/")


@pytest.mark.parametrize(("end", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_an_interrupted_training_resumes_its_run_without_duplicate_points(mlflow_store, end, status):
    with pytest.raises(end), live_run("train_head", {"epochs": 3}, resume_key="k") as first:
        first.log(0, METRICS)
        first.log(1, METRICS)
        raise end
    assert found(first.run_id).info.status == status
    with live_run("train_head", {"epochs": 3}, resume_key="k") as second:
        assert found(second.run_id).info.status == "RUNNING"
        for epoch in range(3):
            second.log(epoch, METRICS)
        second.finish("d")
    assert second.run_id == first.run_id
    assert curve(first.run_id) == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert found(first.run_id).info.status == "FINISHED"


def test_a_finished_training_and_one_on_other_data_get_separate_runs(mlflow_store):
    ids = set()
    for key in ("k", "k", "other"):
        with live_run("train_head", {}, resume_key=key) as live:
            live.finish("d")
        ids.add(live.run_id)
    assert len(ids) == 3


def test_a_live_run_is_nested_in_the_pipelines_run(mlflow_store, monkeypatch):
    store = tracking.connect()
    outer = store.client.create_run(tracking.experiment(store, "outer")).info
    monkeypatch.setenv("MLFLOW_RUN_ID", outer.run_id)
    with live_run("train_head", {}, resume_key="k") as live:
        live.finish("d")
    run = found(live.run_id)
    assert (run.info.experiment_id, run.data.tags[PARENT]) == (outer.experiment_id, outer.run_id)


def test_with_kubeflows_mlflow_plugin_it_is_nested_in_the_pipeline_runs_run(mlflow_store, monkeypatch):
    plugin = MlflowPlugin(tracking.connect())
    plugin.start({"run_id": "7", "display_name": "run", "plugins_input": {"mlflow": {"experiment_name": "cells"}}})
    for name, value in plugin.environment("7", "train-head", within=("exit-handler-1",)).items():
        monkeypatch.setenv(name, value)
    with live_run("train_head", {}, resume_key="k") as live:
        live.finish("d")
    run = found(live.run_id)
    assert (run.info.experiment_id, run.data.tags[PARENT]) == plugin.parents["7"]
    plugin.end("7", "SUCCEEDED")


@pytest.mark.parametrize("stale", ["0" * 32, "run 7", "deleted"])
def test_a_stale_run_id_is_named_with_its_variable_and_a_training_continues(mlflow_store, monkeypatch, capsys, stale):
    store = tracking.connect()
    if stale == "deleted":
        stale = store.client.create_run(tracking.experiment(store, "cells")).info.run_id
        store.client.delete_run(stale)
    monkeypatch.setenv("MLFLOW_RUN_ID", stale)
    message = f"MLFLOW_RUN_ID is '{stale}', and MLflow at {store.uri} has no such run, or it was deleted: unset"
    with pytest.raises(RegistryError, match=re.escape(message)):
        joined_run(store)
    with live_run("train_head", {}, resume_key="k") as live:
        live.log(0, METRICS)
    assert live.run_id == ""
    assert message in capsys.readouterr().err


def test_the_parent_of_a_sweep_is_not_joined(mlflow_store, monkeypatch):
    store = tracking.connect()
    place = tracking.experiment(store, "sweep")
    sweep = store.client.create_run(place).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", store.client.create_run(place, tags={PARENT: sweep}).info.run_id)
    joined = joined_run(store)
    assert joined is not None
    assert joined.info.run_id == os.environ["MLFLOW_RUN_ID"]


def test_live_runs_can_be_switched_off(mlflow_store, monkeypatch):
    monkeypatch.setenv("TWOFOLD_LIVE", "off")
    with live_run("train_head", {}, resume_key="k") as live:
        live.log(0, METRICS)
        live.finish("d")
    assert live.run_id == ""
    assert [found.name for found in tracking.connect().client.search_experiments()] == ["Default"]


def test_an_unavailable_server_costs_a_warning_and_no_training(monkeypatch, capsys, mlflow_store):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    epochs = 0
    with live_run("train_head", {}, resume_key="k") as live:
        for epoch in range(3):
            live.log(epoch, METRICS)
            epochs += 1
        live.finish("d")
    assert epochs == 3
    warning = capsys.readouterr().err
    assert warning.count("The training continues") == 1
    assert warning.startswith("warning: MLflow at http://127.0.0.1:1: ")
    assert "secret" not in warning
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_a_run_whose_server_failed_is_not_linked(monkeypatch, capsys, mlflow_store):
    from mlflow.exceptions import MlflowException

    def fail(*args, **kwargs):
        raise MlflowException("gone")

    with live_run("train_head", {}, resume_key="k") as live:
        live.log(0, METRICS)
        with monkeypatch.context() as patch:
            patch.setattr(live._store.client, "log_batch", fail, raising=False)
            live.log(1, METRICS)
        live.log(2, METRICS)
        live.finish("d")
    assert capsys.readouterr().err.count("gone") == 1
    assert curve(live.run_id) == [(0, 0.5)]
    assert tracking.DIGEST not in found(live.run_id).data.tags, "register replays history.csv instead"
