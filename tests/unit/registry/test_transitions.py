"""Changes of champion on a real MLflow store: refused if stale, complete or not done at all, and repaired."""

import re

import pytest

from tests.support.models_case import aliases
from twofold.core.errors import ParameterError, RegistryError
from twofold.registry import ledger as ledgers
from twofold.registry import lock, transitions
from twofold.registry.transitions import Change, change_under_lock, commit, repair, sound_ledger
from twofold.tracking import registry_client
from twofold.tracking import store as tracking


@pytest.fixture
def store(mlflow_store, monkeypatch):
    """A registered model `corner` with versions 1, 2 and 3, without files."""
    monkeypatch.setattr(lock, "LEASE", 0.3)
    monkeypatch.setattr(lock, "MIN_PAUSE", 0.01)
    found = tracking.connect()
    found.client.create_registered_model("corner")
    for _ in range(3):
        found.client.create_model_version("corner", source="s3://nowhere/model")
    return found


def change(store, action, version, expected):
    with change_under_lock(store, "corner") as (held, _):
        return commit(held, Change(action, version, "ann", "because"), expected=expected)


def ledger(store):
    return ledgers.read(registry_client.registered(store, "corner").tags)


def delete_locks(store):
    for each in store.client.search_registered_models():
        if each.name.startswith(lock.PREFIX):
            store.client.delete_registered_model(each.name)


def entries(store):
    return [(entry.action, entry.version, entry.champion) for entry in ledger(store).entries]


def test_a_change_is_one_entry_and_the_alias_that_follows_from_it(store):
    entry = change(store, "promote", 1, None)
    assert (entry.number, entry.actor, entry.reason, entry.previous) == (1, "ann", "because", "")
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\+00:00", entry.time)
    assert aliases(store) == {"champion": 1}
    change(store, "challenge", 3, 1)
    assert aliases(store) == {"champion": 1, "challenger": 3}
    change(store, "promote", 2, 1)
    change(store, "reject", 3, 2)
    assert aliases(store) == {"champion": 2}
    change(store, "rollback", None, 2)
    assert aliases(store) == {}
    found = ledger(store)
    assert (found.problems, found.settled) == ((), True)
    assert [entry.fence for entry in found.entries] == [1, 2, 3, 4, 5]


def test_an_entry_counts_although_all_locks_before_it_were_deleted(store):
    change(store, "promote", 1, None)
    change(store, "promote", 2, 1)
    delete_locks(store)
    change(store, "promote", 3, 2)
    assert [entry.fence for entry in ledger(store).entries] == [1, 2, 3]
    assert (ledger(store).problems, aliases(store)) == ((), {"champion": 3})


def test_a_decision_against_another_champion_writes_nothing(store):
    change(store, "promote", 1, None)
    for expected, words in ((None, "was version none"), (2, "was version 2")):
        match = f"{words} when this model was judged and is version 1 now.*run it again"
        with pytest.raises(RegistryError, match=match):
            change(store, "promote", 3, expected)
    assert (entries(store), aliases(store)) == ([("promote", 1, None)], {"champion": 1})


@pytest.mark.parametrize(
    ("actor", "reason"),
    [("", "why"), (" ", "why"), ("ann", ""), ("ann", "\n"), ("ann", "x" * 2001), ("ann", '"' * 1001)],
)
def test_a_change_needs_an_actor_and_a_reason(store, actor, reason):
    with change_under_lock(store, "corner") as (held, _), pytest.raises(ParameterError, match="1 to 2000 characters"):
        commit(held, Change("promote", 1, actor, reason), expected=None)
    assert entries(store) == []


