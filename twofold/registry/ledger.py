"""The ledger: who made which version the champion, when, why and on what grounds; an entry is a tag in MLflow.

In: a registered model's tags. Out: its entries in order, what is wrong with them, and who holds which alias by them.
The ledger is the truth; the aliases in MLflow follow from it.

An entry `twofold.ledger.<number>.<fence>` is JSON with the SHA-256 of the entry before it and its own, so that one that
was changed, replaced or taken out shows. The fence is the number of the lock under which it was written. A holder that
was stopped and writes after its lock was taken over thus overwrites nothing: of two entries with one number the one
with the higher fence counts, and the other is void. `twofold.ledger` names the last entry for which the aliases have
been set. It is written last: where it lags behind, a process was killed, and where it is ahead, entries are missing.

The chain shows what was changed by mistake or in passing. Someone who may write every tag could forge all of it: who
may is a matter of MLflow's permissions.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from twofold.tracking.registry_client import CHALLENGER, CHAMPION, REJECTED

HEAD = "twofold.ledger"
KEY = re.compile(r"twofold\.ledger\.([0-9]{6,})\.([0-9]+)")
LONGEST_REASON = 2000  # characters
Action = Literal["adopt", "challenge", "promote", "reject", "rollback", "acknowledge"]
ACTIONS: tuple[Action, ...] = get_args(Action)


@dataclass(frozen=True)
class Entry:
    """One change, or decision that nothing changes.

    Attributes:
        number: 1, 2, 3…
        fence: of the lock under which it was written.
        action: adopt (a champion from before there was a ledger), challenge (it waits for review), promote, reject,
            rollback, acknowledge (someone has looked at what is wrong with the ledger).
        version: that it is about; None for a rollback to no model and an acknowledgement.
        champion: before the entry; None if there was none.
        actor: who.
        reason: why, in a person's words or register's.
        gates: SHA-256 of the verdict on every gate as JSON, or "" where none was judged.
        report: MLflow's run that holds the report, or "".
        note: what was checked or found, where that matters.
        time: UTC, to the second, by the writer's clock; the order is the numbers'.
        previous: SHA-256 of the entry before it, "" for the first.
    """

    number: int
    fence: int
    action: Action
    version: int | None
    champion: int | None
    actor: str
    reason: str
    gates: str
    report: str
    note: str
    time: str
    previous: str

    @property
    def key(self) -> str:
        return f"{HEAD}.{self.number:06d}.{self.fence}"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(_canonical(asdict(self)).encode()).hexdigest()

    @property
    def text(self) -> str:
        """The tag's value."""
        return _canonical(asdict(self) | {"sha256": self.sha256})

    @property
    def moves(self) -> bool:
        """Whether it says who is champion."""
        return self.action in ("adopt", "promote", "rollback")

    @property
    def after(self) -> int | None:
        """The champion after the entry."""
        return self.version if self.moves else self.champion


@dataclass(frozen=True)
class Ledger:
    """The entries in order, and what is known about them.

    Attributes:
        entries: that count.
        void: written under a lock that had been taken over.
        problems: what is missing or was changed, a sentence each; those that were acknowledged are in `known`.
        head: number of the last entry for which the aliases have been set.
        end: the highest number that was seen; `fence`: the highest fence.
    """

    entries: tuple[Entry, ...]
    void: tuple[Entry, ...]
    problems: tuple[str, ...]
    known: tuple[str, ...]
    head: int
    end: int
    fence: int

    @property
    def last(self) -> Entry | None:
        return self.entries[-1] if self.entries else None

    @property
    def settled(self) -> bool:
        """Whether the aliases have been set for every entry."""
        return self.head >= (self.last.number if self.last else 0)

    @property
    def champion(self) -> int | None:
        return next((entry.version for entry in reversed(self.entries) if entry.moves), None)

    @property
    def challenger(self) -> int | None:
        """The version that waits for a decision: the last one that was challenged, unless it has been taken."""
        waiting = None
        for entry in self.entries:
            if entry.action == "challenge":
                waiting = entry.version
            elif entry.action in ("promote", "reject", "rollback") and entry.version == waiting:
                waiting = None
        return waiting

    @property
    def aliases(self) -> dict[str, int | None]:
        return {CHAMPION: self.champion, CHALLENGER: self.challenger}

    def given(self, version: int) -> str | None:
        """What a version has come to: `champion` if it ever was, else `rejected`, else `challenger`, or nothing."""
        about = {entry.action for entry in self.entries if entry.version == version}
        if about & {"adopt", "promote", "rollback"}:
            return CHAMPION
        return REJECTED if "reject" in about else CHALLENGER if "challenge" in about else None

    def before(self) -> list[int]:
        """The versions that were champion before the present one, latest first."""
        found: list[int] = []
        for entry in reversed(self.entries):
            if entry.moves and entry.version not in (None, self.champion, *found):
                found.append(entry.version)  # type: ignore[arg-type]
        return found

    def next(self, fence: int, **values: Any) -> Entry:
        """The entry that follows the last one."""
        previous = "" if self.last is None else self.last.sha256
        return Entry(number=self.end + 1, fence=fence, champion=self.champion, previous=previous, **values)

    def followed_by(self, entry: Entry) -> "Ledger":
        """The ledger after an entry."""
        return replace(self, entries=(*self.entries, entry), end=entry.number, fence=max(self.fence, entry.fence))


