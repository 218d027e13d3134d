"""Schedules that two people apply at once, and missed runs that KFP would make up for."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.kfp_server.case import only
from tests.support.kfp_server.server import Fault
from twofold.kubeflow.server import recurring_runs

APPLY = ("schedule", "apply", "nightly")
CRON = (*APPLY, "--cron", "0 3 * * *")


def add_foreign(server):
    """Add a recurring run with the same name, as if somebody else had created it."""
    server._add(
        server.recurring, "recurring_run_id", {**next(iter(server.recurring.values())), "description": "theirs"}
    )


def around_create(monkeypatch, before=lambda: None, after=lambda: None):
    """Run something just before or just after our recurring run is created."""
    original = recurring_runs.create

    def create(*words, **more):
        before()
        created = original(*words, **more)
        after()
        return created

    monkeypatch.setattr(recurring_runs, "create", create)


@pytest.mark.parametrize("first", [True, False])
def test_of_two_concurrent_applies_the_later_one_is_kept_and_the_other_is_told(server, cli, monkeypatch, first):
    cli(*CRON)
    around_create(monkeypatch, **{"before" if first else "after": lambda: add_foreign(server)})
    output = cli(*APPLY, "--every", "24h", status=int(not first))
    assert (only(server.recurring)["description"] == "theirs") is not first
    assert ("their version is kept" in output.err) is not first
    assert ("replaced" in output.out) is first


def test_one_that_the_server_does_not_list_yet_is_not_mistaken_for_deleted(server, cli, monkeypatch):
    cli(*CRON)
    find, old = recurring_runs.find_by_name, list(server.recurring)
    find_old = lambda *words: [each for each in find(*words) if each.recurring_run_id in old]  # noqa: E731
    monkeypatch.setattr(recurring_runs, "find_by_name", find_old)
    assert "replaced" in cli(*APPLY, "--every", "24h").out
    assert "periodic_schedule" in only(server.recurring)["trigger"]


def test_an_error_after_the_creation_says_that_the_old_one_may_run(server, cli, monkeypatch):
    cli(*CRON)
    around_create(monkeypatch, after=lambda: server.faults.append(Fault("GET /recurringruns", status=500)))
    err = cli(*APPLY, "--every", "24h", status=1).err
    assert "created; obsolete recurring runs that may still run: 1; repeat the command" in err
    assert len(server.recurring) == 2


@pytest.mark.parametrize("when", [("--cron", "0 3 * * *"), ("--every", "24h")])
def test_a_start_after_which_a_run_was_missed_is_refused(server, cli, when):
    past = datetime.now(UTC) - timedelta(days=2)
    err = cli(*APPLY, *when, "--start", f"{past:%Y-%m-%dT%H:%MZ}", status=1).err
    assert "is in the past: KFP would run at once" in err
    assert server.changes() == []


def test_a_start_after_which_no_run_was_missed_is_accepted(server, cli):
    past = datetime.now(UTC) - timedelta(hours=1)
    cli(*APPLY, "--every", "24h", "--start", f"{past:%Y-%m-%dT%H:%MZ}")
    assert len(server.recurring) == 1


def test_that_a_paused_one_makes_up_for_its_latest_missed_run_is_printed(server, cli):
    cli(*CRON)
    cli("schedule", "pause", "nightly")
    assert "at once if it missed a run while paused" in cli(*APPLY, "--every", "24h").out


def test_an_interrupt_between_creation_and_deletion_says_that_both_may_run(server, cli, monkeypatch):
    cli(*CRON)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(recurring_runs, "keep_newest", stopped)
    assert "more than one with that name may run: repeat the command" in cli(*APPLY, "--every", "24h", status=130).err