@pytest.mark.parametrize("write", ["alias", "head"])
def test_a_change_killed_after_the_entry_is_finished_by_the_next_process(store, monkeypatch, capsys, write):
    change(store, "promote", 1, None)
    tag_model = registry_client.tag_model

    def killed(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if write == "alias":
            patch.setattr(registry_client, "set_alias", killed)
        else:
            patch.setattr(registry_client, "tag_model", lambda *w: killed() if w[2] == ledgers.HEAD else tag_model(*w))
        with pytest.raises(KeyboardInterrupt):
            change(store, "promote", 2, 1)
    assert (ledger(store).settled, ledger(store).champion) == (False, 2)
    assert aliases(store) == {"champion": 1 if write == "alias" else 2}
    found = sound_ledger(store, "corner")
    assert (found.settled or ledger(store).settled, found.champion, aliases(store)) == (True, 2, {"champion": 2})
    assert entries(store) == [("promote", 1, None), ("promote", 2, 1)]
    printed = "finished the change of a killed process: 'champion' moved from version 1 to 2" in capsys.readouterr().err
    assert printed == (write == "alias")


def test_an_entry_written_after_the_lock_was_taken_over_is_void(store, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 60)
    change(store, "promote", 1, None)
    tag_model = registry_client.tag_model
    paused = []

    def pause(store_, name, key, value):
        if ledgers.KEY.fullmatch(key) and not paused:
            paused.append(key)
            change(store, "promote", 2, 1)  # another process takes the lock over and finishes
        tag_model(store_, name, key, value)

    monkeypatch.setattr(registry_client, "tag_model", pause)
    with pytest.raises(RegistryError, match="was taken over by"):
        change(store, "promote", 3, 1)
    found = ledger(store)
    assert ([entry.version for entry in found.entries], [entry.version for entry in found.void]) == ([1, 2], [3])
    assert (aliases(store), found.problems) == ({"champion": 2}, ())
    change(store, "promote", 3, 2)
    assert aliases(store) == {"champion": 3}


def test_an_alias_moved_back_by_a_late_holder_is_set_right_by_the_next_process(store, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 60)
    set_alias = registry_client.set_alias
    paused = []

    def pause(store_, name, alias, number):
        if not paused:
            paused.append(alias)
            change(store, "promote", 2, 1)
        set_alias(store_, name, alias, number)

    monkeypatch.setattr(registry_client, "set_alias", pause)
    with pytest.raises(RegistryError, match="was taken over by"):
        change(store, "promote", 1, None)
    assert (entries(store), aliases(store)) == ([("promote", 1, None), ("promote", 2, 1)], {"champion": 1})
    assert sound_ledger(store, "corner").champion == 2
    assert aliases(store) == {"champion": 2}


def test_an_alias_moved_outside_twofold_stops_every_change_until_it_is_repaired(store):
    change(store, "promote", 1, None)
    change(store, "promote", 2, 1)
    store.client.set_registered_model_alias("corner", "champion", "3")
    for step in (lambda: sound_ledger(store, "corner"), lambda: change(store, "promote", 1, 2)):
        match = r"'champion' of 'corner' is at version 3, by the ledger at 2.*--repair"
        with pytest.raises(RegistryError, match=match):
            step()
    assert repair(store, "corner", actor="ann", reason="") == ["'champion' moved from version 3 to 2"]
    assert repair(store, "corner", actor="ann", reason="") == []
    assert (aliases(store), len(entries(store))) == ({"champion": 2}, 2)


def test_a_damaged_ledger_stops_every_change_until_someone_acknowledges_it(store):
    change(store, "promote", 1, None)
    change(store, "promote", 2, 1)
    (first,) = [key for key in registry_client.registered(store, "corner").tags if ".000001." in key]
    registry_client.tag_model(store, "corner", first, "{}")
    for step in (lambda: sound_ledger(store, "corner"), lambda: change(store, "promote", 3, 2)):
        with pytest.raises(RegistryError, match="damaged, and nothing is promoted on it: entry 1 was changed"):
            step()
    with pytest.raises(RegistryError, match="--repair --reason WHY"):
        repair(store, "corner", actor="ann", reason="")
    delete_locks(store)
    (done,) = repair(store, "corner", actor="ann", reason="a hand slipped")
    assert done == "entry 3: acknowledged 1 problem(s)"
    change(store, "promote", 3, 2)
    assert aliases(store) == {"champion": 3}
    assert [entry.action for entry in ledger(store).entries] == ["promote", "acknowledge", "promote"]
    first, *later = (entry.fence for entry in ledger(store).entries)
    assert first < later[0] < later[1], "although all locks before it were deleted"


def test_a_champion_deleted_in_mlflow_can_be_rolled_back(store):
    change(store, "promote", 1, None)
    change(store, "promote", 2, 1)
    store.client.delete_model_version("corner", "2")
    assert sound_ledger(store, "corner").champion == 2
    change(store, "rollback", 1, 2)
    assert aliases(store) == {"champion": 1}


def test_repair_does_not_make_a_deleted_version_champion(store):
    change(store, "promote", 1, None)
    store.client.delete_model_version("corner", "1")
    store.client.set_registered_model_alias("corner", "champion", "2")
    with pytest.raises(RegistryError, match="version 1 of 'corner', which by the ledger is champion, has been deleted"):
        repair(store, "corner", actor="ann", reason="")


def test_repair_refuses_an_unknown_model_and_leaves_no_lock(store):
    with pytest.raises(RegistryError, match="there is no registered model 'cornr' in this store"):
        repair(store, "cornr", actor="ann", reason="")
    assert registry_client.models_named(store, lock.PREFIX) == []


def test_a_version_that_was_decided_on_meanwhile_is_not_decided_on_again(store):
    change(store, "promote", 1, None)
    before = ledger(store)
    change(store, "challenge", 2, 1)
    now = ledger(store)
    transitions.require_undecided("corner", 1, before, now)
    transitions.require_undecided("corner", 2, now, now)
    transitions.require_undecided("corner", None, before, now)
    with pytest.raises(RegistryError, match="version 2 of 'corner' has been decided on meanwhile: challenge by ann"):
        transitions.require_undecided("corner", 2, before, now)


def test_the_actor_is_the_given_name_or_gits_user_or_the_login(monkeypatch):
    assert transitions.actor("ann") == "ann"
    monkeypatch.setattr(transitions, "run_git", lambda folder, *words: {"user.name": "Ada\n"}.get(words[-1]))
    assert transitions.actor() == "Ada"
    monkeypatch.setattr(transitions, "run_git", lambda folder, *words: None)
    monkeypatch.setenv("USER", "lovelace")
    assert transitions.actor() == "lovelace"
    monkeypatch.delenv("USER")
    assert transitions.actor() == lock.holder().partition(",")[0]


@pytest.mark.parametrize(("text", "problems"), [("because", 60), ('"' * 1000, 7)])
def test_no_tag_of_the_model_is_longer_than_mlflow_keeps(store, text, problems):
    for number in range(1, problems + 1):
        registry_client.tag_model(store, "corner", f"twofold.ledger.{number:06d}.1", "changed")
    assert len(ledger(store).problems) == problems
    with pytest.raises(RegistryError, match="--repair --reason WHY"):
        repair(store, "corner", actor="ann", reason="")
    done = repair(store, "corner", actor=text, reason=text)
    assert sum(int(line.split()[3]) for line in done) == problems
    found = ledger(store)
    assert (found.problems, len(found.acknowledged), found.settled) == ((), problems, True)
    with change_under_lock(store, "corner") as (held, _):
        note = "judged again; held against version 123; candidate 1234 (limit 5678) on these test images, 123 promoted"
        everything = Change("promote", 1, text, text, gates="f" * 64, report="f" * 32, note=note)
        commit(held, everything, expected=None)
    assert max(map(len, registry_client.registered(store, "corner").tags.values())) <= 5000
    assert aliases(store) == {"champion": 1}


def test_a_tag_that_would_be_too_long_is_refused_before_it_is_written(store):
    with pytest.raises(RegistryError, match=r"tag some\.tag of 'corner': 5001 characters, at most 5000"):
        registry_client.tag_model(store, "corner", "some.tag", "x" * 5001)
    assert "some.tag" not in registry_client.registered(store, "corner").tags
