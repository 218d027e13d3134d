import re
from datetime import UTC, datetime

import pytest

from tests.support.kfp_server.case import assert_in_order, only
from tests.support.kfp_server.server import Fault
from twofold.kubeflow.server import recurring_runs

APPLY = ("schedule", "apply", "nightly")
CRON = (*APPLY, "--cron", "0 3 * * 1-5")
EVERY = (*APPLY, "--every", "24h")


def double(server):
    """Add a second recurring run with the same name, as KFP allows."""
    return server._add(server.recurring, "recurring_run_id", next(iter(server.recurring.values())))


def test_a_schedule_is_created_as_the_server_needs_it(server, cli):
    out = cli(*CRON, "-p", "finetune_all.epochs=2").out
    created = only(server.recurring)
    assert created["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1-5"}}
    assert created["no_catchup"] is True
    assert created["max_concurrency"] == "1"
    assert created["status"] == "ENABLED"
    assert created["display_name"] == "nightly"
    assert created["runtime_config"]["parameters"]["finetune_all"]["epochs"] == 2
    assert created["pipeline_version_reference"]["pipeline_version_id"] == only(server.versions)["pipeline_version_id"]
    assert "schedule nightly: created, enabled" in out


def test_another_mlflow_experiment_is_another_schedule(server, cli):
    """Its name is in the version or the arguments; the experiment in Kubeflow may stay the same."""
    for name in ("cells", "theirs"):
        cli(*CRON, "--experiment", "mine", "-p", f"register.experiment={name}")
        assert only(server.recurring)["plugins_input"] == {"mlflow": {"experiment_name": name}}
    server.version = "2.16.0"
    cli("schedule", "delete", "nightly")
    cli(*CRON)
    assert "plugins_input" not in only(server.recurring)


def test_the_next_runs_are_printed_before_anything_is_changed(server, cli):
    server.faults = [Fault("POST", status=403, times=9)]
    output = cli(*CRON, status=1)
    cron = "for KFP: 0 0 3 * * 1-5 (seconds first), read by the server in UTC"
    assert_in_order(output.out, cron, "CRON_SCHEDULE_TIMEZONE", "next runs:")
    times = re.findall(r"(\w{3} \d{4}-\d\d-\d\d \d\d:\d\d) UTC, here ", output.out)
    assert len(times) == 3
    for text in times:
        time = datetime.strptime(text, "%a %Y-%m-%d %H:%M").replace(tzinfo=UTC)
        assert time > datetime.now(UTC)
        assert (time.hour, time.minute) == (3, 0)
        assert time.isoweekday() <= 5
    assert "forbidden (403)" in output.err


def test_next_runs_are_computed_in_the_servers_time_zone(cli):
    out = cli(*APPLY, "--cron", "30 12 * * *", "--server-timezone", "Asia/Kolkata", "--dry-run").out
    assert "read by the server in Asia/Kolkata" in out
    assert len(re.findall(r" 07:00 UTC, here", out)) == 3
    assert "CRON_SCHEDULE_TIMEZONE" not in out


def test_every_is_an_interval_in_seconds(server, cli):
    out = cli(*APPLY, "--every", "7d", "--end", "2099-01-01T00:00+01:00").out
    schedule = only(server.recurring)["trigger"]["periodic_schedule"]
    assert schedule == {"interval_second": "604800", "end_time": "2098-12-31T23:00:00+00:00"}
    assert "every 1w, until 2098-12-31 23:00 UTC" in out


def test_applied_again_it_is_unchanged(server, cli):
    cli(*CRON)
    before, calls = dict(server.recurring), len(server.changes())
    assert "schedule nightly: unchanged\n" in cli(*CRON).out
    assert server.recurring == before
    assert len(server.changes()) == calls


@pytest.mark.parametrize(
    "words",
    [
        (*APPLY, "--cron", "0 4 * * 1-5"),
        EVERY,
        (*CRON, "-p", "finetune_all.epochs=2"),
        (*CRON, "--force", "again"),
        (*CRON, "--experiment", "another"),
        (*CRON, "--service-account", "another"),
        (*CRON, "--end", "2099-01-01T00:00Z"),
        (*CRON, "--cpu"),
    ],
)
def test_any_change_creates_a_new_one_and_then_deletes_the_old_one(server, cli, words):
    cli(*CRON)
    old, calls = only(server.recurring), len(server.changes())
    assert "schedule nightly: replaced, enabled" in cli(*words).out
    new = only(server.recurring)
    assert new["recurring_run_id"] != old["recurring_run_id"]
    changes = [call for call in server.changes()[calls:] if "recurringruns" in call]
    assert changes == ["POST /recurringruns", f"DELETE /recurringruns/{old['recurring_run_id']}"]
    assert "unchanged" in cli(*words).out