def read(tags: Mapping[str, str]) -> Ledger:
    """The ledger in a registered model's tags; what is wrong with it is found, not raised."""
    found: dict[int, list[tuple[int, str, Entry | None]]] = {}
    for key, text in tags.items():
        if match := KEY.fullmatch(key):
            number, fence = int(match[1]), int(match[2])
            found.setdefault(number, []).append((fence, text, _parse(key, text)))
    head, digest = _head(tags)
    problems, entries, void, acknowledged = [], [], [], []
    before = 0
    previous: str | None = ""
    for number, items in sorted(found.items()):
        problems += _gap(before, number)
        *stale, (_, text, entry) = sorted(items, key=lambda item: item[0])
        void += [older for _, _, older in stale if older is not None]
        if entry is None:
            known = hashlib.sha256(text.encode()).hexdigest()[:12]
            problems.append(f"entry {number} was changed: it does not match its own SHA-256 (it is now {known}…)")
        else:
            # Of what follows a gap, no more can be said than that there is one; an acknowledgement closes it.
            if number == before + 1 and previous is not None and entry.previous != previous:
                problems.append(f"entry {number} does not follow from entry {before}: one of them was replaced")
            if number == head and digest != entry.sha256:
                problems.append(f"entry {number} is not the one for which the aliases were set: it was replaced")
            entries.append(entry)
            if entry.action == "acknowledge":
                acknowledged += entry.note.split("\n")
        before, previous = number, None if entry is None else entry.sha256
    problems += _gap(before, head + 1)
    return Ledger(
        entries=tuple(entries),
        void=tuple(void),
        problems=tuple(problem for problem in problems if problem not in acknowledged),
        known=tuple(problem for problem in problems if problem in acknowledged),
        head=head,
        end=max(before, head),
        fence=max((fence for items in found.values() for fence, _, _ in items), default=0),
    )


def _gap(before: int, number: int) -> list[str]:
    if number <= before + 1:
        return []
    missing = f"entry {before + 1} is" if number == before + 2 else f"entries {before + 1} to {number - 1} are"
    return [f"{missing} missing"]


def head_text(entry: Entry) -> str:
    """The value of the tag that names the last entry for which the aliases have been set."""
    return f"{entry.number} {entry.sha256}"


def _head(tags: Mapping[str, str]) -> tuple[int, str]:
    match = re.fullmatch(r"([0-9]+) ([0-9a-f]{64})", tags.get(HEAD, ""))
    return (int(match[1]), match[2]) if match else (0, "")


def _parse(key: str, text: str) -> Entry | None:
    """The entry, or None if it is not one, or not the one that was written."""
    try:
        values = json.loads(text)
        digest = values.pop("sha256")
        if set(values) != {field.name for field in fields(Entry)} or values["action"] not in ACTIONS:
            return None
        entry = Entry(**values)
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
    return entry if entry.key == key and entry.sha256 == digest else None


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
