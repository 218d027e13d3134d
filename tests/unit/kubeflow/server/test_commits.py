"""From which git commit a schedule was applied, and whether the checkout differs from it."""

import re

from tests.support.kfp_server.case import check_out, only

APPLY = ("schedule", "apply", "nightly")
CRON = (*APPLY, "--cron", "0 3 * * *")


def listed_commits(cli):
    return [re.split(r"  +", row)[4] for row in cli("schedule", "list").out.splitlines()[1:]]


def test_the_list_shows_from_which_commit_each_schedule_was_applied_and_whether_the_checkout_differs(
    server, cli, monkeypatch
):
    check_out(monkeypatch, "a" * 40)
    cli(*CRON)
    assert f", commit {'a' * 40}, " in only(server.recurring)["description"]
    assert listed_commits(cli) == ["a" * 12]
    check_out(monkeypatch, "a" * 40, changed="params.yaml")
    assert listed_commits(cli) == ["a" * 12 + " (the checkout differs)"]
    check_out(monkeypatch, "b" * 40)
    assert "schedule nightly: unchanged\n" in cli(*CRON).out
    assert listed_commits(cli) == ["a" * 12 + " (the checkout differs)"]
    assert "replaced" in cli(*APPLY, "--every", "24h").out
    assert listed_commits(cli) == ["b" * 12]


def test_a_commit_that_cannot_be_compared_is_neither_the_same_nor_another(server, cli, monkeypatch):
    check_out(monkeypatch, "a" * 40, changed="params.yaml")
    cli(*CRON)
    assert listed_commits(cli) == ["a" * 12 + "-dirty"]  # the changes may be others
    check_out(monkeypatch, None)
    assert listed_commits(cli) == ["a" * 12 + "-dirty"]
    cli("schedule", "apply", "exported", "--every", "24h")
    check_out(monkeypatch, "a" * 40)
    before = only({name: each for name, each in server.recurring.items() if each["display_name"] == "nightly"})
    before["description"] = f"applied by twofold-pipelines, {before['description'][-16:]}"  # as it was written once
    assert listed_commits(cli) == ["unknown", "unknown"]
    assert "schedule nightly: unchanged\n" in cli(*CRON).out
