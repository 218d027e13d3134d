"""The options of a container of `run --runner docker`; tests/slow/ runs it with an engine."""

import gc
import os
import signal
import time
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest

from twofold.core.errors import TwofoldError
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.local import docker_runner
from twofold.orchestration.params_file import load_yaml

IMAGES = Images("twofold-data:1", "twofold-train:1")


@pytest.fixture
def params(alone, request):
    (alone / "images").mkdir()
    values = load_yaml(request.config.rootpath / "tests" / "params.yaml")
    values["ingest"]["source"] = "images"
    return values


class Engine:
    """An engine with running containers, by their labels; records which of them are killed."""

    def __init__(self, running, killed):
        self.containers, self._running, self._killed = self, running, killed

    def list(self, filters, ignore_removed):
        found = [label for label in self._running if label == filters["label"] and ignore_removed]
        return [SimpleNamespace(kill=partial(self._killed.append, label)) for label in found]

    def close(self):
        pass


@pytest.fixture
def options(alone, monkeypatch):
    """Everything that the runner and the pipeline get, without an engine and a server."""
    options = {}

    @contextmanager
    def server(folder):
        yield "http://127.0.0.1:5055"

    def execute(root, runner, images, params, arguments, output):
        options.update(runner.container_run_args, root=root, images=images, arguments=arguments)
        return root / "run"

    monkeypatch.setattr(docker_runner, "from_env", lambda: Engine([], []))
    monkeypatch.setattr(docker_runner, "mlflow_server", server)
    monkeypatch.setattr(docker_runner, "run_pipeline", execute)
    return options


def test_a_container_sees_only_the_images_source_and_read_only(alone, params, options, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TWOFOLD_LIVE")
    folder, ui = docker_runner.run_in_containers(alone / "root", IMAGES, params, {"force": "a"})
    assert folder == alone / "root" / "runs" / "run"
    mounts = [(mount["Source"], mount["Target"], mount["ReadOnly"]) for mount in options["mounts"]]
    assert mounts == [(str(alone / "images"), str(alone / "images"), True)]
    assert options["arguments"]["ingest"]["source"] == str(alone / "images")
    assert options["arguments"]["force"] == "a"
    assert options["images"] == IMAGES
    assert options["environment"] == {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5055", "PYTHONUNBUFFERED": "1"}
    assert (options["network_mode"], options["cap_drop"]) == ("host", ["ALL"])
    assert options.get("user") == (f"{os.getuid()}:{os.getgid()}" if os.getuid() else None), (
        "root: the image's own user"
    )
    assert str(alone / "root" / "mlflow" / "mlflow.db") in ui


def test_weights_in_a_folder_are_mounted_too_and_an_address_is_passed_on(alone, params, options, monkeypatch):
    (alone / "weights").mkdir()
    monkeypatch.setenv("TWOFOLD_WEIGHTS", "weights")
    docker_runner.run_in_containers(alone / "root", IMAGES, params, {})
    assert [mount["Source"] for mount in options["mounts"]] == [str(alone / "images"), str(alone / "weights")]
    assert all(mount["ReadOnly"] for mount in options["mounts"])
    assert options["environment"]["TWOFOLD_WEIGHTS"] == str(alone / "weights")
    monkeypatch.setenv("TWOFOLD_WEIGHTS", "s3://bucket/weights")
    docker_runner.run_in_containers(alone / "root", IMAGES, params, {})
    assert options["environment"]["TWOFOLD_WEIGHTS"] == "s3://bucket/weights"
    assert len(options["mounts"]) == 1


def test_a_missing_source_is_refused_before_anything_starts(alone, params):
    params["ingest"]["source"] = "nowhere"
    with pytest.raises(TwofoldError, match="nowhere: no such file or folder"):
        docker_runner.run_in_containers(alone / "root", IMAGES, params, {})
    assert not (alone / "root").exists()


# docker's client does not close a socket that could not connect.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning")
def test_no_engine(alone, params, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{alone}/none.sock")
    with pytest.raises(TwofoldError, match="no container engine answers"):
        docker_runner.run_in_containers(alone / "root", IMAGES, params, {})
    gc.collect()
    assert not (alone / "root").exists()


def test_a_terminated_run_leaves_no_container_and_restores_the_signal_handler(alone, params, options, monkeypatch):
    killed, running = [], ["twofold.run=another"]

    def terminate(root, runner, images, params, arguments, output):
        running.append(f"twofold.run={runner.container_run_args['labels']['twofold.run']}")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(docker_runner, "from_env", lambda: Engine(running, killed))
    monkeypatch.setattr(docker_runner, "run_pipeline", terminate)
    with pytest.raises(KeyboardInterrupt):
        docker_runner.run_in_containers(alone / "root", IMAGES, params, {})
    assert killed == running[1:]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_server_that_does_not_start_says_where_its_log_is(alone, monkeypatch):
    monkeypatch.setattr(docker_runner.sys, "executable", "false")
    with pytest.raises(TwofoldError, match=r"did not start; see .*server\.log"):
        docker_runner.mlflow_server(alone / "m").__enter__()
