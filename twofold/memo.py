"""A content-addressed memory of what is expensive and depends only on content; never needed for correctness.

In: keys made of everything that a value depends on. Out: the values that are there and whole; one that is damaged is
as good as missing, and a memo that cannot be read or written is done without, with a line said. One SQLite file in
TWOFOLD_CACHE (default: `.twofold/memo` in the current folder), whose values together are no larger than
TWOFOLD_CACHE_LIMIT: those that were used longest ago make room for new ones.
"""

import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from twofold.errors import ParameterError
from twofold.progress import say

T = TypeVar("T")
PATIENCE = 60.0  # seconds to wait for another process's write
PATIENCE_TO_MARK = 1.0  # seconds; a use that is not marked costs little
AT_ONCE = 500  # keys a query; SQLite allows 32,766 variables
PLACE, LIMIT = "TWOFOLD_CACHE", "TWOFOLD_CACHE_LIMIT"
LARGEST = 1 << 28  # bytes of one value; SQLite holds no more than 10^9, and three times that in memory
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
VERSION = 1  # of the tables; the last line of TABLES writes it
# Uses have a table of their own: to mark one must not write the value beside it anew. The total is kept by triggers:
# a sum at each put would read all of `uses`. A file of version 0 has entries alone, all of them features.
TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries
  (key TEXT PRIMARY KEY, image TEXT NOT NULL, sha256 BLOB NOT NULL, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_image ON entries (image);
CREATE TABLE IF NOT EXISTS uses
  (key TEXT PRIMARY KEY, kind TEXT NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON uses (used);
CREATE TABLE IF NOT EXISTS total (bytes INTEGER NOT NULL);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total);
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON entries BEGIN DELETE FROM uses WHERE key = old.key; END;
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON uses BEGIN UPDATE total SET bytes = bytes + new.size; END;
CREATE TRIGGER IF NOT EXISTS taken AFTER DELETE ON uses BEGIN UPDATE total SET bytes = bytes - old.size; END;
INSERT OR IGNORE INTO uses SELECT key, 'features', length(value), 0 FROM entries;
PRAGMA user_version = 1;
COMMIT;
"""


_done_without: set[tuple[str, Path]] = set()  # what failed once in this process: ("read" or "written", which memo)


def key(*parts: str) -> str:
    """The key of a value: SHA-256 over everything that it depends on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def database() -> Path:
    """The memo's file.

    Raises:
        ParameterError: TWOFOLD_CACHE is an address, and no folder.
    """
    place = os.environ.get(PLACE) or ".twofold/memo"
    if "://" in place:
        raise ParameterError(f"{PLACE}: found {place!r}; the memo lies in a folder: name one that can be written")
    return Path(place) / "memo.sqlite"


def limit() -> int:
    """How many bytes the values may hold together, from TWOFOLD_CACHE_LIMIT.

    Raises:
        ParameterError: it is no size.
    """
    return parse_size(os.environ.get(LIMIT, "10G"), LIMIT)


def parse_size(text: str, name: str) -> int:
    """A size in bytes, from a number with or without K, M, G or T (10^3, 10^6, 10^9, 10^12).

    Args:
        name: what is being read, for the error.

    Raises:
        ParameterError: the text is no size.
    """
    match = re.fullmatch(r"([0-9]+)([KMGT]?)", text.strip().upper())
    if match is None:
        raise ParameterError(
            f"{name}: {text!r} is not a size; allowed: a whole number of bytes, or one with K, M, G or T, as 500M"
        )
    return int(match[1]) * UNITS[match[2]]


def get(keys: Sequence[str]) -> dict[str, bytes]:
    """The values that are there, by key. They count as used now, if the memo can be written."""

    def look(memo: sqlite3.Connection) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        if not memo.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone():
            return found
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = memo.execute(f"SELECT key, sha256, value FROM entries WHERE key IN ({marks})", some)  # noqa: S608
            found |= {name: value for name, sha256, value in rows if hashlib.sha256(value).digest() == sha256}
        return found

    found: dict[str, bytes] = {}
    if keys and ("read", database().absolute()) not in _done_without:
        try:
            found = _run(look) if database().exists() else {}
        except (sqlite3.Error, OSError) as error:
            _do_without("read", error)
    if found:
        _mark(list(found))
    return found


def put(entries: Iterable[tuple[str, str, bytes]], kind: str) -> None:
    """Keep values, and let go of those used longest ago when there is no room for all.

    Args:
        entries: (key, SHA-256 of the image that the value was made from, value); a key that is there is replaced, and
            a value larger than the limit, or than LARGEST, is not kept.
        kind: what sort of values they are, for `twofold cache`; such as "features".

    Raises:
        ParameterError: TWOFOLD_CACHE_LIMIT is no size.
    """
    most, now = limit(), time.time_ns()
    rows = [(name, image, hashlib.sha256(value).digest(), value) for name, image, value in entries]
    kept = [row for row in rows if len(row[3]) <= min(most, LARGEST)]

    def write(memo: sqlite3.Connection) -> None:
        for row in kept:
            # Not OR REPLACE, which would pass the triggers by.
            memo.execute("DELETE FROM entries WHERE key = ?", (row[0],))
            memo.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", row)
            memo.execute("INSERT INTO uses VALUES (?, ?, ?, ?)", (row[0], kind, len(row[3]), now))
        trim(memo, most)

    if kept and ("written", database().absolute()) not in _done_without:
        try:
            _change(write)
        except (sqlite3.Error, OSError) as error:
            _do_without("written", error)


def forget(image: str) -> int:
    """Remove everything that was made from an image, from the file's free pages too.

    Returns:
        How many entries there were.

    Raises:
        ParameterError: the memo cannot be written.
    """
    if not database().exists():
        return 0
    removed = change(lambda memo: memo.execute("DELETE FROM entries WHERE image = ?", (image,)).rowcount)
    compact()
    return removed


def trim(memo: sqlite3.Connection, size: int) -> None:
    """Remove the entries used longest ago, until the values hold no more than `size` bytes together."""
    (held,) = memo.execute("SELECT bytes FROM total").fetchone()
    gone = []
    with closing(memo.execute("SELECT key, size FROM uses ORDER BY used, key")) as oldest:
        while held > size and (row := oldest.fetchone()):
            gone.append(row[:1])
            held -= row[1]
    memo.executemany("DELETE FROM entries WHERE key = ?", gone)


def compact() -> None:
    """Give the file's free pages back to the disk.

    Raises:
        ParameterError: the memo cannot be written.
    """
    with _told(), closing(_connect()) as memo:
        memo.execute("VACUUM")


def change(work: Callable[[sqlite3.Connection], T]) -> T:
    """What `work` returns, given the memo with its tables; what it writes is kept as a whole or not at all.

    Raises:
        ParameterError: the memo cannot be written.
    """
    with _told():
        return _change(work)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise ParameterError(f"{PLACE}: {database()} cannot be used: {error}; name a folder that can be") from None


def _do_without(what: str, error: Exception) -> None:
    """Say so once, and try no more in this process: a lock may have cost a minute."""
    _done_without.add((what, database().absolute()))
    say(f"memo: {database()} cannot be {what} ({error}); going on without it")


def _change(work: Callable[[sqlite3.Connection], T], patience: float = PATIENCE) -> T:
    def with_tables(memo: sqlite3.Connection) -> T:
        if memo.execute("PRAGMA user_version").fetchone()[0] < VERSION:
            memo.executescript(TABLES)
        return work(memo)

    return _run(with_tables, patience)


def _mark(keys: list[str]) -> None:
    """Set the time of their last use to now."""
    now = time.time_ns()

    def write(memo: sqlite3.Connection) -> None:
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            memo.execute(f"UPDATE uses SET used = ? WHERE key IN ({marks})", [now, *some])  # noqa: S608

    # Read-only, full, or busy: the values have been read all the same.
    with suppress(sqlite3.Error, OSError):
        _change(write, PATIENCE_TO_MARK)


def _run(work: Callable[[sqlite3.Connection], T], patience: float = PATIENCE) -> T:
    try:
        return _once(work, patience)
    except sqlite3.DatabaseError as error:
        # Locked, read-only, disk full: not for us to mend.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        say(f"{database()}: not readable as a memo ({error}); it is begun again")
        database().unlink(missing_ok=True)
        return _once(work, patience)


def _once(work: Callable[[sqlite3.Connection], T], patience: float) -> T:
    with closing(_connect(patience)) as memo, memo:
        return work(memo)


def _connect(patience: float = PATIENCE) -> sqlite3.Connection:
    database().parent.mkdir(parents=True, exist_ok=True)
    memo = sqlite3.connect(database(), timeout=patience)
    memo.execute("PRAGMA secure_delete = ON")
    # A file that a power cut damaged is begun again, so nothing needs to wait for the disk.
    memo.execute("PRAGMA synchronous = OFF")
    return memo
