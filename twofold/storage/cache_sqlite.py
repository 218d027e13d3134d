"""The memo in a folder: one SQLite file.

In: keys and values, from `twofold/storage/cache.py`. Out: those that are there and whole. A file that is no database, or a
damaged one, is begun again; what else goes wrong is raised as sqlite3.Error or OSError.

Reading writes nothing, so that processes which read do not wait for each other: which entries were used is written
down with the next entry that is kept, and when the process ends.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from multiprocessing.util import Finalize
from pathlib import Path
from typing import NamedTuple, TypeVar

import xxhash

from twofold.core.progress import say
from twofold.storage import cache_schema

T = TypeVar("T")
PLACE = "TWOFOLD_CACHE"
PATIENCE = 60.0  # seconds to wait for another process's write
PATIENCE_TO_MARK = 5.0  # seconds; a use that is not marked costs little
AT_ONCE = 500  # keys a query; SQLite allows 32,766 variables
MOST_UNMARKED = 100_000  # keys of 64 letters
PAGE = 32768  # bytes; an image's pixels lie on 5 such pages, and on 40 of SQLite's usual ones
MARK = "UPDATE uses SET used = ?2 WHERE id = (SELECT id FROM entries WHERE key = ?1) AND used < ?2"
ROWS = "SELECT key, checksum, value FROM entries WHERE id IN"


class _Reader(NamedTuple):
    """A connection that stays open: to open one for every few values costs as much as the values."""

    process: int
    device: int
    number: int  # of the file; one that was begun again has another, as long as the old one is open
    connection: sqlite3.Connection


class _Kept(threading.local):
    reader: _Reader | None = None


_kept = _Kept()
_of_parents: list[_Reader] = []  # a process that was forked may neither use nor close what its parent opened
_unmarked: dict[str, dict[str, int]] = {}  # when keys were used that are not marked so yet, by `where()`
_first = threading.Lock()  # of several threads that read
_marking: set[int] = set()  # the processes that will do so when they end


def database() -> Path:
    """The memo's file."""
    return Path(os.environ.get(PLACE) or ".twofold/memo") / "memo.sqlite"


def title() -> str:
    """Where the memo lies, as the user said it."""
    return str(database())


def where() -> str:
    """Where the memo lies, the same for one place however it was said."""
    return str(database().absolute())


def exists() -> bool:
    """Whether anything was ever kept."""
    return database().exists()


def extent() -> str:
    """How much room it takes, in words."""
    return f"a file of {database().stat().st_size:,} bytes"


def get(keys: Sequence[str]) -> dict[str, bytes]:
    """The values that are there and whole, by key; they will count as used now (see `mark`)."""

    def look() -> dict[str, bytes]:
        memo = _reader()
        found: dict[str, bytes] = {}
        if not cache_schema.has_tables(memo):
            return found
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            # By row, not by key: what was kept together lies together, and a disk reads ahead.
            rows = memo.execute(f"{ROWS} (SELECT id FROM entries WHERE key IN ({marks}))", some)  # noqa: S608
            found |= {name: value for name, checksum, value in rows if _whole(value, checksum)}
        return found

    found = _mended(look) if database().exists() else {}
    if found:
        _use(found)
    return found


def put(entries: Sequence[tuple[str, str, bytes]], kind: str, limit: int) -> None:
    """Keep values of a kind, and no more than `limit` bytes in all; entries are (key, image's SHA-256, value)."""
    now = time.time_ns()

    def write(memo: sqlite3.Connection) -> None:
        for name, image, value in entries:
            # Not OR REPLACE, which would pass the triggers by.
            memo.execute("DELETE FROM entries WHERE key = ?", (name,))
            entry = (name, image, xxhash.xxh3_128_digest(value), value)
            memo.execute("INSERT INTO entries (key, image, checksum, value) VALUES (?, ?, ?, ?)", entry)
            memo.execute("INSERT INTO uses VALUES (last_insert_rowid(), ?, ?, ?)", (kind, len(value), now))
        _trim(memo, limit)

    change(write)


def forget(image: str) -> int:
    """Remove everything that was made from an image, from the file's free pages too; returns how many entries."""
    if not database().exists():
        return 0
    removed = change(lambda memo: memo.execute("DELETE FROM entries WHERE image = ?", (image,)).rowcount)
    compact()
    return removed


def kinds() -> list[tuple[str, int, int]]:
    """(kind, entries, bytes), by name."""
    query = "SELECT kind, count(*), sum(size) FROM uses GROUP BY kind ORDER BY kind"
    return change(lambda memo: memo.execute(query).fetchall())


def damaged() -> list[int]:
    """Bytes of each entry that fails its hash."""
    return [size for _, size in change(_damaged)]


