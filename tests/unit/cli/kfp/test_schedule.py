import re
from datetime import UTC, datetime

import pytest

from tests.support.kfp_server.case import only, positions
from tests.support.kfp_server.server import Fault
from twofold.kubeflow.server import recurring_runs

APPLY = ("schedule", "apply", "nightly")
CRON = (*APPLY, "--cron", "0 3 * * 1-5")


def double(server):
    """A second one of the same name, as KFP allows."""
    first = next(iter(server.recurring.values()))
    return server._add(server.recurring, "recurring_run_id", {**first})


def test_a_schedule_is_made_as_the_server_needs_it(server, cli):
    out = cli(*CRON, "-p", "finetune_all.epochs=2").out
    made = only(server.recurring)
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * 1-5"}}
    assert made["no_catchup"] is True
    assert made["max_concurrency"] == "1"
    assert made["status"] == "ENABLED"
    assert made["display_name"] == "nightly"
    assert made["runtime_config"]["parameters"]["finetune_all"]["epochs"] == 2
    assert made["pipeline_version_reference"]["pipeline_version_id"] == only(server.versions)["pipeline_version_id"]
    assert "schedule nightly: made, enabled" in out


def test_what_will_be_is_said_before_anything_is_changed(server, cli):
    server.faults = [Fault("POST", status=403, times=9)]
    said = cli(*CRON, status=1)
    parts = [
        "for KFP: 0 0 3 * * 1-5 (seconds first), read by the server in UTC",
        "CRON_SCHEDULE_TIMEZONE",
        "next runs:",
    ]
    assert positions(said.out, parts) == sorted(positions(said.out, parts))
    times = re.findall(r"(\w{3} \d{4}-\d\d-\d\d \d\d:\d\d) UTC, here ", said.out)
    assert len(times) == 3
    for text in times:
        time = datetime.strptime(text, "%a %Y-%m-%d %H:%M").replace(tzinfo=UTC)
        assert time > datetime.now(UTC)
        assert (time.hour, time.minute) == (3, 0)
        assert time.isoweekday() <= 5
    assert "forbidden (403)" in said.err


def test_times_are_given_for_the_zone_that_the_server_reads_cron_in(cli):
    out = cli(*APPLY, "--cron", "30 12 * * *", "--server-timezone", "Asia/Kolkata", "--dry-run").out
    assert "read by the server in Asia/Kolkata" in out
    assert len(re.findall(r" 07:00 UTC, here", out)) == 3
    assert "CRON_SCHEDULE_TIMEZONE" not in out


def test_every_is_a_period_in_seconds(server, cli):
    out = cli(*APPLY, "--every", "7d", "--end", "2099-01-01T00:00+01:00").out
    schedule = only(server.recurring)["trigger"]["periodic_schedule"]
    assert schedule == {"interval_second": "604800", "end_time": "2098-12-31T23:00:00+00:00"}
    assert "every 1w, until 2098-12-31 23:00 UTC" in out


def test_applied_again_it_is_left_alone(server, cli):
    cli(*CRON)
    before, calls = dict(server.recurring), len(server.changes())
    assert "schedule nightly: unchanged\n" in cli(*CRON).out
    assert server.recurring == before
    assert len(server.changes()) == calls


@pytest.mark.parametrize(
    "words",
    [
        (*APPLY, "--cron", "0 4 * * 1-5"),
        (*APPLY, "--every", "24h"),
        (*CRON, "-p", "finetune_all.epochs=2"),
        (*CRON, "--force", "again"),
        (*CRON, "--experiment", "another"),
        (*CRON, "--service-account", "another"),
        (*CRON, "--end", "2099-01-01T00:00Z"),
        (*CRON, "--cpu"),
    ],
)
def test_any_change_replaces_it_first_the_new_one_then_the_old(server, cli, words):
    cli(*CRON)
    old, calls = only(server.recurring), len(server.changes())
    assert "schedule nightly: replaced, enabled" in cli(*words).out
    new = only(server.recurring)
    assert new["recurring_run_id"] != old["recurring_run_id"]
    changes = [call for call in server.changes()[calls:] if "recurringruns" in call]
    assert changes == ["POST /recurringruns", f"DELETE /recurringruns/{old['recurring_run_id']}"]
    assert "unchanged" in cli(*words).out


