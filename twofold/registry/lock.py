"""A lock for one promotion at a time, on any MLflow store: it needs only that MLflow creates a name atomically.

`locked` takes a store and the name of the registered model that is to be changed. It yields a lock with a fencing
number, or raises an error that names the holder.

A lock is a registered model `twofold.lock.<model>.<number>` without versions. To acquire it, a process creates the next
number; of all processes one succeeds, on SQLite as over HTTP. The holder writes a heartbeat tag every HEARTBEAT
seconds, and another tag at release. The name stays until the next holder has created its own, so only the highest
number counts, and numbers only grow.

Lease. A waiter takes a lock over, by creating the next number, when its own monotonic clock has seen no new heartbeat
for LEASE seconds. Clocks of different machines are never compared. The assumption is that a live holder reaches MLflow
at least once in LEASE seconds.

Fencing. A holder that was suspended (a paused machine, a lost network) may continue after its lock was taken over. It
cannot do harm: its writes bear its fencing number (see `twofold.registry.ledger`), and after every write that counts it
calls `Lock.check`, which finds the higher number.
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
from functools import partial

from twofold.core.errors import RegistryError
from twofold.core.progress import EVERY, say
from twofold.tracking import registry_client
from twofold.tracking.store import MlflowStore, impatient

PREFIX = "twofold.lock."
KIND, HOLDER, TOKEN = "twofold.kind", "twofold.holder", "twofold.token"
HEARTBEAT_TAG, RELEASED = "twofold.beat", "twofold.released"
LEASE = 30.0  # seconds without a heartbeat until a lock may be taken over
HEARTBEAT = 5.0  # seconds between two heartbeats
RELEASE = 10.0  # seconds that a release waits for the last heartbeat
PATIENCE = 900.0  # seconds until a waiter gives up
MIN_PAUSE, MAX_PAUSE = 0.1, 2.0  # seconds between two polls: random, and longer each time


@dataclass(frozen=True)
class Lock:
    """An acquired lock.

    Attributes:
        model: name of the registered model that is locked.
        fence: the fencing number; later locks have higher ones.
        token: random text by which a holder recognises its own lock.
    """

    store: MlflowStore
    model: str
    fence: int
    token: str

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.model}.{self.fence}"

    def check(self) -> None:
        """Raise RegistryError if the lock was taken over, because no heartbeat arrived within the lease."""
        newest = _newest(_list_locks(self.store, self.model))
        if newest is None or (newest.number, newest.token) != (self.fence, self.token):
            raise RegistryError(
                f"the lock on '{self.model}' was taken over by {newest.holder if newest else 'someone'}, because this "
                f"process sent no heartbeat for {LEASE:g} s; `twofold models history` shows whether its change counts"
            )


@dataclass(frozen=True)
class _StoredLock:
    """A lock as it was read from the store."""

    number: int
    token: str
    holder: str
    heartbeat: str
    released: bool


@contextmanager
def locked(store: MlflowStore, model: str, *, above: int = 0) -> Iterator[Lock]:
    """Hold the lock on a registered model during the block.

    Args:
        model: name of the registered model, which need not exist.
        above: a known fencing number that the new one must exceed.

    Raises:
        RegistryError: another process has held it for PATIENCE seconds.
    """
    lock = _acquire(store, model, above)
    stop = threading.Event()
    heartbeats = threading.Thread(target=_send_heartbeats, args=(lock, stop), daemon=True)
    heartbeats.start()
    try:
        yield lock
    finally:
        stop.set()
        heartbeats.join(RELEASE)
        problem = "the last heartbeat has no answer"
        if not heartbeats.is_alive():
            with impatient():  # it expires by itself
                write = partial(registry_client.tag_model, store, lock.name, RELEASED, "true")
                problem = registry_client.try_write(write)
        if problem:
            say(f"warning: the lock on '{model}' could not be released ({problem}); it expires after {LEASE:g} s")


def holder() -> str:
    """The process that acquires a lock: user, host and process id."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id need not be in /etc/passwd
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"


def _acquire(store: MlflowStore, model: str, above: int) -> Lock:
    token = uuid.uuid4().hex
    begin = time.monotonic()
    watched: tuple[int, str] | None = None  # number and last heartbeat of the lock that is waited for
    since, tell, pause = begin, begin, 0.0
    while True:
        newest = _newest(_list_locks(store, model))
        now = time.monotonic()
        if newest is not None and (newest.number, newest.heartbeat) != watched:
            watched, since = (newest.number, newest.heartbeat), now
        if newest is None or newest.released or now - since > LEASE:
            lock = Lock(store, model, max(above, 0 if newest is None else newest.number) + 1, token)
            if _create(lock):
                return lock
            continue
        if now >= tell:
            say(f"waiting for the lock on '{model}', held by {newest.holder}")
            tell = now + EVERY
        if now - begin > PATIENCE:
            raise RegistryError(
                f"the lock on '{model}' was not free for {PATIENCE:g} s, held now by {newest.holder}; if that process "
                f"has ended, run again: the lock is taken over {LEASE:g} s after its last heartbeat"
            )
        pause = min(max(MIN_PAUSE, 1.5 * pause), MAX_PAUSE)
        time.sleep(random.uniform(MIN_PAUSE, pause))  # noqa: S311  (spreads the polls of several waiters)


def _create(lock: Lock) -> bool:
    """Create the lock's name; return whether this process created it and no later lock exists."""
    tags = {KIND: "lock", TOKEN: lock.token, HOLDER: holder(), HEARTBEAT_TAG: "0"}
    about = f"A lock of '{lock.model}', not a model: one promotion at a time. The next promotion deletes it."
    created = registry_client.create_unique(lock.store, lock.name, tags, about)
    locks = _list_locks(lock.store, lock.model)
    if not created and all(each.number < lock.fence for each in locks):
        # The name is gone by now, or exists and may not be read: in that case this raises "permission denied".
        registry_client.registered(lock.store, lock.name)
    # A request that was repeated after a lost answer finds its own name, and recognises it by the token.
    newest = _newest(locks)
    acquired = newest is not None and (newest.number, newest.token) == (lock.fence, lock.token)
    if acquired:
        for each in locks:
            if each.number < lock.fence:
                registry_client.remove(lock.store, f"{PREFIX}{lock.model}.{each.number}")
    elif created:
        # Other processes took and released later locks while this one was creating its name.
        registry_client.remove(lock.store, lock.name)
    return acquired


def _send_heartbeats(lock: Lock, stop: threading.Event) -> None:
    count = 0
    while not stop.wait(HEARTBEAT):
        count += 1
        # A lost heartbeat does no harm; if all of them are lost, `check` raises an error.
        tag = partial(registry_client.tag_model, lock.store, lock.name, HEARTBEAT_TAG, str(count))
        registry_client.try_write(tag)


def _newest(locks: list[_StoredLock]) -> _StoredLock | None:
    return max(locks, key=lambda lock: lock.number, default=None)


def _list_locks(store: MlflowStore, model: str) -> list[_StoredLock]:
    locks = []
    for each in registry_client.models_named(store, f"{PREFIX}{model}."):
        number, tags = each.name.removeprefix(f"{PREFIX}{model}."), each.tags
        if re.fullmatch(r"[0-9]+", number):
            heartbeat, owner = tags.get(HEARTBEAT_TAG, ""), tags.get(HOLDER, "someone")
            locks.append(_StoredLock(int(number), tags.get(TOKEN, ""), owner, heartbeat, RELEASED in tags))
    return locks
