"""One change of who is champion: under the lock, on fresh knowledge, into the ledger, then to the aliases.

In: a store, a registered model's name, a change with its actor and reason, and the champion that the change was decided
against. Out: the ledger's entry, and aliases that follow from the ledger.

The order of the writes is entry, aliases, head. Killed before the entry, nothing has happened; after it, whoever comes
next finds that the head lags behind and sets the aliases.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twofold.core.errors import ParameterError, RegistryError
from twofold.core.progress import say
from twofold.registry import ledger as ledgers
from twofold.registry.ledger import HEAD, LONGEST_REASON, Action, Entry, Ledger
from twofold.registry.lineage import LINEAGE
from twofold.registry.lock import Lock, holder, locked
from twofold.registry.provenance import run_git
from twofold.tracking import registry_client
from twofold.tracking.store import MlflowStore


@dataclass(frozen=True)
class Change:
    """What is to be written into the ledger; its fields are those of `twofold.registry.ledger.Entry`."""

    action: Action
    version: int | None
    actor: str
    reason: str
    gates: str = ""
    report: str = ""
    note: str = ""


def sound_ledger(store: MlflowStore, name: str) -> Ledger:
    """The ledger, after making sure that it is whole and that the aliases follow from it.

    What a killed process has left undone is done first.

    Raises:
        RegistryError: an entry is missing or was changed, or an alias was moved by other hands.
    """
    ledger, told = state(store, name)
    if not told and (ledger.settled or not ledger.entries):
        return ledger
    # What looks wrong may be someone else's change under way; under the lock there is none.
    with locked(store, name, above=ledger.fence) as lock:
        return _sound(lock)


@contextmanager
def change_under_lock(store: MlflowStore, name: str) -> Iterator[tuple[Lock, Ledger]]:
    """The lock, and the ledger as it is under it; for `commit`."""
    before, _ = state(store, name)
    with locked(store, name, above=before.fence) as lock:
        yield lock, _sound(lock)


def commit(lock: Lock, change: Change, *, expected: int | None) -> Entry:
    """Write one change; within the block of `changing`.

    Args:
        lock: that is held.
        change: what to write.
        expected: the champion that it was decided against, or None for none; read again just before the write.

    Raises:
        RegistryError: the champion is another one by now, or the lock was lost.
        ParameterError: no actor or no reason is given, or one that is too long.
    """
    _worded(change)
    store, name = lock.store, lock.model
    ledger = _sound(lock)
    if not ledger.entries:
        ledger = _adopt(lock, ledger)
    require_same_champion(name, expected, ledger.champion)
    entry = ledger.next(lock.fence, time=_now(), **vars(change))
    registry_client.tag_model(store, name, entry.key, entry.text)
    lock.check()
    _settle(store, name, ledger.followed_by(entry))
    lock.check()  # stopped in between, it would have moved an alias back, and the head: whoever comes next moves both
    return entry


def repair(store: MlflowStore, name: str, *, actor: str, reason: str) -> list[str]:
    """Set every alias as the ledger says; what was done, a line each.

    Args:
        store: of the registry.
        name: of the registered model.
        actor: who, where the ledger itself is damaged.
        reason: why it may go on all the same: needed only then. What is wrong is written into the ledger with it.

    Raises:
        RegistryError: the ledger is damaged and there is no reason, or a version that it names is gone.
    """
    if registry_client.registered(store, name) is None:
        raise RegistryError(f"there is no registered model '{name}' in this store; see MLFLOW_TRACKING_URI and --name")
    before, _ = state(store, name)
    with locked(store, name, above=before.fence) as lock:
        ledger, _ = state(store, name)
        done = []
        if ledger.problems:
            if not reason:
                raise RegistryError(
                    f"the ledger of '{name}' is damaged: {'; '.join(ledger.problems)}. Its entries cannot be brought "
                    "back from here. Find out who changed them; then go on with what is left by --repair --reason WHY, "
                    "which is recorded"
                )
            change = Change("acknowledge", None, actor, reason, note="\n".join(ledger.problems))
            _worded(change)
            entry = ledger.next(lock.fence, time=_now(), **vars(change))
            registry_client.tag_model(store, name, entry.key, entry.text)
            lock.check()
            ledger = ledger.followed_by(entry)
            done.append(f"entry {entry.number}: acknowledged {len(ledger.problems)} problem(s)")
            if not any(known.moves for known in ledger.entries):
                ledger = _adopt(lock, ledger)  # nothing but the alias says any more who is champion
        if ledger.entries:
            done += _settle(store, name, ledger)
        return done


def actor(given: str | None = None) -> str:
    """Who acts: as given, else git's user.name and user.email, else the login name with the host's."""
    if given:
        return given
    found = [(run_git(Path.cwd(), "config", key) or "").strip() for key in ("user.name", "user.email")]
    if found[0]:
        return f"{found[0]} <{found[1]}>" if found[1] else found[0]
    return os.environ.get("USER") or holder().partition(",")[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _worded(change: Change) -> None:
    for word, text in (("actor", change.actor), ("reason", change.reason)):
        if not text.strip() or len(text) > LONGEST_REASON:
            raise ParameterError(
                f"{word}: must be 1 to {LONGEST_REASON} characters and not blank, found {len(text)}; it is what "
                "others will read in the ledger"
            )


def state(store: MlflowStore, name: str) -> tuple[Ledger, list[str]]:
    """The ledger, and what is wrong with it or with an alias, a sentence each."""
    model = registry_client.registered(store, name)
    ledger = ledgers.read({} if model is None else model.tags)
    if model is None or not ledger.entries:
        found = None if ledger.problems else registry_client.version_by_alias(store, name)
        if found is not None and LINEAGE in found.tags:
            gone = f"every entry is missing, though version {found.version} is champion and was made under a ledger"
            ledger = replace(ledger, problems=(gone,))
        return ledger, list(ledger.problems)
    told = list(ledger.problems)
    for alias, number in ledger.aliases.items():
        found = model.aliases.get(alias)
        if (None if found is None else int(found)) == number:
            continue
        if found is None and number is not None and registry_client.version(store, name, str(number)) is None:
            continue  # deleted in MLflow, and its alias with it
        told.append(
            f"the alias '{alias}' of '{name}' is at version {found or 'none'}, by the ledger at {number or 'none'}"
        )
    return ledger, told


def _sound(lock: Lock) -> Ledger:
    """The ledger under the lock, what a killed process has left undone being done."""
    ledger, told = state(lock.store, lock.model)
    if ledger.problems:
        raise RegistryError(
            f"the ledger of '{lock.model}' is damaged, and nothing is promoted on it: {'; '.join(ledger.problems)}; "
            "see `twofold models history`"
        )
    if not ledger.settled:
        for line in _settle(lock.store, lock.model, ledger):
            say(f"finished what a killed process had begun: {line}")
    elif told:
        raise RegistryError(
            f"{'; '.join(told)}: someone has moved it in MLflow. Put it back with `twofold models history --repair`, "
            "then record what is meant with `twofold models rollback` or `approve`"
        )
    return ledger


def _adopt(lock: Lock, ledger: Ledger) -> Ledger:
    """A champion that was there before the ledger, or whose entry is gone, is entered as the alias says."""
    found = registry_client.version_by_alias(lock.store, lock.model)
    if found is None:
        return ledger
    reason = "it held the alias, and no entry says since when"
    values: dict[str, Any] = vars(Change("adopt", int(found.version), actor(), reason))
    entry = ledger.next(lock.fence, time=_now(), **values)
    registry_client.tag_model(lock.store, lock.model, entry.key, entry.text)
    lock.check()
    after = ledger.followed_by(entry)
    _settle(lock.store, lock.model, after)
    return after


def require_same_champion(name: str, expected: int | None, found: int | None) -> None:
    """Nothing is decided on stale knowledge.

    Raises:
        RegistryError: the champion is another version than when a decision was prepared.
    """
    if found != expected:
        raise RegistryError(
            f"the champion of '{name}' was version {expected or 'none'} when this model was judged and is version "
            f"{found or 'none'} now; someone else has changed it: nothing was moved; run it again"
        )


def require_undecided(name: str, version: int | None, before: Ledger, now: Ledger) -> None:
    """Nothing is decided over the head of someone else who has decided on the same version meanwhile.

    Raises:
        RegistryError: the ledger has an entry about the version that was not there when a decision was prepared.
    """
    for entry in now.entries:
        if version is not None and entry.version == version and entry.number > before.end:
            raise RegistryError(
                f"version {version} of '{name}' has been decided on meanwhile: {entry.action} by {entry.actor} "
                f"({entry.reason}); nothing was moved; look at it again, and repeat your decision if it still stands"
            )


def _settle(store: MlflowStore, name: str, ledger: Ledger) -> list[str]:
    """Set the aliases that differ from the ledger, then its head; what was done."""
    model = registry_client.registered(store, name)
    done = []
    for alias, number in ledger.aliases.items():
        found = None if model is None else model.aliases.get(alias)
        if (None if found is None else int(found)) == number:
            continue
        if number is not None and registry_client.version(store, name, str(number)) is None:
            if found is None:
                continue
            raise RegistryError(
                f"version {number} of '{name}', which by the ledger is {alias}, has been deleted in MLflow; choose "
                "another with `twofold models rollback VERSION` (`none` for no model)"
            )
        registry_client.set_alias(store, name, alias, number)
        done.append(f"'{alias}' moved from version {found or 'none'} to {number or 'none'}")
    last = ledger.last
    text = "" if last is None else ledgers.head_text(last)
    if last is not None and (model is None or model.tags.get(HEAD) != text):
        registry_client.tag_model(store, name, HEAD, text)
    return done