def test_a_version_that_was_removed_meanwhile_is_uploaded_again(server, cli):
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
    out = cli(*APPLY, "--every", "24h").out
    assert "replaced, paused" in out
    assert "next runs, were it resumed now:" in out
    assert only(server.recurring)["status"] == "DISABLED"
    assert "unchanged, paused" in cli(*APPLY, "--every", "24h").out


def test_duplicates_are_removed_and_that_is_said(server, cli):
    cli(*CRON)
    double(server)
    double(server)
    out = cli(*CRON).out
    assert "duplicates removed, enabled (2 of that name before)" in out or "duplicates removed, enabled" in out
    assert len(server.recurring) == 1
    double(server)
    assert "replaced, enabled (2 of that name before)" in cli(*APPLY, "--every", "24h").out
    assert len(server.recurring) == 1


def test_of_duplicates_the_one_that_runs_is_kept(server, cli):
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
    for words in (CRON, ("schedule", "delete", "nightly"), ("schedule", "pause", "nightly")):
        assert (
            f"does not run twofold-training (recurring run {stranger['recurring_run_id']})" in cli(*words, status=1).err
        )
    assert len(server.changes()) == before


@pytest.mark.parametrize("words", [CRON, (*APPLY, "--every", "24h")])
def test_a_dry_run_changes_nothing(server, cli, words):
    assert "would be made, enabled; nothing done (--dry-run)" in cli(*words, "--dry-run").out
    assert server.changes() == []
    cli(*CRON)
    before = len(server.changes())
    cli(*words, "--dry-run")
    for word in ("pause", "delete"):
        assert "nothing done (--dry-run)" in cli("schedule", word, "nightly", "--dry-run").out
    assert len(server.changes()) == before


def test_a_failure_before_the_new_one_leaves_the_old_one(server, cli):
    cli(*CRON)
    old = only(server.recurring)
    server.faults = [Fault("POST /recurringruns$", lose="before", times=9)]
    assert "not made, what was there stays" in cli(*APPLY, "--every", "24h", status=1).err
    server.faults = [Fault("POST /recurringruns$", status=500)]
    cli(*APPLY, "--every", "24h", status=1)
    assert only(server.recurring) == old
    assert old["status"] == "ENABLED"


def test_a_failure_after_the_new_one_says_that_both_may_run_and_the_next_time_clears_up(server, cli):
    cli(*CRON)
    server.faults = [Fault("DELETE", status=500)]
    err = cli(*APPLY, "--every", "24h", status=1).err
    assert "1 of that name that should go may still run; do it again" in err
    assert len(server.recurring) == 2
    assert "duplicates removed" in cli(*APPLY, "--every", "24h").out
    assert "periodic_schedule" in only(server.recurring)["trigger"]


def test_a_lost_answer_makes_no_second_schedule(server, cli):
    server.faults = [Fault("POST /recurringruns$", lose="after")]
    err = cli(*CRON).err
    assert "it was\n" in err
    assert only(server.recurring)["status"] == "ENABLED"
    server.faults = [Fault("POST /recurringruns$", lose="before"), Fault("DELETE", lose="after")]
    assert "it was not; trying once more" in cli(*APPLY, "--every", "24h").err
    assert "periodic_schedule" in only(server.recurring)["trigger"]


def test_pause_resume_and_delete_by_name(server, cli):
    cli(*CRON)
    made = only(server.recurring)
    assert cli("schedule", "pause", "nightly").out == "schedule nightly: paused\n"
    assert made["status"] == "DISABLED"
    assert cli("schedule", "pause", "nightly").out == "schedule nightly: already paused\n"
    assert cli("schedule", "resume", "nightly").out == "schedule nightly: enabled\n"
    assert made["status"] == "ENABLED"
    double(server)
    assert cli("schedule", "delete", "nightly").out == "schedule nightly: deleted (2 of that name)\n"
    assert server.recurring == {}


