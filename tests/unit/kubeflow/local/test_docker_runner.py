"""What a container of `run --runner docker` is given; the run itself is in tests/slow/, with an engine."""

import gc
import os
import signal
import time
from contextlib import contextmanager
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
    """Containers by the label that they bear; of those that are asked for, what has been killed."""

    def __init__(self, running, seen):
        self.containers, self._running, self._seen = self, running, seen

    def list(self, filters, ignore_removed):
        return [self._one(label) for label in self._running if label == filters["label"] and ignore_removed]

    def _one(self, label):
        def kill():
            self._seen["killed"] = [*self._seen.get("killed", []), label]

        return SimpleNamespace(kill=kill)

    def close(self):
        pass


@pytest.fixture
def given(alone, monkeypatch):
    """Everything that the runner and the pipeline are given, without an engine and a server."""
    seen = {}

    @contextmanager
    def server(folder):
        yield "http://127.0.0.1:5055"

    def execute(root, runner, images, params, arguments):
        seen.update(runner.container_run_args, root=root, images=images, arguments=arguments)
        return root / "run"

    monkeypatch.setattr("docker.client.from_env", lambda: Engine([], seen))
    monkeypatch.setattr(docker_runner, "mlflow_server", server)
    monkeypatch.setattr(docker_runner, "run_pipeline", execute)
    return seen


def test_a_container_sees_the_images_source_read_only_and_nothing_else_of_this_machine(
    alone, params, given, monkeypatch
):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TWOFOLD_LIVE")
    folder, ui = docker_runner.run_in_containers(alone / "root", IMAGES, params, {"force": "a"})
    assert folder == alone / "root" / "runs" / "run"
    mounts = [(mount["Source"], mount["Target"], mount["ReadOnly"]) for mount in given["mounts"]]
    assert mounts == [(str(alone / "images"), str(alone / "images"), True)]
    assert given["arguments"]["ingest"]["source"] == str(alone / "images")
    assert given["arguments"]["force"] == "a"
    assert given["images"] == IMAGES
    assert given["environment"] == {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5055", "PYTHONUNBUFFERED": "1"}
    assert (given["network_mode"], given["cap_drop"]) == ("host", ["ALL"])
    assert given.get("user", "the image's own") == (
        f"{os.getuid()}:{os.getgid()}" if os.getuid() else "the image's own"
    )
    assert str(alone / "root" / "mlflow" / "mlflow.db") in ui


def test_weights_in_a_folder_are_seen_too_and_an_address_is_passed_on(alone, params, given, monkeypatch):
    (alone / "weights").mkdir()
    monkeypatch.setenv("TWOFOLD_WEIGHTS", "weights")
    docker_runner.run_in_containers(alone / "root", IMAGES, params, {})
    assert [mount["Source"] for mount in given["mounts"]] == [str(alone / "images"), str(alone / "weights")]
    assert all(mount["ReadOnly"] for mount in given["mounts"])
    assert given["environment"]["TWOFOLD_WEIGHTS"] == str(alone / "weights")
    monkeypatch.setenv("TWOFOLD_WEIGHTS", "s3://bucket/weights")
    docker_runner.run_in_containers(alone / "root", IMAGES, params, {})
    assert given["environment"]["TWOFOLD_WEIGHTS"] == "s3://bucket/weights"
    assert len(given["mounts"]) == 1


def test_a_source_that_is_not_there_is_refused_before_anything_starts(alone, params):
    params["ingest"]["source"] = "nowhere"
    with pytest.raises(TwofoldError, match="nowhere: no such file or folder"):
        docker_runner.run_in_containers(alone / "root", IMAGES, params, {})
    assert not (alone / "root").exists()


# docker's client leaves the socket open with which it could not connect.
@pytest.mark.filterwarnings("ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning")
def test_no_engine(alone, params, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{alone}/none.sock")
    with pytest.raises(TwofoldError, match="no container engine answers"):
        docker_runner.run_in_containers(alone / "root", IMAGES, params, {})
    gc.collect()
    assert not (alone / "root").exists()


def test_a_run_that_is_ended_leaves_no_container_and_no_other_handler(alone, params, given, monkeypatch):
    running = ["twofold.run=another"]

    def ended(root, runner, images, params, arguments):
        running.append(f"twofold.run={runner.container_run_args['labels']['twofold.run']}")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("docker.client.from_env", lambda: Engine(running, given))
    monkeypatch.setattr(docker_runner, "run_pipeline", ended)
    with pytest.raises(KeyboardInterrupt):
        docker_runner.run_in_containers(alone / "root", IMAGES, params, {})
    assert given["killed"] == running[1:]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_server_that_does_not_start_says_where_its_log_is(alone, monkeypatch):
    monkeypatch.setattr(docker_runner.sys, "executable", "false")
    with (
        pytest.raises(TwofoldError, match=r"did not start; see .*server\.log"),
        docker_runner.mlflow_server(alone / "m"),
    ):
        pass
