"""The tables of the memo's file: what they are, how an older twofold's become them, and how the file gets smaller.

In: a connection to the file. Out: the tables of VERSION, with everything that was kept in them.

Whatever is ordered by a hash costs a page for each entry once it has grown large, so that only the keys are. Uses have
a table of their own, since to mark one must not write the value beside it anew, and go by the number of the entry's
row. The total is kept by triggers: a sum at each put would read all of `uses`.
"""

import sqlite3
from contextlib import closing

# The file's user_version. In version 1 uses went by key, and entries had an index by image; version 0 had entries
# alone, all of them features.
VERSION = 2

# `sha256` holds a value's checksum, and is called by what it once was. A column more, for the row's number, would mean
# to write all values of an older file anew; so it is the number that SQLite gives (see `compact`).
_BY_ROW = (
    "CREATE TABLE IF NOT EXISTS entries "
    "(key TEXT PRIMARY KEY, image TEXT NOT NULL, sha256 BLOB NOT NULL, value BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS uses (key TEXT PRIMARY KEY, kind TEXT, size INTEGER, used INTEGER) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS total (bytes INTEGER NOT NULL)",
    "DROP INDEX IF EXISTS by_image",
    "DROP TRIGGER IF EXISTS removed",
    "DROP TRIGGER IF EXISTS added",
    "DROP TRIGGER IF EXISTS taken",
    "CREATE TABLE by_row (row INTEGER PRIMARY KEY, kind TEXT NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL)",
    "INSERT INTO by_row SELECT entries.rowid, coalesce(kind, 'features'), coalesce(size, length(value)), "
    "coalesce(used, 0) FROM entries LEFT JOIN uses USING (key)",
    "DROP TABLE uses",
    "ALTER TABLE by_row RENAME TO uses",
    "CREATE INDEX by_use ON uses (used)",
    "DELETE FROM total",
    "INSERT INTO total SELECT coalesce(sum(size), 0) FROM uses",
    "CREATE TRIGGER removed AFTER DELETE ON entries BEGIN DELETE FROM uses WHERE row = old.rowid; END",
    "CREATE TRIGGER added AFTER INSERT ON uses BEGIN UPDATE total SET bytes = bytes + new.size; END",
    "CREATE TRIGGER taken AFTER DELETE ON uses BEGIN UPDATE total SET bytes = bytes - old.size; END",
    "PRAGMA user_version = 2",
)
_BY_KEY = (
    "DROP TRIGGER removed",
    "DROP TRIGGER added",
    "DROP TRIGGER taken",
    "CREATE TABLE by_key (key TEXT PRIMARY KEY, kind TEXT, size INTEGER, used INTEGER) WITHOUT ROWID",
    "INSERT INTO by_key SELECT key, kind, size, used FROM uses JOIN entries ON entries.rowid = uses.row",
    "DROP TABLE uses",
    "ALTER TABLE by_key RENAME TO uses",
    "PRAGMA user_version = 1",
)


def ensure_schema(memo: sqlite3.Connection) -> None:
    """Make the tables, or make an older version's into them, in the transaction that this begins."""
    if _version(memo) < VERSION:
        memo.execute("BEGIN IMMEDIATE")
        if _version(memo) < VERSION:  # or another process was first
            _run(memo, _BY_ROW)


def compact(memo: sqlite3.Connection) -> None:
    """Give the file's free pages back to the disk.

    VACUUM may number rows anew where a table has no column for it (https://sqlite.org/lang_vacuum.html). So uses go by
    key meanwhile, as in version 1, and nobody else gets at the file; if it ends in between, the next change of the
    file goes on from there.
    """
    with memo:
        memo.execute("BEGIN IMMEDIATE")
        # Only now: with this mode, a lock to read is kept too, and two that hold one would wait for each other.
        memo.execute("PRAGMA locking_mode = EXCLUSIVE")
        if _version(memo) == VERSION:
            _run(memo, _BY_KEY)
    memo.execute("VACUUM")
    with memo:
        ensure_schema(memo)


def _version(memo: sqlite3.Connection) -> int:
    with closing(memo.execute("PRAGMA user_version")) as rows:
        return int(rows.fetchone()[0])


def _run(memo: sqlite3.Connection, statements: tuple[str, ...]) -> None:
    """Not executescript, which would end the transaction first."""
    for statement in statements:
        memo.execute(statement)
