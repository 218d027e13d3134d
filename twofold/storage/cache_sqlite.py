"""Cache backend in a folder: one SQLite file, called by `twofold/storage/cache.py`.

A lookup returns the values that are present and intact. A corrupt file, or one that is not a database, is replaced by
an empty one; any other failure is raised as sqlite3.Error or OSError.

A lookup writes nothing, so that readers do not wait for each other. The uses are recorded with the next write, and
when the process ends.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import NamedTuple, TypeVar

import xxhash

from twofold.core.progress import say
from twofold.storage import cache_schema

T = TypeVar("T")
LOCATION = "TWOFOLD_CACHE"
LOCK_TIMEOUT = 60.0  # seconds to wait for another process's write
USES_LOCK_TIMEOUT = 5.0  # seconds; little is lost if a use is not recorded
KEYS_PER_QUERY = 500  # SQLite allows 32,766 variables
MAX_UNRECORDED = 100_000  # keys of 64 letters
PAGE = 32768  # bytes; an image's pixels take 5 such pages, or 40 of SQLite's default size
RECORD_USE = "UPDATE uses SET used = :time WHERE id = (SELECT id FROM entries WHERE key = :key) AND used < :time"
SELECT = "SELECT key, checksum, value FROM entries"


class _Reader(NamedTuple):
    """A connection that stays open, since opening one costs as much as reading a few values."""

    file: tuple[int, int, int]  # process, device, inode; a replaced file has another inode while the old one is open
    connection: sqlite3.Connection


_thread = threading.local()  # its `reader`
_inherited: list[_Reader] = []  # a forked process must neither use nor close its parent's connections
_unrecorded: dict[str, dict[str, int]] = {}  # by absolute address: {key: time of its last use, in nanoseconds}
_registration = threading.Lock()
_registered: set[int] = set()  # the process that will record its uses when it ends


def database() -> Path:
    """Return the path of the cache's file."""
    return Path(os.environ.get(LOCATION) or ".twofold/memo") / "memo.sqlite"


def title() -> str:
    """Return the cache's path as the user wrote it."""
    return str(database())


def absolute_address() -> str:
    """Return the cache's absolute path."""
    return str(database().absolute())


def exists() -> bool:
    """Return whether anything was ever stored."""
    return database().exists()


def extent() -> str:
    """Return the cache's size on disk, in words."""
    return f"a file of {database().stat().st_size:,} bytes"


def get(keys: Sequence[str]) -> dict[str, bytes]:
    """Return the values that are present and intact, by key; their uses are recorded later (see `record_uses`)."""
    values = _with_recovery(partial(_read, keys)) if exists() else {}
    if values:
        _note_uses(values)
    return values


def _read(keys: Sequence[str]) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    connection = _reader()
    if cache_schema.has_tables(connection):
        for start in range(0, len(keys), KEYS_PER_QUERY):
            some = keys[start : start + KEYS_PER_QUERY]
            marks = ",".join("?" * len(some))
            # In the order of the rows: entries stored together are adjacent on disk, and disks read ahead.
            query = f"{SELECT} WHERE id IN (SELECT id FROM entries WHERE key IN ({marks}))"  # noqa: S608
            rows = connection.execute(query, some)
            values |= {name: value for name, checksum, value in rows if _is_intact(value, checksum)}
    return values


def put(entries: Sequence[tuple[str, str, bytes]], kind: str, limit: int) -> None:
    """Store values of a kind, at most `limit` bytes in all; entries are (key, image's SHA-256, value)."""
    now = time.time_ns()

    def write(connection: sqlite3.Connection) -> None:
        for name, image, value in entries:
            # INSERT OR REPLACE would not fire the triggers.
            connection.execute("DELETE FROM entries WHERE key = ?", (name,))
            row = (name, image, xxhash.xxh3_128_digest(value), value)
            connection.execute("INSERT INTO entries (key, image, checksum, value) VALUES (?, ?, ?, ?)", row)
            connection.execute("INSERT INTO uses VALUES (last_insert_rowid(), ?, ?, ?)", (kind, len(value), now))
        _evict(limit, connection)

    transaction(write)


def forget(image: str) -> int:
    """Remove all values computed from an image, also from the file's free pages, and return their number."""
    if not exists():
        return 0
    removed = transaction(lambda file: file.execute("DELETE FROM entries WHERE image = ?", (image,)).rowcount)
    compact()
    return removed


def kinds() -> list[tuple[str, int, int]]:
    """Return (kind, entries, bytes), sorted by kind."""
    query = "SELECT kind, count(*), sum(size) FROM uses GROUP BY kind ORDER BY kind"
    return transaction(lambda connection: connection.execute(query).fetchall())


def damaged() -> list[int]:
    """Return the size in bytes of each value that does not match its checksum."""
    return [size for _, size in transaction(_find_corrupt)]


