"""The ledger: who made which version the champion, when, why and by which verdict. Each entry is a tag in MLflow.

Reads the tags of a registered model. Returns its entries in order, the problems found, and the version that holds each
alias. The ledger is authoritative: the aliases in MLflow follow from it.

An entry `twofold.ledger.<number>.<fence>` is JSON with its own SHA-256 and that of the entry before it, so that a
changed, replaced or removed entry is detected. The fence is the fencing number of the lock under which the entry was
written. A holder that writes after its lock was taken over therefore overwrites nothing: of two entries with one
number, the one with the higher fence counts and the other is void. The tag `twofold.ledger` names the last entry for
which the aliases have been set, and is written last: if it lags behind, a process was killed; if it is ahead, entries
are missing.

The chain detects accidental changes. A person who may write all tags could forge it; MLflow's permissions limit that.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from twofold.registry.lineage import LINEAGE, canonical, sha256_of
from twofold.tracking.registry_reader import CHALLENGER, CHAMPION, REJECTED

HEAD = "twofold.ledger"
KEY = re.compile(r"twofold\.ledger\.([0-9]{6,})\.([0-9]+)")
LONGEST_REASON = 2000  # characters
Action = Literal["adopt", "challenge", "promote", "reject", "rollback", "acknowledge"]
ACTIONS: tuple[Action, ...] = get_args(Action)
SETS_CHAMPION = ("adopt", "promote", "rollback")


@dataclass(frozen=True)
class Entry:
    """One decision.

    Attributes:
        number: 1, 2, 3…
        fence: fencing number of the lock under which it was written.
        action: adopt (a champion older than the ledger), challenge (the version waits for review), promote, reject,
            rollback, acknowledge (a person has seen the problems of the ledger).
        version: None for a rollback to no model and for an acknowledgement.
        champion: the champion before the entry; None if there was none.
        reason: written by a person or by register.
        gates: SHA-256 of the verdict on every gate as JSON, or "" if no gate was evaluated.
        report: MLflow's run that holds the report, or "".
        note: what was checked or found, or "".
        time: UTC, to the second, by the writer's clock; entries are ordered by their numbers.
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
        return sha256_of(asdict(self))

    @property
    def text(self) -> str:
        """The tag's value."""
        return canonical(asdict(self) | {"sha256": self.sha256})

    @property
    def sets_champion(self) -> bool:
        return self.action in SETS_CHAMPION


@dataclass(frozen=True)
class Ledger:
    """The entries in order, and their problems.

    Attributes:
        entries: the valid entries.
        void: entries written under a lock that had been taken over.
        problems: missing or changed entries, a sentence each.
        acknowledged: the problems that a person has acknowledged.
        head: number of the last entry for which the aliases have been set.
        end: the highest number found.
        fence: the highest fence found.
    """

    entries: tuple[Entry, ...]
    void: tuple[Entry, ...]
    problems: tuple[str, ...]
    acknowledged: tuple[str, ...]
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
        return next((entry.version for entry in reversed(self.entries) if entry.sets_champion), None)

    @property
    def challenger(self) -> int | None:
        """The version that waits for review: the last challenged one, unless it was decided on."""
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

    def highest_status(self, version: int) -> str | None:
        """`champion` if the version ever was, otherwise `rejected`, otherwise `challenger`, otherwise None."""
        actions = {entry.action for entry in self.entries if entry.version == version}
        if actions & set(SETS_CHAMPION):
            return CHAMPION
        return REJECTED if "reject" in actions else CHALLENGER if "challenge" in actions else None

    def before(self) -> list[int]:
        """The former champions, latest first, without the current one."""
        versions = dict.fromkeys(entry.version for entry in reversed(self.entries) if entry.sets_champion)
        return [version for version in versions if version is not None and version != self.champion]

    def next_entry(self, fence: int, **values: Any) -> Entry:
        """The entry that follows the last one."""
        previous = "" if self.last is None else self.last.sha256
        return Entry(number=self.end + 1, fence=fence, champion=self.champion, previous=previous, **values)

    def with_entry(self, entry: Entry) -> "Ledger":
        return replace(self, entries=(*self.entries, entry), end=entry.number, fence=max(self.fence, entry.fence))