def test_pause_stops_all_of_a_name_and_resume_refuses_to_start_them_all(server, cli):
    cli(*CRON)
    double(server)
    cli("schedule", "pause", "nightly")
    assert {one["status"] for one in server.recurring.values()} == {"DISABLED"}
    assert "2 of that name would run" in cli("schedule", "resume", "nightly", status=1).err.replace(" all", "")


@pytest.mark.parametrize("word", ["pause", "resume", "delete"])
def test_a_name_that_is_not_there_is_an_error_with_those_that_are(server, cli, word):
    assert "schedule nightli: there is none; nor any other" in cli("schedule", word, "nightli", status=1).err
    cli(*CRON)
    assert "there is none; there are nightly" in cli("schedule", word, "nightli", status=1).err
    assert len(server.recurring) == 1


def test_the_list_shows_all_pages_of_this_pipelines_schedules(server, cli):
    assert cli("schedule", "list").out == ""
    cli(*CRON)
    cli("schedule", "apply", "weekly", "--every", "7d")
    cli("schedule", "pause", "weekly")
    for _ in range(120):
        double(server)["pipeline_version_reference"] = {"pipeline_id": "x", "pipeline_version_id": "y"}
    said = cli("schedule", "list")
    head, *rows = said.out.splitlines()
    assert head.split() == ["NAME", "STATE", "WHEN", "MADE", "ID"]
    assert [re.split(r"  +", row)[:3] for row in rows] == [
        ["nightly", "enabled", "cron 0 3 * * 1-5"],
        ["weekly", "paused", "every 1w"],
    ]
    assert "2 of twofold-training; 120 of others not shown" in said.err


def test_many_users_have_schedules_of_their_own(server, cli):
    server.multi_user = True
    cli(*CRON, "-n", "one")
    cli(*CRON, "-n", "two")
    assert [made["namespace"] for made in server.recurring.values()] == ["one", "two"]
    cli("schedule", "delete", "nightly", "-n", "one")
    assert only(server.recurring)["namespace"] == "two"


def test_a_period_whose_start_is_past_would_run_at_once_and_is_refused(server, cli):
    words = (*APPLY, "--every", "24h", "--start", "2020-01-01T00:00Z")
    assert "--start 2020-01-01T00:00Z is past" in cli(*words, status=1).err
    assert server.changes() == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (APPLY, "one of the arguments --cron --every is required"),
        ((*CRON, "--every", "1h"), "not allowed with"),
        ((*APPLY, "--cron", "0 0 3 * * 1"), "leave out the '0'"),
        ((*APPLY, "--every", "often"), "30m, 24h or 7d"),
        ((*CRON, "--end", "2099-01-01"), "in which time zone?"),
        ((*CRON, "--end", "soon"), "write it as"),
        ((*CRON, "--server-timezone", "Mars/Base"), "no time zone known here"),
    ],
)
def test_wrong_usage_ends_with_2_and_reaches_no_server(server, cli, words, says):
    assert says in cli(*words, status=2).err
    assert server.calls == []


def test_an_end_before_the_first_run_is_refused(server, cli):
    assert "not one run before --end" in cli(*CRON, "--end", "2020-01-01T00:00Z", status=1).err
    assert server.calls == []


def test_a_schedule_somebody_made_by_hand_is_shown_as_it_is(server, cli):
    cli(*CRON)
    only(server.recurring)["trigger"] = {"cron_schedule": {"cron": "30 0 3 * * 1-5"}}
    assert "KFP's cron 30 0 3 * * 1-5" in cli("schedule", "list").out
    assert recurring_runs.describe_trigger(type("One", (), {"trigger": None})) == "never"
