"""The address of MLflow's store, its experiments and parameters, and its errors."""

import os
import subprocess
import time

import pytest
from mlflow import MlflowClient

from twofold.core import progress
from twofold.core.errors import RegistryError
from twofold.tracking import store as tracking


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No address is set, and the folder is outside git."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def git(folder, *words):
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def test_without_git_the_store_is_in_the_current_folder(nowhere):
    assert tracking.address() == f"sqlite:///{nowhere}/mlflow.db"


def test_without_the_git_command_the_store_is_in_the_current_folder(nowhere, monkeypatch):
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


def test_a_database_that_cannot_be_created_is_an_error_at_once(nowhere, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{nowhere}/none/mlflow.db")
    with pytest.raises(RegistryError, match="its folder does not exist"):
        tracking.connect()


def test_telemetry_is_off_unless_the_user_enables_it(monkeypatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    tracking.silence_mlflow()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")
    tracking.silence_mlflow()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"


def test_an_experiment_is_created_once_and_a_deleted_one_is_an_error_with_remedies(mlflow_store):
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
        tracking.readable_errors(store.uri),
    ):
        store.client.get_run("nothing")


def test_nested_values_have_dotted_names():
    assert tracking.flatten({"a": {"b": {"c": 1}}, "d": 2}) == {"a.b.c": 1, "d": 2}


def test_parameters_are_logged_once_and_never_changed(mlflow_store):
    store = tracking.connect()
    run = store.client.create_run(tracking.experiment(store, "e"))
    values = {f"p{number}": "1" for number in range(150)}
    tracking.log_params(store, run, values)
    tracking.log_params(store, store.client.get_run(run.info.run_id), {"p0": "2", "new": "x" * 9000})
    params = store.client.get_run(run.info.run_id).data.params
    assert (len(params), params["p0"]) == (151, "1")
    assert tracking.as_params({"long": "x" * 9000})["long"] == "x" * 6000
    one, other = ({"gates": [gate]} for gate in ({"min": 1, "figure": "f1"}, {"figure": "f1", "min": 1}))
    assert tracking.as_params(one) == tracking.as_params(other) == {"gates": '[{"figure": "f1", "min": 1}]'}


@pytest.mark.parametrize("call", ["get_run", "set_tag", "create_model_version", "log_artifacts"])
def test_a_call_that_waits_for_the_server_says_so(mlflow_store, monkeypatch, capsys, call):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    monkeypatch.setattr(MlflowClient, call, lambda *_: time.sleep(0.2))
    getattr(tracking.connect().client, call)("x")
    assert capsys.readouterr().err.count(f"still waiting for MLflow at sqlite:///{mlflow_store}/mlflow.db (0 s)") >= 2