def drop_damaged() -> None:
    """Remove the values that do not match their checksum."""
    corrupt = [(key,) for key, _ in transaction(_find_corrupt)]
    transaction(lambda connection: connection.executemany("DELETE FROM entries WHERE key = ?", corrupt))


def trim(size: int) -> None:
    """Remove the least recently used entries until the values hold at most `size` bytes together."""
    transaction(partial(_evict, size))


def compact() -> None:
    """Return the file's free pages to the disk."""
    with closing(_connect()) as connection:
        connection.execute("VACUUM")


def _evict(size: int, connection: sqlite3.Connection) -> None:
    (total,) = connection.execute("SELECT bytes FROM total").fetchone()
    evicted = []
    with closing(connection.execute("SELECT id, size FROM uses ORDER BY used, id")) as oldest:
        while total > size and (row := oldest.fetchone()):
            evicted.append(row[:1])
            total -= row[1]
    connection.executemany("DELETE FROM entries WHERE id = ?", evicted)


def _find_corrupt(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    return [(key, len(value)) for key, checksum, value in connection.execute(SELECT) if not _is_intact(value, checksum)]


def _is_intact(value: bytes, checksum: bytes) -> bool:
    """Return whether a value matches its XXH3 checksum of 128 bits.

    The checksum detects corruption. A stronger one would take ten times as long and would not prevent tampering:
    anyone who can write to the file can also write a matching checksum.
    """
    return bool(xxhash.xxh3_128_digest(value) == checksum)


def transaction(work: Callable[[sqlite3.Connection], T], timeout: float = LOCK_TIMEOUT) -> T:
    """Return the result of `work`, called with a connection; all its writes are committed, or none.

    Uses that are not recorded yet are recorded in the same transaction.
    """
    uses = dict(_unrecorded.get(absolute_address(), {}))

    def run() -> T:
        with closing(_connect(timeout)) as connection, connection:
            cache_schema.ensure_schema(connection)
            connection.executemany(RECORD_USE, [{"key": key, "time": time} for key, time in uses.items()])
            return work(connection)

    result = _with_recovery(run)
    remaining = _unrecorded.get(absolute_address(), {})
    for key, when in uses.items():
        if remaining.get(key) == when:
            remaining.pop(key, None)  # another thread may have removed it meanwhile
    return result


def record_uses() -> None:
    """Record which entries were used, if the file can be written; also called when a process ends."""
    if _unrecorded.get(absolute_address()) and exists():
        # The file may be read-only, full, or busy; the values were read successfully in any case.
        with suppress(sqlite3.Error, OSError):
            transaction(lambda connection: None, USES_LOCK_TIMEOUT)


def _note_uses(keys: dict[str, bytes]) -> None:
    process = os.getpid()
    with _registration:
        if process not in _registered:
            _unrecorded.clear()  # a forked process inherits its parent's uses, which the parent records itself
            _registered.clear()
            _registered.add(process)
            # The worker processes of a pool do not run atexit functions.
            Finalize(None, record_uses, exitpriority=0)
    uses = _unrecorded.setdefault(absolute_address(), {})
    uses.update(dict.fromkeys(keys, time.time_ns()))
    if len(uses) > MAX_UNRECORDED:
        record_uses()
        uses.clear()


def _reader() -> sqlite3.Connection:
    """Return this thread's open connection to the file that is there now."""
    status = database().stat()
    file = (os.getpid(), status.st_dev, status.st_ino)
    reader: _Reader | None = getattr(_thread, "reader", None)
    if reader is not None and reader.file == file:
        return reader.connection
    if reader is not None and reader.file[0] != file[0]:
        _inherited.append(reader)
    elif reader is not None:
        reader.connection.close()
    _thread.reader = None
    _thread.reader = reader = _Reader(file, _connect())
    return reader.connection


def _with_recovery(work: Callable[[], T]) -> T:
    """Return the result of `work`; if the file is not a usable cache, replace it by an empty one and try once more."""
    try:
        return work()
    except sqlite3.DatabaseError as error:
        # Other errors (locked, read-only, disk full) do not mean that the file is corrupt.
        is_corrupt = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if not is_corrupt and not isinstance(error, cache_schema.OtherVersionError):
            raise
        say(f"{database()}: not readable as a cache ({error}); replaced by an empty one")
        database().unlink(missing_ok=True)
        _connect().close()
        return work()


def _connect(timeout: float = LOCK_TIMEOUT) -> sqlite3.Connection:
    database().parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(database(), timeout=timeout)
    connection.execute(f"PRAGMA page_size = {PAGE}")  # takes effect in a new file
    connection.execute("PRAGMA secure_delete = ON")
    # A file that a power failure corrupts is replaced, so no write needs to wait for the disk.
    connection.execute("PRAGMA synchronous = OFF")
    return connection
