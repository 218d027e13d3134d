"""What notify tells of a run that did not succeed, from a server over HTTP."""

import pytest

from tests.support.channel import SECRET, channel
from tests.support.kfp_server.server import Fault, KfpServer
from tests.support.kfp_server.store import Frame
from twofold.orchestration.notifications import notify


@pytest.fixture
def webhook(monkeypatch):
    with channel() as started:
        monkeypatch.setenv("TWOFOLD_WEBHOOK", started.address)
        yield started


@pytest.fixture
def kubeflow(monkeypatch):
    """A stand-in for Kubeflow's API, as a pod in the namespace of Kubeflow finds it."""
    with KfpServer() as started:
        host, port = started.host.removeprefix("http://").split(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
        monkeypatch.setenv("ML_PIPELINE_SERVICE_HOST", host)
        monkeypatch.setenv("ML_PIPELINE_SERVICE_PORT", port)
        monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
        yield started


def begin(kubeflow, *frames):
    """Start a run on the stand-in, which shows these frames; return its id."""
    kubeflow.script = frames
    (experiment,) = kubeflow.experiments
    body = {"display_name": "run", "experiment_id": experiment, "pipeline_spec": {}}
    return kubeflow.create_run(body)["run_id"]


def end(run, state, message=""):
    notify(state=state, message=message, register={"experiment": "cells"}, run=run)


DONE = {"ingest": "SUCCEEDED", "preprocess": "SUCCEEDED"}
HERE = {**DONE, "train-head": "FAILED", "finetune-all": "RUNTIME_STATE_UNSPECIFIED"}
LOST = ("Error", "pod deleted")
SLOW = ("Failed", "Pod was active on the node longer than the specified deadline")
LATE = ("Failed", "Step exceeded its deadline")
EXIT = ("Failed", "Error (exit code 1)")
EVICTED = ("Failed", "The node was low on resource: memory.")


@pytest.mark.parametrize(
    ("frame", "state", "expected"),
    [
        (
            Frame("RUNNING", HERE, pods={"train-head": [EXIT]}),
            "FAILED",
            "failed in train_head: it exited with an error",
        ),
        (
            Frame("RUNNING", HERE, pods={"train-head": [SLOW]}, limits={"train-head": 7200}),
            "RUNNING",
            "failed in train_head: its time limit of 7200 s was exceeded.",
        ),
        (
            Frame("RUNNING", HERE, pods={"train-head": [LATE]}),
            "RUNNING",
            "failed in train_head: the time limit of the run was exceeded.",
        ),
        (
            Frame("RUNNING", HERE, pods={"ingest": [LOST], "train-head": [LOST, LOST, LOST]}),
            "RUNNING",
            "failed in train_head: its pod was lost or could not start, and no retry was left (pod deleted).",
        ),
        (
            Frame("RUNNING", HERE, pods={"train-head": [LOST, SLOW]}),
            "RUNNING",
            "failed in train_head: its time limit was exceeded.",
        ),
        (
            Frame("RUNNING", HERE, pods={"train-head": [EVICTED]}),
            "RUNNING",
            "failed in train_head: The node was low on resource: memory.",
        ),
        (
            Frame("CANCELING", HERE, pods={"train-head": [LATE]}),
            "RUNNING",
            "was terminated by a user of Kubeflow during",
        ),
        (Frame("CANCELING", {"ingest": "SUCCEEDED"}), "RUNNING", "was terminated by a user of Kubeflow."),
        (
            Frame("CANCELING", HERE, pods={"train-head": [EXIT]}),
            "FAILED",
            "failed in train_head: it exited with an error",
        ),
        (
            Frame("RUNNING", {**DONE, "train-head": "RUNTIME_STATE_UNSPECIFIED", "train-head-driver": "FAILED"}),
            "RUNNING",
            "failed in train_head: a time limit or the loss of its pod stopped it; which of them is unknown.",
        ),
        (Frame("RUNNING", DONE), "RUNNING", "did not finish; which step ended it is unknown."),
    ],
)
def test_a_run_that_did_not_succeed_is_reported_with_its_step_and_the_reason(
    webhook, kubeflow, monkeypatch, capsys, frame, state, expected
):
    """Without MLflow, and while the run itself still runs."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    run = begin(kubeflow, frame)
    notify(state=state, message="", register={}, run=run)
    (text,) = webhook.texts
    assert text.startswith(f"Twofold: pipeline run {run} {expected}")
    assert "\n" not in text
    assert SECRET not in "".join(capsys.readouterr())


def test_the_message_of_a_step_that_failed_is_told_without_credentials_and_with_a_link(webhook, kubeflow, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kubeflow.example/")
    run = begin(kubeflow, Frame("RUNNING", HERE, pods={"train-head": [EXIT]}))
    end(run, "FAILED", "train-head failed:\nhttp://me:secret@host refuses.")
    assert webhook.texts == [
        f"Twofold: pipeline run {run} failed in train_head: it exited with an error (train-head failed: http://host "
        f"refuses); its log says more. https://kubeflow.example/#/runs/details/{run}"
    ]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("v2beta1|/runs/", status=500),
        Fault("/runs/", lose="before"),
        Fault("/runs/", page="<html>Log in</html>"),
        Fault("/runs/", status=302, location="https://elsewhere.example/login"),
    ],
)
def test_a_server_that_cannot_be_asked_leaves_the_step_unknown(webhook, kubeflow, capsys, fault):
    run = begin(kubeflow, Frame("RUNNING", HERE))
    kubeflow.faults = [fault]
    end(run, "RUNNING", "gone")
    assert webhook.texts == [f"Twofold: pipeline run {run} did not finish; which step ended it is unknown: gone."]
    log = capsys.readouterr().err
    assert "the Kubeflow server does not say how the run ended: ServerError(" in log
    assert len(kubeflow.calls) == 1


def test_a_server_without_the_old_api_names_the_step_and_not_the_reason(webhook, kubeflow, capsys):
    run = begin(kubeflow, Frame("RUNNING", HERE, pods={"train-head": [SLOW]}))
    kubeflow.faults = [Fault("v1beta1", status=404)]
    end(run, "RUNNING")
    assert "failed in train_head: a time limit or the loss of its pod stopped it; which" in webhook.texts[0]
    assert f"it answered 404 to apis/v1beta1/runs/{run}" in capsys.readouterr().err


def test_a_multi_user_server_gets_the_pods_token_which_no_text_holds(webhook, kubeflow, monkeypatch, tmp_path, capsys):
    token = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    kubeflow.token = "s3cr3t-T0ken"
    run = begin(kubeflow, Frame("RUNNING", HERE, pods={"train-head": [LOST]}))
    for content in ("s3cr3t-T0ken\n", "s3cr3t-T0ken\nx", "wr0ng-s3cr3t"):
        token.write_text(content)
        end(run, "RUNNING")
    assert "its pod was lost" in webhook.texts[0]
    for text in webhook.texts[1:]:
        assert "which step ended it is unknown" in text
    assert "s3cr3t" not in "".join([*webhook.texts, *capsys.readouterr()])


def test_on_this_machine_no_server_is_asked(webhook, kubeflow, monkeypatch, capsys):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    end("7", "FAILED", "train-head: out of memory")
    assert webhook.texts == [
        "Twofold: pipeline run 7 failed; which step ended it is unknown: train-head: out of memory."
    ]
    assert "this is no pod" in capsys.readouterr().err
    assert kubeflow.calls == []
    run = begin(kubeflow, Frame("RUNNING", HERE, pods={"train-head": [LOST]}))
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kubeflow.host + "/")
    end(run, "RUNNING")
    assert "its pod was lost" in webhook.texts[1]
