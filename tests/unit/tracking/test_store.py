"""Where MLflow's store is, and the live runs: resumed without a doubled point, and never in a training's way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from twofold.core.errors import RegistryError
from twofold.tracking import store as tracking

FIGURES = {"train_loss": 0.5, "validation_log_loss": 0.6}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No address given, and a folder without git."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def git(folder, *words):
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_without_git_the_store_is_in_the_current_folder(nowhere):
    assert tracking.address() == f"sqlite:///{nowhere}/mlflow.db"


def test_without_the_git_command_too(nowhere, monkeypatch):
    monkeypatch.setenv("PATH", str(nowhere))
    assert tracking.main_checkout() == nowhere


def test_a_checkout_has_one_store_for_all_its_folders_and_worktrees(nowhere, monkeypatch):
    main = nowhere / "main"
    (main / "deep" / "down").mkdir(parents=True)
    git(main, "init", "--quiet")
    git(main, "commit", "--allow-empty", "--message", "x")
    git(main, "worktree", "add", "--quiet", str(nowhere / "other"))
    for folder in (main, main / "deep" / "down", nowhere / "other"):
        monkeypatch.chdir(folder)
        assert tracking.address() == f"sqlite:///{main}/mlflow.db"


def test_a_temporary_dvc_experiment_uses_the_store_of_its_project(nowhere, monkeypatch):
    clone = nowhere / "project" / ".dvc" / "tmp" / "exps" / "tmpabc"
    clone.mkdir(parents=True)
    git(clone, "init", "--quiet")
    monkeypatch.chdir(clone)
    assert tracking.main_checkout() == nowhere / "project"


def test_a_given_address_is_used(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.org")
    assert tracking.address() == "http://mlflow.example.org"


def test_a_database_that_cannot_be_made_is_an_error_at_once(nowhere, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{nowhere}/none/mlflow.db")
    with pytest.raises(RegistryError, match="its folder does not exist"):
        tracking.connect()


def test_an_address_is_shown_without_its_password():
    assert tracking.shown("postgresql://me:secret@db/mlflow") == "postgresql://db/mlflow"
    assert tracking.shown("sqlite:////a@b/mlflow.db") == "sqlite:////a@b/mlflow.db"


def test_telemetry_is_off_unless_it_is_asked_for(monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    tracking.quieten()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    tracking.quieten()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"


def test_telemetry_is_off_in_an_empty_home(tmp_path, empty_store):
    code = (
        "from twofold.tracking import store as tracking\n"
        "with tracking.live_run('train_head', {}, resume_key='k') as run:\n    run.log(0, {'a': 1.0})\n"
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


def test_a_live_run_holds_parameters_curves_and_the_digest_of_what_was_trained(mlflow_store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "my parts / line 2")
    with tracking.live_run("train_head", {"epochs": 2, "nested": {"a": 1}}, resume_key="k") as live:
        live.log(0, FIGURES)
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
def test_a_training_that_ended_early_goes_on_in_its_run_without_doubled_points(mlflow_store, end, status):
    with pytest.raises(end), tracking.live_run("train_head", {"epochs": 3}, resume_key="k") as first:
        first.log(0, FIGURES)
        first.log(1, FIGURES)
        raise end
    assert found(first.run_id).info.status == status
    with tracking.live_run("train_head", {"epochs": 3}, resume_key="k") as second:
        assert found(second.run_id).info.status == "RUNNING"
        for epoch in range(3):
            second.log(epoch, FIGURES)
        second.finish("d")
    assert second.run_id == first.run_id
    assert curve(first.run_id) == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert found(first.run_id).info.status == "FINISHED"


def test_a_finished_training_and_one_of_other_data_get_runs_of_their_own(mlflow_store):
    ids = set()
    for key in ("k", "k", "other"):
        with tracking.live_run("train_head", {}, resume_key=key) as live:
            live.finish("d")
        ids.add(live.run_id)
    assert len(ids) == 3


def test_within_a_run_of_a_pipeline_it_is_nested(mlflow_store, monkeypatch):
    store = tracking.connect()
    outer = store.client.create_run(tracking.experiment(store, "outer")).info
    monkeypatch.setenv("MLFLOW_RUN_ID", outer.run_id)
    with tracking.live_run("train_head", {}, resume_key="k") as live:
        live.finish("d")
    run = found(live.run_id)
    assert (run.info.experiment_id, run.data.tags[tracking.PARENT]) == (outer.experiment_id, outer.run_id)


def test_live_runs_can_be_switched_off(mlflow_store, monkeypatch):
    monkeypatch.setenv("TWOFOLD_LIVE", "off")
    with tracking.live_run("train_head", {}, resume_key="k") as live:
        live.log(0, FIGURES)
        live.finish("d")
    assert live.run_id == ""
    assert [found.name for found in tracking.connect().client.search_experiments()] == ["Default"]


def test_a_server_that_is_away_costs_a_warning_and_no_training(monkeypatch, capsys, mlflow_store):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    epochs = 0
    with tracking.live_run("train_head", {}, resume_key="k") as live:
        for epoch in range(3):
            live.log(epoch, FIGURES)
            epochs += 1
        live.finish("d")
    assert epochs == 3
    warning = capsys.readouterr().err
    assert warning.count("cannot be used") == 1
    assert warning.startswith("warning: MLflow at http://127.0.0.1:1 ")
    assert "secret" not in warning
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_a_server_that_goes_away_leaves_a_run_that_is_not_linked(monkeypatch, capsys, mlflow_store):
    from mlflow.exceptions import MlflowException

    def fail(*args, **kwargs):
        raise MlflowException("gone")

    with tracking.live_run("train_head", {}, resume_key="k") as live:
        live.log(0, FIGURES)
        with monkeypatch.context() as patch:
            patch.setattr(type(live._store.client), "log_batch", fail)
            live.log(1, FIGURES)
        live.log(2, FIGURES)
        live.finish("d")
    assert capsys.readouterr().err.count("gone") == 1
    assert curve(live.run_id) == [(0, 0.5)]
    assert tracking.DIGEST not in found(live.run_id).data.tags, "register replays history.csv instead"


def test_an_experiment_is_made_once_and_a_deleted_one_names_the_ways_out(mlflow_store):
    store = tracking.connect()
    place = tracking.experiment(store, "twice")
    assert tracking.experiment(store, "twice") == place
    store.client.delete_experiment(place)
    with pytest.raises(RegistryError, match=r"'twice' has been deleted.*restore.*register\.experiment"):
        tracking.experiment(store, "twice")


def test_errors_of_mlflow_name_the_store(mlflow_store):
    store = tracking.connect()
    with (
        pytest.raises(RegistryError, match=r"MLflow at sqlite:///.*mlflow\.db: .*nothing"),
        tracking.plain_errors(store.uri),
    ):
        store.client.get_run("nothing")


def test_parameters_are_logged_once_and_never_changed(mlflow_store):
    store = tracking.connect()
    run = store.client.create_run(tracking.experiment(store, "e"))
    values = {f"p{number}": "1" for number in range(150)}
    tracking.log_params(store, run, values)
    tracking.log_params(store, found(run.info.run_id), {"p0": "2", "new": "x" * 9000})
    params = found(run.info.run_id).data.params
    assert (len(params), params["p0"]) == (151, "1")
    assert tracking.flatten({"long": "x" * 9000})["long"] == "x" * 6000
    one, other = ({"gates": [gate]} for gate in ({"min": 1, "figure": "f1"}, {"figure": "f1", "min": 1}))
    assert tracking.flatten(one) == tracking.flatten(other) == {"gates": '[{"figure": "f1", "min": 1}]'}
