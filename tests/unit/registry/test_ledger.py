"""The ledger in a model's tags: changed, replaced or missing entries are detected, and the entries set the aliases."""

import json

import pytest

from twofold.registry.ledger import HEAD, head_text, read

TEXTS = {
    "actor": "ann",
    "reason": "because",
    "gates": "",
    "report": "",
    "note": "",
    "time": "2026-01-01T00:00:00+00:00",
}
THREE = (("promote", 1), ("promote", 2), ("challenge", 3))


def write(*changes, fence=1):
    """The tags after these changes (action, version), each under a lock of its own; and the ledger."""
    ledger, tags = read({}), {}
    for number, (action, version) in enumerate(changes):
        entry = ledger.next_entry(fence + number, action=action, version=version, **TEXTS)
        tags |= {entry.key: entry.text, HEAD: head_text(entry)}
        ledger = ledger.with_entry(entry)
    return tags, read(tags)


def key(tags, number):
    (found,) = [name for name in tags if name.startswith(f"{HEAD}.{number:06d}.")]
    return found


def forge(entry, **values):
    """An entry with other values and a valid SHA-256."""
    return type(entry)(**vars(entry) | values)


def test_no_tags_are_an_empty_ledger():
    found = read({"other": "tag", "twofold.key": "x"})
    assert (found.entries, found.problems, found.settled, found.end, found.champion) == ((), (), True, 0, None)
    assert found.aliases == {"champion": None, "challenger": None}


def test_entries_are_read_back_in_order():
    tags, found = write(*THREE)
    assert [(e.number, e.fence, e.action, e.version, e.champion) for e in found.entries] == [
        (1, 1, "promote", 1, None),
        (2, 2, "promote", 2, 1),
        (3, 3, "challenge", 3, 2),
    ]
    assert [entry.previous for entry in found.entries] == ["", found.entries[0].sha256, found.entries[1].sha256]
    assert (found.problems, found.void, found.settled, found.fence) == ((), (), True, 3)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-") for name in tags), "keys that MLflow accepts"


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
def test_the_entries_determine_the_aliases(changes, champion, challenger, before):
    _, found = write(*changes)
    assert (found.champion, found.challenger, found.before()) == (champion, challenger, before)


def test_the_highest_status_of_a_version():
    _, found = write(("challenge", 1), ("promote", 2), ("challenge", 3), ("reject", 3), ("rollback", None))
    assert [found.highest_status(version) for version in (1, 2, 3, 4)] == ["challenger", "champion", "rejected", None]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reason", "another"),
        ("reason", float("nan")),
        ("number", "x"),
        ("actor", "bob"),
        ("version", 9),
        ("champion", 9),
        ("time", ""),
        ("gates", "f" * 64),
    ],
)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_changed_field_is_detected(field, value, number):
    tags, _ = write(*THREE)
    tags[key(tags, number)] = json.dumps(json.loads(tags[key(tags, number)]) | {field: value})
    (problem,) = read(tags).problems
    assert problem.startswith(f"entry {number} was changed: it does not match its own SHA-256")


@pytest.mark.parametrize("number", [1, 2])
def test_a_valid_entry_in_place_of_another_does_not_match_the_next(number):
    tags, found = write(*THREE)
    tags[key(tags, number)] = forge(found.entries[number - 1], reason="another").text
    assert read(tags).problems == (f"entry {number + 1} does not follow from entry {number}: one of them was replaced",)


def test_a_valid_entry_in_place_of_the_last_one_does_not_match_the_head():
    tags, found = write(*THREE)
    tags[key(tags, 3)] = forge(found.entries[-1], version=9).text
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
def test_a_missing_entry_is_detected(gone, problem):
    tags, _ = write(*THREE)
    for number in gone:
        del tags[key(tags, number)]
    found = read(tags)
    assert (found.problems, found.end) == ((problem,), 3), "its number is not used again"


def test_an_entry_that_the_head_does_not_name_yet_is_unfinished():
    tags, found = write(*THREE)
    tags[HEAD] = head_text(found.entries[1])
    again = read(tags)
    assert (again.settled, again.problems, again.champion) == (False, (), 2)
    del tags[HEAD]
    assert (read(tags).settled, read(tags).problems) == (False, ())


def test_of_two_entries_with_one_number_that_of_the_later_lock_counts():
    tags, found = write(("promote", 1), fence=5)
    late = found.next_entry(4, action="promote", version=8, **TEXTS)  # by a holder whose lock was taken over
    own = found.next_entry(6, action="promote", version=2, **TEXTS)
    tags |= {late.key: late.text, own.key: own.text, HEAD: head_text(own)}
    again = read(tags)
    assert ([entry.version for entry in again.entries], again.champion, again.problems) == ([1, 2], 2, ())
    assert [entry.version for entry in again.void] == [8]


def test_an_acknowledged_problem_is_no_problem_any_more_and_a_new_one_is():
    tags, _ = write(*THREE)
    del tags[key(tags, 2)]
    damaged = read(tags)
    entry = damaged.next_entry(9, action="acknowledge", version=None, **TEXTS | {"note": "\n".join(damaged.problems)})
    tags |= {entry.key: entry.text, HEAD: head_text(entry)}
    assert (read(tags).problems, read(tags).acknowledged) == ((), ("entry 2 is missing",))
    tags[key(tags, 1)] = tags[key(tags, 1)].replace("because", "why not")
    assert [problem[:19] for problem in read(tags).problems] == ["entry 1 was changed"]


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"sha256": 1}', "x" * 100])
def test_another_text_in_place_of_an_entry_is_detected(text):
    tags, _ = write(*THREE)
    tags[key(tags, 2)] = text
    assert read(tags).problems[0].startswith("entry 2 was changed")