def test_a_version_that_was_deleted_is_uploaded_again(server, cli):
    cli(*CRON)
    server.versions.clear()
    assert "replaced" in cli(*CRON).out
    server.versions.clear()
    cli("submit")  # which uploads the same bytes anew, as another version
    assert "replaced" in cli(*CRON).out
    assert only(server.recurring)["pipeline_version_reference"]["pipeline_version_id"] in server.versions


def test_a_paused_schedule_stays_paused_when_it_is_replaced(server, cli):
    cli(*CRON)
    cli("schedule", "pause", "nightly")
    out = cli(*EVERY).out
    assert "replaced, paused" in out
    assert "next runs if it were resumed now:" in out
    assert only(server.recurring)["status"] == "DISABLED"
    assert "unchanged, paused" in cli(*EVERY).out


def test_duplicates_are_removed_and_reported(server, cli):
    cli(*CRON)
    double(server)
    double(server)
    assert "duplicates removed, enabled (2 with that name before)" in cli(*CRON).out
    assert len(server.recurring) == 1
    double(server)
    assert "replaced, enabled (2 with that name before)" in cli(*EVERY).out
    assert len(server.recurring) == 1


def test_of_duplicates_the_enabled_one_is_kept(server, cli):
    cli(*CRON)
    cli("schedule", "pause", "nightly")
    running = double(server)
    running |= {"mode": "ENABLE", "status": "ENABLED"}
    cli(*CRON)
    assert only(server.recurring)["recurring_run_id"] == running["recurring_run_id"]


def test_one_of_another_pipeline_is_never_touched(server, cli):
    cli(*CRON)
    stranger = double(server)
    stranger["pipeline_version_reference"] = {"pipeline_id": "x", "pipeline_version_id": "y"}
    before = len(server.changes())
    message = f"does not run twofold-training (recurring run {stranger['recurring_run_id']})"
    for words in (CRON, ("schedule", "delete", "nightly"), ("schedule", "pause", "nightly")):
        assert message in cli(*words, status=1).err
    assert len(server.changes()) == before


@pytest.mark.parametrize("words", [CRON, EVERY])
def test_a_dry_run_changes_nothing(server, cli, words):
    assert "would be created, enabled; nothing changed (--dry-run)" in cli(*words, "--dry-run").out
    assert server.changes() == []
    cli(*CRON)
    before = len(server.changes())
    cli(*words, "--dry-run")
    for word in ("pause", "delete"):
        assert "nothing changed (--dry-run)" in cli("schedule", word, "nightly", "--dry-run").out
    assert len(server.changes()) == before


def test_a_failure_before_the_new_one_leaves_the_old_one(server, cli):
    cli(*CRON)
    old = only(server.recurring)
    server.faults = [Fault("POST /recurringruns$", lose="before", times=9)]
    assert "not created; existing recurring runs are unchanged" in cli(*EVERY, status=1).err
    server.faults = [Fault("POST /recurringruns$", status=500)]
    cli(*EVERY, status=1)
    assert only(server.recurring) == old
    assert old["status"] == "ENABLED"


def test_a_failure_after_the_new_one_says_that_both_may_run_and_the_next_call_cleans_up(server, cli):
    cli(*CRON)
    server.faults = [Fault("DELETE", status=500)]
    assert "may still run: 1; repeat the command" in cli(*EVERY, status=1).err
    assert len(server.recurring) == 2
    assert "duplicates removed" in cli(*EVERY).out
    assert "periodic_schedule" in only(server.recurring)["trigger"]


def test_a_lost_answer_makes_no_second_schedule(server, cli):
    server.faults = [Fault("POST /recurringruns$", lose="after")]
    assert "it exists\n" in cli(*CRON).err
    assert only(server.recurring)["status"] == "ENABLED"
    server.faults = [Fault("POST /recurringruns$", lose="before"), Fault("DELETE", lose="after")]
    assert "it does not exist; trying once more" in cli(*EVERY).err
    assert "periodic_schedule" in only(server.recurring)["trigger"]


