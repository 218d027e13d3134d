import re

import pytest

from tests.support.kfp_server.case import assert_in_order, check_out, only
from tests.support.kfp_server.mlflow_plugin import MlflowPlugin
from tests.support.kfp_server.server import Fault
from tests.support.kfp_server.store import Frame
from twofold.kubeflow.server import run_watcher
from twofold.orchestration.params_file import STEPS
from twofold.tracking import store as tracking

LINK = r"http://127\.0\.0\.1:\d+/#/runs/details/[0-9a-f-]{36}\n"


def test_a_run_is_started_and_its_link_is_all_of_standard_output(server, cli):
    output = cli("submit")
    run = only(server.runs)
    assert re.fullmatch(LINK, output.out)
    assert run["run_id"] in output.out
    version = only(server.versions)
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert f"version {version['name']} (uploaded)" in output.err
    assert "GET /runs/" not in " ".join(server.calls), "without --wait the run is not followed"


def test_the_version_is_named_by_its_content_and_uploaded_once(server, cli):
    cli("submit")
    assert re.fullmatch(r"twofold-training-[0-9a-f]{16}", only(server.versions)["name"])
    assert "already on the server" in cli("submit").err
    cli("submit", "--cpu")
    assert len(server.versions) == 2
    assert len(server.pipelines) == 1
    assert len(server.runs) == 3
    with_places, without = (version["pipeline_spec"] for version in server.versions.values())
    assert "platform_spec" in with_places
    assert list(with_places["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]) == sorted([*STEPS, "force"])
    assert without != with_places


def test_the_commit_is_in_the_runs_description_and_a_tag_of_the_version_that_it_first_made(server, cli, monkeypatch):
    for commit, changed in ((40 * "a", "params.yaml"), (40 * "b", "none"), (None, "none")):
        check_out(monkeypatch, commit, changed)
        cli("submit")
    found = [
        re.search(r"^submitted by twofold kfp, commit (\S+), \w{32}$", run["description"])[1]
        for run in server.runs.values()
    ]
    assert found == [40 * "a" + "-dirty", 40 * "b", "unknown"]
    assert only(server.versions)["tags"] == {"commit": 40 * "a" + "-dirty"}


def test_parameters_are_the_runs_own_and_no_new_version(server, cli):
    cli("submit")
    cli("submit", "-p", "finetune_all.epochs=2", "-p", "ingest.source=s3://bucket/images", "--force", "again")
    first, second = (run["runtime_config"]["parameters"] for run in server.runs.values())
    assert first == {}
    assert sorted(second) == ["finetune_all", "force", "ingest"]
    assert second["finetune_all"]["epochs"] == 2
    assert second["finetune_all"]["batch_size"], "a section is complete"
    assert second["ingest"]["source"] == "s3://bucket/images"
    assert second["force"] == "again"
    assert len(server.versions) == 1


def test_a_wrong_parameter_reaches_no_server(server, cli):
    assert "finetune_all.epochs" in cli("submit", "-p", "finetune_all.epochs=none", status=1).err
    assert server.calls == []


def test_the_experiment_is_made_once_and_named_by_option_or_parameter(server, cli):
    cli("submit", "--experiment", "mine", "--name", "a name", "--service-account", "runner")
    cli("submit", "--experiment", "mine")
    cli("submit", "-p", "register.experiment=theirs")
    assert [one["display_name"] for one in server.experiments.values()] == ["Default", "mine", "theirs"]
    run = next(iter(server.runs.values()))
    assert run["display_name"] == "a name"
    assert run["service_account"] == "runner"


def test_an_archived_experiment_is_named(server, cli):
    only(server.experiments)["storage_state"] = "ARCHIVED"
    assert "'Default' is archived" in cli("submit", "--experiment", "Default", status=1).err
    assert server.runs == {}


def test_on_a_multi_user_server_each_namespace_has_its_own_pipelines_and_experiments(server, cli):
    server.multi_user = True
    server.create_pipeline({"display_name": "twofold-training", "namespace": "others"})
    cli("submit", "-n", "team")
    _, ours = server.pipelines.values()
    assert ours["namespace"] == "team"
    assert only(server.runs)["experiment_id"] == list(server.experiments)[-1]
    assert list(server.experiments.values())[-1]["namespace"] == "team"


def test_the_link_leads_to_the_ui(cli):
    output = cli("submit", "--ui-host", "https://kubeflow.example/pipeline/")
    assert output.out.startswith("https://kubeflow.example/pipeline/#/runs/details/")


SUCCESS = [
    Frame(None),
    Frame("PENDING", {"ingest": "PENDING"}),
    Frame("RUNNING", {"ingest": "RUNNING"}),
    Frame("RUNNING", {"ingest": "RUNNING"}),
    Frame("RUNNING", {"ingest": "SUCCEEDED", "train-head": "RUNNING"}),
    Frame("SUCCEEDED", {"ingest": "SUCCEEDED", "train-head": "SUCCEEDED", "notify": "SUCCEEDED"}),
]


def test_wait_prints_each_change_of_each_step_once_and_exits_with_the_result(server, cli):
    server.script = SUCCESS
    err = cli("submit", "--wait").err
    steps = [" ".join(line.split()[1:]) for line in err.splitlines() if re.match(r"\d\d:\d\d:\d\d  ", line)]
    assert [re.sub(r" in \d+ s", " in N s", line) for line in steps] == [
        "ingest running",
        "ingest succeeded in N s",
        "train_head running",
        "train_head succeeded in N s",
        "run succeeded",
    ]


def test_a_failed_run_names_its_step_and_exits_with_1(server, cli):
    server.script = [Frame("FAILED", {"ingest": "SUCCEEDED", "preprocess": "FAILED"}, "the pod was evicted")]
    err = cli("submit", "--wait", status=1).err
    assert_in_order(
        err, "preprocess    failed", "run           failed", "preprocess did not succeed; see the logs: http"
    )
    assert "error message of the server: the pod was evicted" in err


def test_a_run_that_was_terminated_names_the_step_that_was_killed(server, cli):
    tasks = {"ingest": "SUCCEEDED", "preprocess": "FAILED", "train-head": "RUNTIME_STATE_UNSPECIFIED"}
    server.script = [Frame("CANCELING", {"ingest": "SUCCEEDED", "preprocess": "RUNNING"}), Frame("CANCELED", tasks)]
    err = cli("submit", "--wait", status=1).err
    assert_in_order(err, "preprocess    running", "preprocess    failed", "run           canceled")
    assert "preprocess did not succeed" in err
    assert "train_head" not in err


def test_the_mlflow_experiment_is_sent_to_servers_that_know_plugins(server, cli, mlflow_store):
    server.plugin = MlflowPlugin(tracking.connect())
    cli("submit", "--experiment", "mine", "-p", "register.experiment=theirs")
    assert only(server.runs)["plugins_input"] == {"mlflow": {"experiment_name": "theirs"}}
    entries = only(server.runs)["plugins_output"]["mlflow"]["entries"]
    assert entries["experiment_id"]["value"] == tracking.experiment(tracking.connect(), "theirs")
    server.plugin = None
    for version in ("2.16.1", "unknown"):
        server.runs.clear()
        server.version = version
        cli("submit")
        assert "plugins_input" not in only(server.runs)


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_a_run_that_ended_otherwise_has_not_succeeded(server, cli, state):
    server.script = [Frame(state)]
    cli("submit", "--wait", status=1)


def test_a_timeout_is_named_and_stops_nothing(server, cli, monkeypatch):
    server.script = [Frame("RUNNING", {"ingest": "RUNNING"})]
    clock = iter(range(0, 100000, 1000))
    monkeypatch.setattr(run_watcher.time, "monotonic", lambda: next(clock))
    output = cli("submit", "--wait", "--timeout", "90m", status=1)
    assert f"timeout: after 90m the run is running and continues: {output.out.strip()}" in output.err
    assert server.changes()[-1] == "POST /runs"


def test_a_timeout_without_wait_is_wrong_usage(server, cli):
    assert "--timeout goes with --wait" in cli("submit", "--timeout", "1h", status=2).err
    assert server.calls == []


def test_a_connection_lost_while_following_is_retried_and_starts_nothing(server, cli):
    server.script = SUCCESS
    server.faults = [Fault("GET /runs/", lose="before", times=10), Fault("GET /runs/", status=500, times=3)]
    err = cli("submit", "--wait").err
    assert_in_order(err, "connection lost, retrying for 10m; the run continues", "connected again", "succeeded")
    assert err.count("connection lost") == 1
    assert server.changes().count("POST /runs") == 1


def test_a_connection_lost_for_too_long_ends_following_with_the_runs_link(server, cli, monkeypatch):
    monkeypatch.setattr(run_watcher, "CONNECTION_TIMEOUT", 0.0)
    server.faults = [Fault("GET /runs/", lose="before", times=99)]
    output = cli("submit", "--wait", status=1)
    assert f"the run continues: {output.out.strip()}" in output.err
    assert len(server.runs) == 1


def test_a_token_that_runs_out_while_following_ends_it_at_once(server, cli):
    server.faults = [Fault("GET /runs/", status=401)]
    output = cli("submit", "--wait", status=1)
    assert "(401)" in output.err
    assert f"no longer following the run: {output.out.strip()}" in output.err


def test_a_run_whose_creation_lost_its_answer_is_found_and_not_started_again(server, cli):
    server.faults = [Fault("POST /runs", lose="after")]
    output = cli("submit")
    assert only(server.runs)["run_id"] in output.out
    assert_in_order(output.err, "connection lost while the run was being created", "it exists\n", "started")


def test_a_run_that_was_not_created_is_tried_once_more(server, cli):
    server.faults = [Fault("POST /runs", lose="before")]
    output = cli("submit")
    assert only(server.runs)["run_id"] in output.out
    assert "it does not exist; trying once more" in output.err


def test_another_run_with_the_same_name_is_not_mistaken_for_ours(server, cli):
    cli("submit", "--name", "same")
    other = only(server.runs)["run_id"]
    server.faults = [Fault("POST /runs", lose="before")]
    output = cli("submit", "--name", "same")
    assert len(server.runs) == 2
    assert other not in output.out


def test_it_is_reported_if_it_is_unknown_whether_the_run_was_created(server, cli):
    server.faults = [Fault("POST /runs", lose="after"), Fault("GET /runs", lose="before", times=99)]
    assert "unknown whether the run" in (err := cli("submit", status=1).err)
    assert "check the Kubeflow UI before submitting it again" in err
    assert server.changes().count("POST /runs") == 1


def test_a_lost_answer_to_an_upload_makes_no_second_version(server, cli):
    server.faults = [Fault("POST /pipelines", lose="after"), Fault("upload_version", lose="after")]
    cli("submit")
    assert len(server.pipelines) == len(server.versions) == len(server.runs) == 1


def race(server, method):
    """Let somebody else create the same object a moment before us."""
    original = getattr(server, method)

    def twice(*arguments):
        setattr(server, method, original)
        original(*arguments)
        return original(*arguments)

    setattr(server, method, twice)


@pytest.mark.parametrize("method", ["create_pipeline", "upload_version", "create_experiment"])
def test_at_a_409_the_object_of_the_other_creator_is_used(server, cli, method):
    race(server, method)
    cli("submit")
    assert len(server.pipelines) == len(server.versions) == len(server.runs) == 1
    assert len(server.experiments) == 2


def test_a_repeated_409_is_reported(server, cli):
    server.faults = [Fault("POST /pipelines$", status=409, message="the name is taken", times=9)]
    assert "already exists (409): the name is taken" in cli("submit", status=1).err
    assert server.changes() == ["POST /pipelines"] * 2


def test_a_server_too_old_gets_nothing_uploaded(server, cli):
    server.version = "2.4.1"
    assert "2.4.1, too old" in cli("submit", status=1).err
    assert server.changes() == []


def test_stopping_to_follow_does_not_stop_the_run(server, cli, monkeypatch):
    server.script = [Frame("RUNNING")]

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_watcher.time, "sleep", interrupted)
    output = cli("submit", "--wait", status=130)
    assert f"no longer following; the run continues: {output.out.strip()}" in output.err
