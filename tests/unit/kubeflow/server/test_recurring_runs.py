"""Schedules that are applied by two at once, and runs that KFP would make up for."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.kfp_server.case import only
from tests.support.kfp_server.server import Fault
from twofold.kubeflow.server import recurring_runs

APPLY = ("schedule", "apply", "nightly")
CRON = (*APPLY, "--cron", "0 3 * * *")


def meanwhile(monkeypatch, server, *, first):
    """Somebody else makes one of that name, just before or just after ours is made."""
    plain = recurring_runs.create

    def make(client, wanted, *rest, **more):
        if first:
            theirs(server)
        made = plain(client, wanted, *rest, **more)
        if not first:
            theirs(server)
        return made

    monkeypatch.setattr(recurring_runs, "create", make)


def theirs(server):
    some = next(iter(server.recurring.values()))
    server._add(server.recurring, "recurring_run_id", {**some, "description": "theirs"})


@pytest.mark.parametrize("first", [True, False])
def test_of_two_who_apply_at_once_the_later_ones_stays_and_the_other_is_told(server, cli, monkeypatch, first):
    cli(*CRON)
    meanwhile(monkeypatch, server, first=first)
    said = cli(*APPLY, "--every", "24h", status=int(not first))
    assert (only(server.recurring)["description"] == "theirs") is not first
    assert ("theirs stays" in said.err) is not first
    assert ("replaced" in said.out) is first


def test_one_that_the_server_does_not_show_yet_is_not_taken_for_removed(server, cli, monkeypatch):
    cli(*CRON)
    plain, old = recurring_runs.find_by_name, list(server.recurring)
    monkeypatch.setattr(
        recurring_runs, "find_by_name", lambda *words: [one for one in plain(*words) if one.recurring_run_id in old]
    )
    assert "replaced" in cli(*APPLY, "--every", "24h").out
    assert "periodic_schedule" in only(server.recurring)["trigger"]


def test_a_break_after_the_new_one_is_made_says_that_the_old_one_may_run(server, cli, monkeypatch):
    cli(*CRON)
    plain = recurring_runs.create

    def make(*words, **more):
        made = plain(*words, **more)
        server.faults = [Fault("GET /recurringruns", status=500)]
        return made

    monkeypatch.setattr(recurring_runs, "create", make)
    err = cli(*APPLY, "--every", "24h", status=1).err
    assert "the new one is made, 1 of that name that should go may still run; do it again" in err
    assert len(server.recurring) == 2
    monkeypatch.undo()


@pytest.mark.parametrize("when", [("--cron", "0 3 * * *"), ("--every", "24h")])
def test_a_start_since_which_a_time_was_missed_is_refused(server, cli, when):
    past = datetime.now(UTC) - timedelta(days=2)
    err = cli(*APPLY, *when, "--start", f"{past:%Y-%m-%dT%H:%MZ}", status=1).err
    assert "is past: KFP would run at once" in err
    assert server.changes() == []


def test_a_start_since_which_none_was_missed_is_taken(server, cli):
    past = datetime.now(UTC) - timedelta(hours=1)
    cli(*APPLY, "--every", "24h", "--start", f"{past:%Y-%m-%dT%H:%MZ}")
    assert len(server.recurring) == 1


def test_that_a_paused_one_makes_up_for_the_latest_run_it_missed_is_said(server, cli):
    cli(*CRON)
    cli("schedule", "pause", "nightly")
    out = cli(*APPLY, "--every", "24h").out
    assert "at once, if one was missed while it was paused" in out


def test_stopping_it_between_the_two_says_that_both_may_run(server, cli, monkeypatch):
    cli(*CRON)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(recurring_runs, "keep_newest", stopped)
    assert "more than one of that name may run: do it again" in cli(*APPLY, "--every", "24h", status=130).err