def test_pause_resume_and_delete_by_name(server, cli):
    cli(*CRON)
    created = only(server.recurring)
    assert cli("schedule", "pause", "nightly").out == "schedule nightly: paused\n"
    assert created["status"] == "DISABLED"
    assert cli("schedule", "pause", "nightly").out == "schedule nightly: already paused\n"
    assert cli("schedule", "resume", "nightly").out == "schedule nightly: enabled\n"
    assert created["status"] == "ENABLED"
    double(server)
    assert cli("schedule", "delete", "nightly").out == "schedule nightly: deleted (2 with that name)\n"
    assert server.recurring == {}


def test_pause_pauses_all_with_a_name_and_resume_refuses_to_enable_several(server, cli):
    cli(*CRON)
    double(server)
    cli("schedule", "pause", "nightly")
    assert {one["status"] for one in server.recurring.values()} == {"DISABLED"}
    assert "2 with that name would all run" in cli("schedule", "resume", "nightly", status=1).err


@pytest.mark.parametrize("word", ["pause", "resume", "delete"])
def test_an_unknown_name_is_an_error_that_lists_the_existing_names(server, cli, word):
    assert "schedule nightli: not found; existing schedules: none" in cli("schedule", word, "nightli", status=1).err
    cli(*CRON)
    assert "not found; existing schedules: nightly" in cli("schedule", word, "nightli", status=1).err
    assert len(server.recurring) == 1


def test_the_list_shows_all_pages_of_this_pipelines_schedules(server, cli):
    assert cli("schedule", "list").out == ""
    cli(*CRON)
    cli("schedule", "apply", "weekly", "--every", "7d")
    cli("schedule", "pause", "weekly")
    for _ in range(120):
        double(server)["pipeline_version_reference"] = {"pipeline_id": "x", "pipeline_version_id": "y"}
    output = cli("schedule", "list")
    head, *rows = output.out.splitlines()
    assert head.split() == ["NAME", "STATE", "WHEN", "CREATED", "COMMIT", "ID"]
    assert [re.split(r"  +", row)[:3] for row in rows] == [
        ["nightly", "enabled", "cron 0 3 * * 1-5"],
        ["weekly", "paused", "every 1w"],
    ]
    assert "2 of twofold-training; 120 of other pipelines are not shown" in output.err


def test_on_a_multi_user_server_each_namespace_has_its_own_schedules(server, cli):
    server.multi_user = True
    cli(*CRON, "-n", "one")
    cli(*CRON, "-n", "two")
    assert [created["namespace"] for created in server.recurring.values()] == ["one", "two"]
    cli("schedule", "delete", "nightly", "-n", "one")
    assert only(server.recurring)["namespace"] == "two"


def test_an_interval_whose_start_is_past_is_refused_because_it_would_run_at_once(server, cli):
    words = (*APPLY, "--every", "24h", "--start", "2020-01-01T00:00Z")
    assert "--start 2020-01-01T00:00Z is in the past" in cli(*words, status=1).err
    assert server.changes() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (APPLY, "one of the arguments --cron --every is required"),
        ((*CRON, "--every", "1h"), "not allowed with"),
        ((*APPLY, "--cron", "0 0 3 * * 1"), "leave out the '0'"),
        ((*APPLY, "--every", "often"), "30m, 24h or 7d"),
        ((*CRON, "--end", "2099-01-01"), "no time zone; write 2099-01-01Z for UTC"),
        ((*CRON, "--end", "soon"), "write it as"),
        ((*CRON, "--server-timezone", "Mars/Base"), "unknown time zone"),
    ],
)
def test_wrong_usage_ends_with_2_and_reaches_no_server(server, cli, words, message):
    assert message in cli(*words, status=2).err
    assert server.calls == []


def test_an_end_before_the_first_run_is_refused(server, cli):
    assert "no run would start before --end" in cli(*CRON, "--end", "2020-01-01T00:00Z", status=1).err
    assert server.calls == []


def test_a_schedule_created_by_other_means_is_listed_as_it_is(server, cli):
    cli(*CRON)
    only(server.recurring)["trigger"] = {"cron_schedule": {"cron": "30 0 3 * * 1-5"}}
    assert "KFP's cron 30 0 3 * * 1-5" in cli("schedule", "list").out
    assert recurring_runs.describe_trigger(type("One", (), {"trigger": None})) == "never"