def read(tags: Mapping[str, str]) -> Ledger:
    """Read the ledger from a registered model's tags; problems are returned, not raised."""
    written: dict[int, list[tuple[int, str, Entry | None]]] = {}
    for key, text in tags.items():
        if match := KEY.fullmatch(key):
            written.setdefault(int(match[1]), []).append((int(match[2]), text, _parse(key, text)))
    head, head_sha256 = _head(tags)
    # An acknowledgement is matched by the texts of the problems, so these must stay the same across versions.
    problems, entries, void, acknowledged = [], [], [], []
    before = 0
    previous: str | None = ""
    for number, items in sorted(written.items()):
        problems += _gap(before, number)
        *stale, (_, text, entry) = sorted(items, key=lambda item: item[0])
        void += [older for _, _, older in stale if older is not None]
        if entry is None:
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            problems.append(f"entry {number} was changed: it does not match its own SHA-256 (it is now {digest}…)")
        else:
            # After a gap, the chain cannot be checked; an acknowledgement closes the gap.
            if number == before + 1 and previous is not None and entry.previous != previous:
                problems.append(f"entry {number} does not follow from entry {before}: one of them was replaced")
            if number == head and head_sha256 != entry.sha256:
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
        acknowledged=tuple(problem for problem in problems if problem in acknowledged),
        head=head,
        end=max(before, head),
        fence=max((fence for items in written.values() for fence, _, _ in items), default=0),
    )


def inspect(name: str, model: Any, find: Callable[[int], Any]) -> tuple[Ledger, list[str]]:
    """Return the ledger with its problems and those of the aliases, a sentence each.

    Args:
        name: of the registered model.
        model: its tags and aliases; None if there is none.
        find: returns a version by its number, or None.
    """
    ledger = read({} if model is None else model.tags)
    if model is None or not ledger.entries:
        alias = model.aliases.get(CHAMPION) if model and not ledger.problems else None
        version = alias and find(int(alias))
        if version and LINEAGE in version.tags:
            gone = f"every entry is missing, though version {version.version} is champion and was made under a ledger"
            ledger = replace(ledger, problems=(gone,))
        return ledger, list(ledger.problems)
    problems = list(ledger.problems)
    for alias, found, expected in moved_aliases(model.aliases, ledger):
        if found is None and expected is not None and find(expected) is None:
            continue  # the version was deleted in MLflow, and its alias with it
        problems.append(
            f"the alias '{alias}' of '{name}' is at version {found or 'none'}, by the ledger at {expected or 'none'}"
        )
    return ledger, problems


def moved_aliases(aliases: Mapping[str, Any], ledger: Ledger) -> Iterator[tuple[str, int | None, int | None]]:
    """Each alias that differs from the ledger, with the version that it has and the one that the ledger gives it."""
    for alias, expected in ledger.aliases.items():
        found = None if aliases.get(alias) is None else int(aliases[alias])
        if found != expected:
            yield alias, found, expected


def _gap(before: int, number: int) -> list[str]:
    if number <= before + 1:
        return []
    missing = f"entry {before + 1} is" if number == before + 2 else f"entries {before + 1} to {number - 1} are"
    return [f"{missing} missing"]


def head_text(entry: Entry) -> str:
    """The value of the tag `twofold.ledger`, which names the last entry for which the aliases have been set."""
    return f"{entry.number} {entry.sha256}"


def _head(tags: Mapping[str, str]) -> tuple[int, str]:
    match = re.fullmatch(r"([0-9]+) ([0-9a-f]{64})", tags.get(HEAD, ""))
    return (int(match[1]), match[2]) if match else (0, "")


def _parse(key: str, text: str) -> Entry | None:
    """The entry, or None if the text is not an entry or does not match its key or its own SHA-256."""
    try:
        values = json.loads(text)
        digest = values.pop("sha256")
        if set(values) != {field.name for field in fields(Entry)} or values["action"] not in ACTIONS:
            return None
        entry = Entry(**values)
        return entry if entry.key == key and entry.sha256 == digest else None
    except (ValueError, TypeError, AttributeError, KeyError):
        return None
