import re

import pytest

from tests.support.kfp_server.case import only, positions
from tests.support.kfp_server.server import Fault
from tests.support.kfp_server.store import Frame
from twofold.kubeflow.server import run_watcher
from twofold.orchestration.params_file import STEPS

LINK = r"http://127\.0\.0\.1:\d+/#/runs/details/[0-9a-f-]{36}\n"


def test_a_run_is_started_and_its_link_is_all_of_standard_output(server, cli):
    said = cli("submit")
    run = only(server.runs)
    assert re.fullmatch(LINK, said.out)
    assert run["run_id"] in said.out
    version = only(server.versions)
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert f"version {version['name']} (uploaded)" in said.err
    assert "GET /runs/" not in " ".join(server.calls), "without --wait nobody looks at the run"


def test_the_version_is_named_by_its_content_and_uploaded_once(server, cli):
    cli("submit")
    assert re.fullmatch(r"twofold-training-[0-9a-f]{16}", only(server.versions)["name"])
    assert "there already" in cli("submit").err
    cli("submit", "--cpu")
    assert len(server.versions) == 2
    assert len(server.pipelines) == 1
    assert len(server.runs) == 3
    with_places, without = (version["pipeline_spec"] for version in server.versions.values())
    assert "platform_spec" in with_places
    assert list(with_places["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]) == sorted([*STEPS, "force"])
    assert without != with_places


def test_parameters_are_the_runs_own_and_no_new_version(server, cli):
    cli("submit")
    cli("submit", "-p", "finetune_all.epochs=2", "-p", "ingest.source=s3://bucket/images", "--force", "again")
    first, second = (run["runtime_config"]["parameters"] for run in server.runs.values())
    assert first == {}
    assert sorted(second) == ["finetune_all", "force", "ingest"]
    assert second["finetune_all"]["epochs"] == 2
    assert second["finetune_all"]["batch_size"], "a section is given whole"
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


def test_many_users_have_pipelines_and_experiments_of_their_own(server, cli):
    server.multi_user = True
    server.create_pipeline({"display_name": "twofold-training", "namespace": "others"})
    cli("submit", "-n", "team")
    _, mine = server.pipelines.values()
    assert mine["namespace"] == "team"
    assert only(server.runs)["experiment_id"] == list(server.experiments)[-1]
    assert list(server.experiments.values())[-1]["namespace"] == "team"


def test_the_link_leads_to_the_ui(cli):
    said = cli("submit", "--ui-host", "https://kubeflow.example/pipeline/")
    assert said.out.startswith("https://kubeflow.example/pipeline/#/runs/details/")


SUCCESS = [
    Frame(None),
    Frame("PENDING", {"ingest": "PENDING"}),
    Frame("RUNNING", {"ingest": "RUNNING"}),
    Frame("RUNNING", {"ingest": "RUNNING"}),
    Frame("RUNNING", {"ingest": "SUCCEEDED", "train-head": "RUNNING"}),
    Frame("SUCCEEDED", {"ingest": "SUCCEEDED", "train-head": "SUCCEEDED", "notify": "SUCCEEDED"}),
]


def test_wait_tells_each_change_of_each_step_once_and_exits_by_the_result(server, cli):
    server.script = SUCCESS
    err = cli("submit", "--wait").err
    steps = [line.split(maxsplit=1)[1] for line in err.splitlines() if re.match(r"\d\d:\d\d:\d\d  ", line)]
    steps = [" ".join(line.split()) for line in steps]
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
    places = positions(
        err, ["preprocess    failed", "run           failed", "preprocess did not succeed; the logs: http"]
    )
    assert places == sorted(places)
    assert "the server says: the pod was evicted" in err


@pytest.mark.parametrize("state", ["CANCELED", "SKIPPED"])
def test_a_run_that_ended_otherwise_has_not_succeeded(server, cli, state):
    server.script = [Frame(state)]
    cli("submit", "--wait", status=1)


def test_a_timeout_is_named_and_stops_nothing(server, cli, monkeypatch):
    server.script = [Frame("RUNNING", {"ingest": "RUNNING"})]
    clock = iter(range(0, 100000, 1000))
    monkeypatch.setattr(run_watcher.time, "monotonic", lambda: next(clock))
    said = cli("submit", "--wait", "--timeout", "90m", status=1)
    assert f"timeout: the run is running after 90m, and goes on: {said.out.strip()}" in said.err
    assert server.changes()[-1] == "POST /runs"


def test_a_timeout_without_wait_is_wrong_usage(server, cli):
    assert "--timeout goes with --wait" in cli("submit", "--timeout", "1h", status=2).err
    assert server.calls == []


def test_a_connection_lost_while_following_is_borne_and_starts_nothing(server, cli):
    server.script = SUCCESS
    server.faults = [Fault("GET /runs/", lose="before", times=10), Fault("GET /runs/", status=500, times=3)]
    err = cli("submit", "--wait").err
    places = positions(err, ["connection lost, trying again for 10m; the run goes on", "connected again", "succeeded"])
    assert places == sorted(places)
    assert err.count("connection lost") == 1
    assert server.changes().count("POST /runs") == 1


def test_a_connection_lost_for_too_long_is_given_up_with_the_runs_link(server, cli, monkeypatch):
    monkeypatch.setattr(run_watcher, "PATIENCE", 0.0)
    server.faults = [Fault("GET /runs/", lose="before", times=99)]
    said = cli("submit", "--wait", status=1)
    assert f"the run goes on: {said.out.strip()}" in said.err
    assert len(server.runs) == 1


def test_a_token_that_runs_out_while_following_ends_it_at_once(server, cli):
    server.faults = [Fault("GET /runs/", status=401)]
    said = cli("submit", "--wait", status=1)
    assert "(401)" in said.err
    assert f"no longer followed: {said.out.strip()}" in said.err


def test_a_run_whose_creation_lost_its_answer_is_found_and_not_started_again(server, cli):
    server.faults = [Fault("POST /runs", lose="after")]
    said = cli("submit")
    assert only(server.runs)["run_id"] in said.out
    places = positions(said.err, ["connection lost while the run was being created", "it was\n", "started"])
    assert places == sorted(places)


def test_a_run_that_was_not_created_is_tried_once_more(server, cli):
    server.faults = [Fault("POST /runs", lose="before")]
    said = cli("submit")
    assert only(server.runs)["run_id"] in said.out
    assert "it was not; trying once more" in said.err


def test_another_run_of_the_same_name_is_not_taken_for_ours(server, cli):
    cli("submit", "--name", "same")
    other = only(server.runs)["run_id"]
    server.faults = [Fault("POST /runs", lose="before")]
    said = cli("submit", "--name", "same")
    assert len(server.runs) == 2
    assert other not in said.out


def test_it_is_said_where_nobody_knows_whether_the_run_was_created(server, cli):
    server.faults = [Fault("POST /runs", lose="after"), Fault("GET /runs", lose="before", times=99)]
    assert "is not known: look for it in the UI before submitting again" in cli("submit", status=1).err
    assert server.changes().count("POST /runs") == 1


def test_a_lost_answer_to_an_upload_makes_no_second_version(server, cli):
    server.faults = [Fault("POST /pipelines", lose="after"), Fault("upload_version", lose="after")]
    cli("submit")
    assert len(server.pipelines) == len(server.versions) == len(server.runs) == 1


def race(server, method):
    """Somebody else makes the same a moment before us."""
    plain = getattr(server, method)

    def beaten(*arguments):
        setattr(server, method, plain)
        plain(*arguments)
        return plain(*arguments)

    setattr(server, method, beaten)


@pytest.mark.parametrize("method", ["create_pipeline", "upload_version", "create_experiment"])
def test_a_409_means_that_somebody_was_quicker_and_theirs_is_used(server, cli, method):
    race(server, method)
    cli("submit")
    assert len(server.pipelines) == len(server.versions) == len(server.runs) == 1
    assert len(server.experiments) == 2


def test_a_409_that_stays_is_told(server, cli):
    server.faults = [Fault("POST /pipelines$", status=409, message="the name is taken", times=9)]
    assert "there is one already (409): the name is taken" in cli("submit", status=1).err
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
    said = cli("submit", "--wait", status=130)
    assert f"no longer followed; the run goes on: {said.out.strip()}" in said.err
