import json

import pytest
from kfp.dsl import PipelineTaskFinalStatus

from components.notify import notify as notify_component
from tests.support.channel import SECRET, channel
from tests.support.kfp_server.mlflow_plugin import MlflowPlugin
from twofold.orchestration.notifications import TAG, notify, tag_run_outcome
from twofold.tracking.store import connect, experiment

VERDICT = {
    "headline": "Refused",
    "name": "cells",
    "passed": False,
    "nothing_new": False,
    "dvc_experiment": None,
    "reasons": ["roc_auc is 0.80, below 0.85"],
    "open": "http://mlflow.example/#/runs/1",
}


@pytest.fixture(autouse=True)
def mlflow_timeouts(monkeypatch):
    """notify sets these in its own process; here they must not reach other tests."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")


@pytest.fixture
def server():
    with channel() as started:
        yield started


@pytest.fixture
def webhook(server, monkeypatch):
    monkeypatch.setenv("TWOFOLD_WEBHOOK", server.address)
    return server


@pytest.fixture
def judged(mlflow_store, tmp_path):
    """Return a function that records a verdict for a pipeline run."""
    store = connect()
    run = store.client.create_run(experiment(store, "cells"))

    def record(pipeline_run, **changes):
        path = tmp_path / "verdict"
        path.write_text(json.dumps(VERDICT | {"run_id": run.info.run_id} | changes))
        tag_run_outcome(str(path), pipeline_run)
        return run.info.run_id

    return record


def end(run, state="SUCCEEDED", message=""):
    notify(state=state, message=message, register={"experiment": "cells"}, run=run)


def test_a_refused_model_is_reported_with_its_reasons(webhook, judged):
    judged("run-a")
    end("run-a")
    expected = (
        "Twofold: cells: Refused (pipeline run run-a). http://mlflow.example/#/runs/1\nroc_auc is 0.80, below 0.85"
    )
    assert webhook.texts == [expected]


@pytest.mark.parametrize(
    "changes",
    [
        {"passed": True, "headline": "Promoted: version 2 is the champion"},
        {"nothing_new": True, "headline": "Nothing new since version 1"},
        {"dvc_experiment": "short", "headline": "An experiment"},
    ],
)
def test_other_outcomes_are_only_logged(webhook, judged, capsys, changes):
    judged("run-a", **changes)
    end("run-a")
    assert webhook.texts == []
    assert f"{changes['headline']} (pipeline run run-a)" in capsys.readouterr().err


def test_the_same_model_judged_in_many_runs_has_a_verdict_for_each(webhook, judged):
    judged("run-a")
    judged("run-b", passed=True, headline="Promoted: version 2 is the champion")
    run = judged("run-c", reasons=['"界' * 10_000])
    for name in ("run-a", "run-b", "run-c"):
        end(name)
    assert [text.split("(")[1].split(")")[0] for text in webhook.texts] == ["pipeline run run-a", "pipeline run run-c"]
    tags = connect().client.get_run(run).data.tags
    assert max(map(len, tags.values())) <= 8000, "MLflow cuts what is longer"
    assert {key for key in tags if key.startswith(TAG)} == {f"{TAG}.run-a", f"{TAG}.run-b", f"{TAG}.run-c"}


@pytest.mark.parametrize("letter", ["x", "准", "é", "\N{GRINNING FACE}", '"', "\\", "\n"])
def test_long_reasons_in_any_script_are_cut_so_that_every_store_keeps_a_whole_tag(webhook, judged, letter):
    run = judged("run-a", reasons=["准确率 0.80", letter * 20_000], name="电池", headline="Refused")
    tag = connect().client.get_run(run).data.tags[f"{TAG}.run-a"]
    assert 4900 < len(tag.encode()) <= 5000
    assert "电池" in tag, "no escapes"
    end("run-a")
    (text,) = webhook.texts
    assert "电池: Refused" in text
    reasons = text.partition("/#/runs/1\n准确率 0.80\n")[2]
    assert reasons == letter * (len(reasons) - 2) + " …"
    assert len(reasons) > 1000


@pytest.mark.parametrize("value", ['{"headline": "Ref', "", "[]", "{}"])
def test_a_verdict_that_cannot_be_read_is_reported_too(webhook, judged, value):
    run = judged("run-a")
    connect().client.set_tag(run, f"{TAG}.run-a", value)
    with pytest.raises(SystemExit):
        end("run-a")
    (text,) = webhook.texts
    assert "run run-a succeeded, but its verdict cannot be read: " in text
    assert f"the tag {TAG}.run-a of run {run} in MLflow holds no verdict" in text


@pytest.mark.parametrize(
    ("state", "messages"),
    [("COMPLETE", 0), ("SUCCEEDED", 0), ("FAILED", 1), ("RUNNING", 1), ("CANCELED", 1)],  # RUNNING: its pod was killed
)
def test_every_name_of_success_is_recognized(webhook, judged, state, messages):
    judged("run-a", passed=True, headline="Promoted: version 2 is the champion")
    status = PipelineTaskFinalStatus(
        state=state, pipeline_job_resource_name="r", pipeline_task_name="t", error_code=None, error_message=None
    )
    notify_component.python_func(status=status, register={"experiment": "cells"}, run="run-a")
    assert len(webhook.texts) == messages


def test_the_experiment_of_the_run_in_mlflow_run_id_is_searched(webhook, judged, monkeypatch):
    judged("run-a")
    other = connect().client.create_run(experiment(connect(), "cells")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", other)
    notify(state="SUCCEEDED", message="", register={"experiment": "elsewhere"}, run="run-a")
    assert len(webhook.texts) == 1
    assert connect().client.get_experiment_by_name("elsewhere") is None, "notify creates nothing"


@pytest.mark.parametrize("variables", [["MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"], ["MLFLOW_EXPERIMENT_ID"]])
def test_kubeflows_mlflow_plugin_gives_notify_a_run_of_its_own_and_the_verdict_is_found(
    webhook, mlflow_store, monkeypatch, tmp_path, variables
):
    run, plugin = "run-a", MlflowPlugin(connect())
    plugin.start({"run_id": run, "display_name": "run", "plugins_input": {"mlflow": {"experiment_name": "of KFP"}}})
    tagged = plugin.environment(run, "register", within=("exit-handler-1",))["MLFLOW_RUN_ID"]
    path = tmp_path / "verdict"
    path.write_text(json.dumps(VERDICT | {"run_id": tagged}))
    tag_run_outcome(str(path), run)
    given = plugin.environment(run, "notify")
    assert given["MLFLOW_RUN_ID"] != tagged
    for name in variables:
        monkeypatch.setenv(name, given[name])
    end(run, "COMPLETE")
    assert len(webhook.texts) == 1
    assert "cells: Refused" in webhook.texts[0]


def test_a_run_that_succeeded_without_a_verdict_is_an_error(webhook, judged, capsys):
    judged("run-a")
    with pytest.raises(SystemExit) as failed:
        end("run-b")
    assert failed.value.code == 1
    assert "holds no verdict of it" in capsys.readouterr().err
    assert len(webhook.texts) == 1
    assert "succeeded, but its verdict cannot be read" in webhook.texts[0]


def test_without_a_webhook_the_log_says_that_no_message_was_sent(judged, monkeypatch, capsys):
    monkeypatch.delenv("TWOFOLD_WEBHOOK", raising=False)
    judged("run-a")
    end("run-a")
    assert "TWOFOLD_WEBHOOK is not set, so no message was sent" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [302, 404, 500])
def test_a_webhook_that_refuses_fails_the_task_and_stays_secret(webhook, answer, capsys):
    webhook.answer = answer
    with pytest.raises(SystemExit):
        end("7", "FAILED")
    output = "".join(capsys.readouterr())
    assert f"answered {answer}" in output
    assert SECRET not in output


@pytest.mark.parametrize(
    "address",
    [f"http://127.0.0.1:1/{SECRET}", f"ftp://host/{SECRET}", SECRET, f"http://[{SECRET}", f"http://a b/{SECRET}"],
)
def test_an_address_that_cannot_be_reached_fails_the_task_and_stays_secret(monkeypatch, address, capsys):
    monkeypatch.setenv("TWOFOLD_WEBHOOK", address)
    with pytest.raises(SystemExit):
        end("7", "FAILED")
    output = "".join(capsys.readouterr())
    assert "webhook" in output.lower()
    assert SECRET not in output
