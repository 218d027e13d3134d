"""Change the champion: under the lock, write an entry into the ledger, then set the aliases.

Takes a store, a registered model's name, a change with its actor and reason, and the champion that the change was
decided against. Returns the ledger's entry. The order of the writes is entry, aliases, head: a process killed before
the entry has changed nothing; after a process killed later, the next one sees that the head lags behind and sets the
aliases.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from twofold.core.errors import ParameterError, RegistryError
from twofold.core.progress import say
from twofold.registry import ledger as ledgers
from twofold.registry.ledger import HEAD, LONGEST_REASON, Action, Entry, Ledger
from twofold.registry.lock import Lock, holder, locked
from twofold.registry.provenance import run_git
from twofold.tracking import registry_client
from twofold.tracking.registry_client import LONGEST_MODEL_TAG
from twofold.tracking.store import MlflowStore

OTHER_FIELDS, PROBLEM = 500, 130  # characters in an entry's tag: all but actor, reason and note; a problem in the note


@dataclass(frozen=True)
class Change:
    """A change to write into the ledger; the fields are those of `twofold.registry.ledger.Entry`."""

    action: Action
    version: int | None
    actor: str
    reason: str
    gates: str = ""
    report: str = ""
    note: str = ""


def sound_ledger(store: MlflowStore, name: str) -> Ledger:
    """Read the ledger and verify it and the aliases, after finishing the change of a killed process.

    Raises:
        RegistryError: an entry is missing or was changed, or an alias was moved outside Twofold.
    """
    ledger, problems = inspect_ledger(store, name)
    if not problems and (ledger.settled or not ledger.entries):
        return ledger
    # The problem may be another process's change in progress; under the lock there is none.
    with locked(store, name, above=ledger.fence) as lock:
        return _sound_ledger_under(lock)


@contextmanager
def change_under_lock(store: MlflowStore, name: str) -> Iterator[tuple[Lock, Ledger]]:
    """Acquire the lock and read the ledger under it; for `commit`."""
    before, _ = inspect_ledger(store, name)
    with locked(store, name, above=before.fence) as lock:
        yield lock, _sound_ledger_under(lock)


def commit(lock: Lock, change: Change, *, expected: int | None) -> Entry:
    """Write one change, within the block of `change_under_lock`.

    Args:
        expected: the champion that the change was decided against, or None; compared again just before the write.

    Raises:
        RegistryError: the champion has changed, or the lock was lost.
        ParameterError: the actor or the reason is blank or too long.
    """
    check_texts(change.actor, change.reason)
    ledger = _sound_ledger_under(lock)
    if not ledger.entries:
        ledger = _adopt(lock, ledger)
    require_same_champion(lock.model, expected, ledger.champion)
    entry, ledger = _write_entry(lock, ledger, change)
    _settle(lock.store, lock.model, ledger)
    lock.check()  # a holder whose lock was lost here moved an alias and the head back; the next process sets both
    return entry


def repair(store: MlflowStore, name: str, *, actor: str, reason: str) -> list[str]:
    """Set every alias as the ledger says; return what was done, a line each.

    Args:
        actor: recorded if the ledger itself is damaged.
        reason: why to go on with a damaged ledger, or "". It is recorded with the problems.

    Raises:
        RegistryError: the ledger is damaged and no reason is given, or a version that it names is gone.
    """
    if registry_client.registered(store, name) is None:
        raise RegistryError(f"there is no registered model '{name}' in this store; see MLFLOW_TRACKING_URI and --name")
    before, _ = inspect_ledger(store, name)
    with locked(store, name, above=before.fence) as lock:
        ledger, _ = inspect_ledger(store, name)
        done = []
        if ledger.problems:
            if not reason:
                raise RegistryError(
                    f"the ledger of '{name}' is damaged: {'; '.join(ledger.problems)}. Its entries cannot be restored. "
                    "Find out who changed them; then accept the remaining ones with --repair --reason WHY, which is "
                    "recorded"
                )
            check_texts(actor, reason)
            most = (LONGEST_MODEL_TAG - OTHER_FIELDS - _stored(actor) - _stored(reason)) // PROBLEM
            for start in range(0, len(ledger.problems), most):
                problems = ledger.problems[start : start + most]
                change = Change("acknowledge", None, actor, reason, note="\n".join(problems))
                entry, ledger = _write_entry(lock, ledger, change)
                done.append(f"entry {entry.number}: acknowledged {len(problems)} problem(s)")
            if not any(each.sets_champion for each in ledger.entries):
                ledger = _adopt(lock, ledger)  # only the alias still says which version is champion
        if ledger.entries:
            done += _settle(store, name, ledger)
        return done


def actor(name: str | None = None) -> str:
    """Who acts: the given name, otherwise git's user.name and user.email, otherwise $USER or user@host."""
    if name:
        return name
    user, email = ((run_git(Path.cwd(), "config", key) or "").strip() for key in ("user.name", "user.email"))
    if user:
        return f"{user} <{email}>" if email else user
    return os.environ.get("USER") or holder().partition(",")[0]


