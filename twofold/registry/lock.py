"""One promotion at a time, whatever the store: a lock that is nothing but a name which MLflow creates atomically.

In: a store, the name of the registered model that is to be changed. Out: a lock with a fencing number, or an error
that says who holds it.

A lock is a registered model `twofold.lock.<model>.<number>` without versions. To take it, create the next number:
of all processes one succeeds, on SQLite as over HTTP. Who has it sets a tag every BEAT seconds, and another one when
done. The name then stays until the next holder has created the one after it, so that of all locks on a model the
highest number is the only one that counts, and numbers only grow.

Expiry. A lock whose beat a waiter has seen unchanged for LEASE seconds, by the waiter's own monotonic clock, is taken
over by creating the next number. No two machines' clocks are ever compared. The assumption is that a holder that
lives reaches MLflow at least once in LEASE seconds.

Fencing. A holder that was stopped (a paused machine, a lost network) and wakes up after its lock was taken over still
believes that it holds it. It cannot do harm: what it writes bears its number (see `twofold.ledger`), and after every
write that counts it asks `Lock.check`, which sees the higher number.
"""

import getpass
import os
import random
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from twofold.core.errors import RegistryError
from twofold.core.progress import say
from twofold.tracking import registry_client
from twofold.tracking.store import MlflowStore

PREFIX = "twofold.lock."
KIND, HOLDER, TOKEN = "twofold.kind", "twofold.holder", "twofold.token"
BEAT_TAG, RELEASED = "twofold.beat", "twofold.released"
LEASE = 30.0  # seconds without a beat until a lock may be taken over
BEAT = 5.0  # seconds between two beats
PATIENCE = 900.0  # seconds until a waiter gives up
SHORTEST, LONGEST = 0.1, 2.0  # seconds between two looks: longer each time, by chance


@dataclass(frozen=True)
class Lock:
    """A lock that was taken.

    Attributes:
        store: where.
        model: name of the registered model that it is on.
        fence: its number; later locks have higher ones.
        token: by which the holder knows its own.
    """

    store: MlflowStore
    model: str
    fence: int
    token: str

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.model}.{self.fence}"

    def check(self) -> None:
        """Make sure that the lock is still held.

        Raises:
            RegistryError: it was taken over, this process having been silent for too long.
        """
        top = _top(self.store, self.model)
        if top is None or (top.number, top.token) != (self.fence, self.token):
            raise RegistryError(
                f"the lock on '{self.model}' was taken over by {top.holder if top else 'someone'}, for this process "
                f"was not heard of for {LEASE:g} s; whether its change counts is in `twofold models history`"
            )


@dataclass(frozen=True)
class _Seen:
    """One lock as a look at the store shows it."""

    number: int
    token: str
    holder: str
    beat: str
    released: bool


@contextmanager
def locked(store: MlflowStore, model: str, *, above: int = 0) -> Iterator[Lock]:
    """Hold the lock on a registered model for as long as the block lasts.

    Args:
        store: of the registry.
        model: name of the registered model; it need not exist.
        above: a fencing number that the lock's must exceed, known from elsewhere.

    Raises:
        RegistryError: someone else holds it for too long.
    """
    lock = _acquire(store, model, above)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(lock, stop), daemon=True)
    heart.start()
    try:
        yield lock
    finally:
        stop.set()
        heart.join()
        problem = registry_client.try_write(lambda: registry_client.tag_model(store, lock.name, RELEASED, "true"))
        if problem:
            say(f"warning: the lock on '{model}' could not be given back ({problem}); it expires after {LEASE:g} s")


def holder() -> str:
    """Who takes a lock: user, host and process."""
    return f"{getpass.getuser() if _has_name() else os.getuid()}@{socket.gethostname()}, process {os.getpid()}"


def _has_name() -> bool:
    # In a container the user's number need not be in /etc/passwd.
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError):
        return False


def _acquire(store: MlflowStore, model: str, above: int) -> Lock:
    token = uuid.uuid4().hex
    begin = time.monotonic()
    watched: tuple[int, str] | None = None  # number and beat of the lock that is waited for
    since, pause = begin, 0.0
    while True:
        top = _top(store, model)
        now = time.monotonic()
        if top is not None and (top.number, top.beat) != watched:
            watched, since = (top.number, top.beat), now
        if top is None or top.released or now - since > LEASE:
            lock = Lock(store, model, max(above, 0 if top is None else top.number) + 1, token)
            if _take(lock):
                return lock
            continue
        if not pause:
            say(f"waiting for the lock on '{model}', held by {top.holder}")
        if now - begin > PATIENCE:
            raise RegistryError(
                f"the lock on '{model}' was not free for {PATIENCE:g} s, held now by {top.holder}; if that is no "
                f"longer running, run again, and it is taken over {LEASE:g} s after its last sign of life"
            )
        pause = min(max(SHORTEST, 1.5 * pause), LONGEST)
        time.sleep(random.uniform(SHORTEST, pause))  # noqa: S311  (that not all look at once)


def _take(lock: Lock) -> bool:
    """Create the lock's name; whether it was done by this process and no later lock is there."""
    tags = {KIND: "lock", TOKEN: lock.token, HOLDER: holder(), BEAT_TAG: "0"}
    claimed = registry_client.create_unique(lock.store, lock.name, tags)
    found = _all(lock.store, lock.model)
    if not claimed and all(seen.number < lock.fence for seen in found):
        # Gone by now, or there and not to be seen: then this says that permission is denied.
        registry_client.registered(lock.store, lock.name)
    # A request that was repeated after a lost answer finds its own name; its token tells.
    top = max(found, key=lambda seen: seen.number, default=None)
    own = top is not None and (top.number, top.token) == (lock.fence, lock.token)
    if own:
        for seen in found:
            if seen.number < lock.fence:
                registry_client.remove(lock.store, f"{PREFIX}{lock.model}.{seen.number}")
    elif claimed:
        # It had waited so long with its number that others came and went.
        registry_client.remove(lock.store, lock.name)
    return own


def _beat(lock: Lock, stop: threading.Event) -> None:
    count = 0
    while not stop.wait(BEAT):
        count += 1
        value = str(count)
        # One that does not arrive costs nothing; if none does, `check` says so.
        registry_client.try_write(lambda value=value: registry_client.tag_model(lock.store, lock.name, BEAT_TAG, value))  # type: ignore[misc]


def _top(store: MlflowStore, model: str) -> _Seen | None:
    return max(_all(store, model), key=lambda seen: seen.number, default=None)


def _all(store: MlflowStore, model: str) -> list[_Seen]:
    found = []
    for each in registry_client.models_named(store, f"{PREFIX}{model}."):
        number = re.fullmatch(r"[0-9]+", each.name.removeprefix(f"{PREFIX}{model}."))
        if number:
            tags = each.tags
            found.append(
                _Seen(
                    int(number.group()),
                    tags.get(TOKEN, ""),
                    tags.get(HOLDER, "someone"),
                    tags.get(BEAT_TAG, ""),
                    RELEASED in tags,
                )
            )
    return found
