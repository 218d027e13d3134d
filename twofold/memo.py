"""A content-addressed memory of what is expensive and depends only on content; never needed for correctness.

In: keys made of everything that a value depends on. Out: the values that are there and whole; one that is damaged is
as good as missing. One SQLite file in TWOFOLD_CACHE (default: `.twofold/memo` in the current folder).
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from twofold.progress import say

T = TypeVar("T")
PATIENCE = 60.0  # seconds to wait for another process's write
AT_ONCE = 500  # keys a query; SQLite allows 32,766 variables
TABLE = """
CREATE TABLE IF NOT EXISTS entries
  (key TEXT PRIMARY KEY, image TEXT NOT NULL, sha256 BLOB NOT NULL, value BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_image ON entries (image);
"""


def key(*parts: str) -> str:
    """The key of a value: SHA-256 over everything that it depends on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def database() -> Path:
    """The memo's file."""
    return Path(os.environ.get("TWOFOLD_CACHE", ".twofold/memo")) / "memo.sqlite"


def get(keys: Sequence[str]) -> dict[str, bytes]:
    """The values that are there, by key."""

    def look(memo: sqlite3.Connection) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = memo.execute(f"SELECT key, sha256, value FROM entries WHERE key IN ({marks})", some)  # noqa: S608
            found |= {name: value for name, sha256, value in rows if hashlib.sha256(value).digest() == sha256}
        return found

    return _run(look) if database().exists() else {}


def put(entries: Iterable[tuple[str, str, bytes]]) -> None:
    """Keep (key, SHA-256 of the image that the value was made from, value); a key that is there is replaced."""
    rows = [(name, image, hashlib.sha256(value).digest(), value) for name, image, value in entries]
    _run(lambda memo: memo.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows))


def forget(image: str) -> int:
    """Remove everything that was made from an image, from the file's free pages too.

    Returns:
        How many entries there were.
    """
    if not database().exists():
        return 0
    removed = _run(lambda memo: memo.execute("DELETE FROM entries WHERE image = ?", (image,)).rowcount)
    with closing(_connect()) as memo:
        memo.execute("VACUUM")
    return removed


def _run(work: Callable[[sqlite3.Connection], T]) -> T:
    try:
        return _once(work)
    except sqlite3.DatabaseError as error:
        # Locked, read-only, disk full: not for us to mend.
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        say(f"{database()}: not readable as a memo ({error}); it is begun again")
        database().unlink()
        return _once(work)


def _once(work: Callable[[sqlite3.Connection], T]) -> T:
    with closing(_connect()) as memo, memo:
        memo.executescript(TABLE)
        return work(memo)


def _connect() -> sqlite3.Connection:
    database().parent.mkdir(parents=True, exist_ok=True)
    memo = sqlite3.connect(database(), timeout=PATIENCE)
    memo.execute("PRAGMA secure_delete = ON")
    # A file that a power cut damaged is begun again, so nothing needs to wait for the disk.
    memo.execute("PRAGMA synchronous = OFF")
    return memo
