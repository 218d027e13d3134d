"""The memo in a folder: one SQLite file.

In: keys and values, from `twofold/memo.py`. Out: those that are there and whole. A file that is no database, or a
damaged one, is begun again; what else goes wrong is raised as sqlite3.Error or OSError.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from twofold.progress import say

T = TypeVar("T")
PLACE = "TWOFOLD_CACHE"
PATIENCE = 60.0  # seconds to wait for another process's write
PATIENCE_TO_MARK = 1.0  # seconds; a use that is not marked costs little
AT_ONCE = 500  # keys a query; SQLite allows 32,766 variables
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
    """The values that are there and whole, by key; they count as used now, if the file can be written."""

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

    found = _run(look) if database().exists() else {}
    if found:
        _mark(list(found))
    return found


def put(entries: Sequence[tuple[str, str, bytes]], kind: str, limit: int) -> None:
    """Keep values of a kind, and no more than `limit` bytes in all; entries are (key, image's SHA-256, value)."""
    now = time.time_ns()

    def write(memo: sqlite3.Connection) -> None:
        for name, image, value in entries:
            # Not OR REPLACE, which would pass the triggers by.
            memo.execute("DELETE FROM entries WHERE key = ?", (name,))
            memo.execute(
                "INSERT INTO entries VALUES (?, ?, ?, ?)", (name, image, hashlib.sha256(value).digest(), value)
            )
            memo.execute("INSERT INTO uses VALUES (?, ?, ?, ?)", (name, kind, len(value), now))
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
    with closing(memo.execute("SELECT key, size FROM uses ORDER BY used, key")) as oldest:
        while held > size and (row := oldest.fetchone()):
            gone.append(row[:1])
            held -= row[1]
    memo.executemany("DELETE FROM entries WHERE key = ?", gone)


def _damaged(memo: sqlite3.Connection) -> list[tuple[str, int]]:
    rows = memo.execute("SELECT key, sha256, value FROM entries")
    return [(key, len(value)) for key, sha256, value in rows if hashlib.sha256(value).digest() != sha256]


def change(work: Callable[[sqlite3.Connection], T], patience: float = PATIENCE) -> T:
    """What `work` returns, given the file with its tables; what it writes is kept as a whole or not at all."""

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
        change(write, PATIENCE_TO_MARK)


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
