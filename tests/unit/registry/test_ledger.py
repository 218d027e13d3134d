"""The ledger as text in tags: what is changed, replaced or missing shows; what is written says who is champion."""

import json

import pytest

from twofold.registry.ledger import HEAD, Ledger, head_text, read

WORDS = {
    "actor": "ann",
    "reason": "because",
    "gates": "",
    "report": "",
    "note": "",
    "time": "2026-01-01T00:00:00+00:00",
}


def written(*changes, fence=1):
    """The tags after these changes (action, version), each under a lock of its own; and the ledger."""
    ledger, tags = read({}), {}
    for number, (action, version) in enumerate(changes):
        entry = ledger.next(fence + number, action=action, version=version, **WORDS)
        tags[entry.key] = entry.text
        tags[HEAD] = head_text(entry)
        ledger = ledger.followed_by(entry)
    return tags, read(tags)


THREE = (("promote", 1), ("promote", 2), ("challenge", 3))


def key(tags, number):
    (found,) = [name for name in tags if name.startswith(f"{HEAD}.{number:06d}.")]
    return found


def test_no_tags_are_an_empty_ledger():
    found = read({"other": "tag", "twofold.key": "x"})
    assert (found.entries, found.problems, found.settled, found.end, found.champion) == ((), (), True, 0, None)
    assert found.aliases == {"champion": None, "challenger": None}


def test_what_is_written_is_read_back_in_order():
    tags, found = written(*THREE)
    assert [(e.number, e.fence, e.action, e.version, e.champion) for e in found.entries] == [
        (1, 1, "promote", 1, None),
        (2, 2, "promote", 2, 1),
        (3, 3, "challenge", 3, 2),
    ]
    assert [entry.previous for entry in found.entries] == ["", found.entries[0].sha256, found.entries[1].sha256]
    assert (found.problems, found.void, found.settled, found.fence) == ((), (), True, 3)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-") for name in tags), "keys that MLflow takes"


@pytest.mark.parametrize(
    ("changes", "champion", "challenger", "before"),
    [
        ([("adopt", 7)], 7, None, []),
        ([("promote", 1), ("promote", 2), ("rollback", 1)], 1, None, [2]),
        ([("promote", 1), ("promote", 2), ("promote", 3)], 3, None, [2, 1]),
        ([("promote", 1), ("rollback", None)], None, None, [1]),
        ([("challenge", 1)], None, 1, []),
        ([("challenge", 1), ("challenge", 2)], None, 2, []),
        ([("challenge", 1), ("reject", 1)], None, None, []),
        ([("challenge", 1), ("challenge", 2), ("reject", 1)], None, 2, []),
        ([("promote", 1), ("challenge", 2), ("promote", 2)], 2, None, [1]),
        ([("promote", 1), ("challenge", 2), ("promote", 3)], 3, 2, [1]),
        ([("promote", 1), ("acknowledge", None)], 1, None, []),
    ],
)
def test_who_holds_which_alias_follows_from_the_entries(changes, champion, challenger, before):
    _, found = written(*changes)
    assert (found.champion, found.challenger, found.before()) == (champion, challenger, before)


def test_what_a_version_has_come_to():
    _, found = written(("challenge", 1), ("promote", 2), ("challenge", 3), ("reject", 3), ("rollback", None))
    assert [found.given(version) for version in (1, 2, 3, 4)] == ["challenger", "champion", "rejected", None]


@pytest.mark.parametrize(
    ("field", "value"),
    [("reason", "another"), ("actor", "bob"), ("version", 9), ("champion", 9), ("time", ""), ("gates", "f" * 64)],
)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_changed_field_shows(field, value, number):
    tags, _ = written(*THREE)
    values = json.loads(tags[key(tags, number)]) | {field: value}
    tags[key(tags, number)] = json.dumps(values)
    (problem,) = read(tags).problems
    assert problem.startswith(f"entry {number} was changed: it does not match its own SHA-256")


@pytest.mark.parametrize("number", [1, 2])
def test_an_entry_that_was_replaced_by_a_sound_one_does_not_fit_the_next(number):
    tags, found = written(*THREE)
    values = vars(found.entries[number - 1]) | {"reason": "another"}
    forged = type(found.entries[0])(**values)
    tags[key(tags, number)] = forged.text
    assert read(tags).problems == (f"entry {number + 1} does not follow from entry {number}: one of them was replaced",)


def test_the_last_entry_replaced_by_a_sound_one_does_not_fit_the_head():
    tags, found = written(*THREE)
    forged = type(found.entries[0])(**vars(found.entries[-1]) | {"version": 9})
    tags[key(tags, 3)] = forged.text
    assert read(tags).problems == ("entry 3 is not the one for which the aliases were set: it was replaced",)


@pytest.mark.parametrize(
    ("gone", "problem"),
    [
        ([1], "entry 1 is missing"),
        ([2], "entry 2 is missing"),
        ([3], "entry 3 is missing"),
        ([1, 2], "entries 1 to 2 are missing"),
        ([2, 3], "entries 2 to 3 are missing"),
        ([1, 2, 3], "entries 1 to 3 are missing"),
    ],
)
def test_a_missing_entry_shows(gone, problem):
    tags, _ = written(*THREE)
    for number in gone:
        del tags[key(tags, number)]
    found = read(tags)
    assert found.problems == (problem,)
    assert found.end == 3, "its number is not given again"


def test_an_entry_without_the_head_after_it_is_one_that_was_not_finished():
    tags, found = written(*THREE)
    tags[HEAD] = head_text(found.entries[1])
    again = read(tags)
    assert (again.settled, again.problems, again.champion) == (False, (), 2)
    del tags[HEAD]
    assert (read(tags).settled, read(tags).problems) == (False, ())


def test_of_two_entries_with_one_number_that_of_the_later_lock_counts():
    tags, found = written(("promote", 1), fence=5)
    late = found.next(4, action="promote", version=8, **WORDS)  # by a holder whose lock, 4, had been taken over
    own = found.next(6, action="promote", version=2, **WORDS)
    tags |= {late.key: late.text, own.key: own.text, HEAD: head_text(own)}
    again = read(tags)
    assert ([entry.version for entry in again.entries], again.champion, again.problems) == ([1, 2], 2, ())
    assert [entry.version for entry in again.void] == [8]


def test_what_was_acknowledged_is_no_problem_any_more_but_new_damage_is():
    tags, _ = written(*THREE)
    del tags[key(tags, 2)]
    damaged: Ledger = read(tags)
    entry = damaged.next(9, action="acknowledge", version=None, **WORDS | {"note": "\n".join(damaged.problems)})
    tags |= {entry.key: entry.text, HEAD: head_text(entry)}
    assert (read(tags).problems, read(tags).known) == ((), ("entry 2 is missing",))
    tags[key(tags, 1)] = tags[key(tags, 1)].replace("because", "why not")
    assert [problem[:19] for problem in read(tags).problems] == ["entry 1 was changed"]


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"sha256": 1}', "x" * 100])
def test_something_else_in_the_place_of_an_entry_shows(text):
    tags, _ = written(*THREE)
    tags[key(tags, 2)] = text
    assert read(tags).problems[0].startswith("entry 2 was changed")