def drop_damaged() -> None:
    """Remove the entries that fail their hash."""
    failing = [(key,) for key, _ in change(_damaged)]
    change(lambda memo: memo.executemany("DELETE FROM entries WHERE key = ?", failing))


def trim(size: int) -> None:
    """Remove the entries used longest ago, until the values hold no more than `size` bytes together."""
    change(lambda memo: _trim(memo, size))


def compact() -> None:
    """Give the file's free pages back to the disk."""
    with closing(_connect()) as memo:
        memo.execute("VACUUM")


def _trim(memo: sqlite3.Connection, size: int) -> None:
    (held,) = memo.execute("SELECT bytes FROM total").fetchone()
    gone = []
    with closing(memo.execute("SELECT id, size FROM uses ORDER BY used, id")) as oldest:
        while held > size and (row := oldest.fetchone()):
            gone.append(row[:1])
            held -= row[1]
    memo.executemany("DELETE FROM entries WHERE id = ?", gone)


def _damaged(memo: sqlite3.Connection) -> list[tuple[str, int]]:
    rows = memo.execute("SELECT key, checksum, value FROM entries")
    return [(key, len(value)) for key, checksum, value in rows if not _whole(value, checksum)]


def _whole(value: bytes, checksum: bytes) -> bool:
    """Whether a value is what was kept, by XXH3 of 128 bits.

    What has to be noticed is corruption. Who can write the file can write any checksum into it, so a stronger one,
    which takes ten times as long and more, would guard nothing.
    """
    return bool(xxhash.xxh3_128_digest(value) == checksum)


def change(work: Callable[[sqlite3.Connection], T], patience: float = PATIENCE) -> T:
    """What `work` returns, given the file with its tables; what it writes is kept as a whole or not at all.

    The uses that are not marked yet are marked with it.
    """
    used = dict(_unmarked.get(where(), {}))

    def with_tables(memo: sqlite3.Connection) -> T:
        cache_schema.ensure_schema(memo)
        memo.executemany(MARK, used.items())
        return work(memo)

    def once() -> T:
        with closing(_connect(patience)) as memo, memo:
            return with_tables(memo)

    done = _mended(once)
    left = _unmarked.get(where(), {})
    for key, when in used.items():
        if left.get(key) == when:
            left.pop(key, None)  # another thread may have written it down meanwhile
    return done


def mark() -> None:
    """Write down which entries were used, if the file can be written; done at the end of every process."""
    if _unmarked.get(where()) and database().exists():
        # Read-only, full, or busy: the values have been read all the same.
        with suppress(sqlite3.Error, OSError):
            change(lambda memo: None, PATIENCE_TO_MARK)


def _use(keys: dict[str, bytes]) -> None:
    process = os.getpid()
    with _first:
        if process not in _marking:
            _unmarked.clear()  # a process that was forked has its parent's, who marks them itself
            _marking.clear()
            _marking.add(process)
            # atexit is not run in the workers of a pool.
            Finalize(None, mark, exitpriority=0)
    used = _unmarked.setdefault(where(), {})
    used.update(dict.fromkeys(keys, time.time_ns()))
    if len(used) > MOST_UNMARKED:
        mark()
        used.clear()


def _reader() -> sqlite3.Connection:
    """The connection to read by, to the file that lies there now."""
    file, process, kept = database().stat(), os.getpid(), _kept.reader
    if kept is not None and kept[:3] == (process, file.st_dev, file.st_ino):
        return kept.connection
    if kept is not None and kept.process != process:
        _of_parents.append(kept)
    elif kept is not None:
        kept.connection.close()
    _kept.reader = None
    connection = _connect()
    _kept.reader = _Reader(process, file.st_dev, file.st_ino, connection)
    return connection


def _mended(work: Callable[[], T]) -> T:
    """What `work` returns; a file that is no memo is begun again, and the work done once more."""
    try:
        return work()
    except sqlite3.DatabaseError as error:
        # Locked, read-only, disk full: not for us to mend.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        mendable = code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if not mendable and not isinstance(error, cache_schema.OtherVersionError):
            raise
        say(f"{database()}: not readable as a memo ({error}); it is begun again")
        database().unlink(missing_ok=True)
        _connect().close()
        return work()


def _connect(patience: float = PATIENCE) -> sqlite3.Connection:
    database().parent.mkdir(parents=True, exist_ok=True)
    memo = sqlite3.connect(database(), timeout=patience)
    memo.execute(f"PRAGMA page_size = {PAGE}")  # of a new file
    memo.execute("PRAGMA secure_delete = ON")
    # A file that a power cut damaged is begun again, so nothing needs to wait for the disk.
    memo.execute("PRAGMA synchronous = OFF")
    return memo