def describe_decision(store: MlflowStore, name: str, version: int | None, started: int) -> dict[str, str]:
    """When and by whom the last decision on a version was made; without one, that of register (milliseconds, UTC)."""
    entries = inspect_ledger(store, name)[0].entries
    last = next((entry for entry in reversed(entries) if version is not None and entry.version == version), None)
    when = datetime.fromisoformat(last.time) if last else datetime.fromtimestamp(started / 1000, UTC)
    return {"time": f"{when:%Y-%m-%d %H:%M} UTC", "by": last.actor if last else f"register, run by {actor()}"}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def check_texts(actor: str, reason: str) -> None:
    """Refuse an actor or a reason that is blank, or too long for an entry of the ledger."""
    for key, text in (("actor", actor), ("reason", reason)):
        if not text.strip() or _stored(text) > LONGEST_REASON:
            raise ParameterError(
                f"{key}: must be 1 to {LONGEST_REASON} characters (quotation marks, backslashes and line breaks count "
                f"twice) and not blank, found {_stored(text)}; it is shown in the ledger"
            )


def _stored(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False)) - 2


def inspect_ledger(store: MlflowStore, name: str) -> tuple[Ledger, list[str]]:
    """Read the ledger; return it with its problems and those of the aliases, a sentence each."""
    model = registry_client.registered(store, name)
    return ledgers.inspect(name, model, lambda number: registry_client.version(store, name, str(number)))


def _sound_ledger_under(lock: Lock) -> Ledger:
    """Verify the ledger under the lock, after finishing the change of a killed process."""
    ledger, problems = inspect_ledger(lock.store, lock.model)
    if ledger.problems:
        raise RegistryError(
            f"the ledger of '{lock.model}' is damaged, and nothing is promoted on it: {'; '.join(ledger.problems)}; "
            "see `twofold models history`"
        )
    if not ledger.settled:
        for line in _settle(lock.store, lock.model, ledger):
            say(f"finished the change of a killed process: {line}")
    elif problems:
        raise RegistryError(
            f"{'; '.join(problems)}: someone has moved it in MLflow. Put it back with `twofold models history "
            "--repair`, then record the intended change with `twofold models rollback` or `approve`"
        )
    return ledger


def _write_entry(lock: Lock, ledger: Ledger, change: Change) -> tuple[Entry, Ledger]:
    """Write the entry of a change, then make sure that the lock is still held; return the entry and the new ledger."""
    entry = ledger.next_entry(lock.fence, time=_now(), **vars(change))
    registry_client.tag_model(lock.store, lock.model, entry.key, entry.text)
    lock.check()
    return entry, ledger.with_entry(entry)


def _adopt(lock: Lock, ledger: Ledger) -> Ledger:
    """Enter the champion that the alias names, if it is older than the ledger or its entry is gone."""
    version = registry_client.version_by_alias(lock.store, lock.model)
    if version is None:
        return ledger
    reason = "it held the alias, and no entry says since when"
    _, ledger = _write_entry(lock, ledger, Change("adopt", int(version.version), actor(), reason))
    _settle(lock.store, lock.model, ledger)
    return ledger


def require_same_champion(name: str, expected: int | None, found: int | None) -> None:
    """Raise RegistryError for a decision that was prepared against another champion."""
    if found != expected:
        raise RegistryError(
            f"the champion of '{name}' was version {expected or 'none'} when this model was judged and is version "
            f"{found or 'none'} now; someone else has changed it: nothing was moved; run it again"
        )


def require_undecided(name: str, version: int | None, before: Ledger, now: Ledger) -> None:
    """Raise RegistryError if the ledger has an entry about the version that a decision was prepared without."""
    for entry in now.entries:
        if version is not None and entry.version == version and entry.number > before.end:
            raise RegistryError(
                f"version {version} of '{name}' has been decided on meanwhile: {entry.action} by {entry.actor} "
                f"({entry.reason}); nothing was moved; look at it again, and repeat your decision if it still stands"
            )


def _settle(store: MlflowStore, name: str, ledger: Ledger) -> list[str]:
    """Set the aliases that differ from the ledger, then its head; return what was done, a line each."""
    model = registry_client.registered(store, name)
    done = []
    for alias, found, expected in ledgers.moved_aliases({} if model is None else model.aliases, ledger):
        if expected is not None and registry_client.version(store, name, str(expected)) is None:
            if found is None:
                continue
            raise RegistryError(
                f"version {expected} of '{name}', which by the ledger is {alias}, has been deleted in MLflow; choose "
                "another with `twofold models rollback VERSION` (`none` for no model)"
            )
        registry_client.set_alias(store, name, alias, expected)
        done.append(f"'{alias}' moved from version {found or 'none'} to {expected or 'none'}")
    if ledger.last is not None:
        text = ledgers.head_text(ledger.last)
        if model is None or model.tags.get(HEAD) != text:
            registry_client.tag_model(store, name, HEAD, text)
    return done
