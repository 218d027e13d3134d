"""The tables of the cache's file. A file of another version is no cache of this one: it is begun again, empty.

Only keys are indexed by a hash, since an index in random order costs a page for each entry once it has grown large.
Uses have a table of their own, so that to mark one does not write the value beside it anew. The total is kept by
triggers: a sum at each write would read all of `uses`.
"""

import sqlite3
from contextlib import closing

VERSION = 3  # the file's user_version; count up when a table changes
# Both tables go by one number, which has a column: VACUUM renumbers rows without one (https://sqlite.org/lang_vacuum.html).
_TABLES = (
    "CREATE TABLE entries (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, image TEXT NOT NULL, "
    "checksum BLOB NOT NULL, value BLOB NOT NULL)",
    "CREATE TABLE uses (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL)",
    "CREATE INDEX by_use ON uses (used)",
    "CREATE TABLE total (bytes INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0)",
    "CREATE TRIGGER removed AFTER DELETE ON entries BEGIN DELETE FROM uses WHERE id = old.id; END",
    "CREATE TRIGGER added AFTER INSERT ON uses BEGIN UPDATE total SET bytes = bytes + new.size; END",
    "CREATE TRIGGER taken AFTER DELETE ON uses BEGIN UPDATE total SET bytes = bytes - old.size; END",
    f"PRAGMA user_version = {VERSION}",
)


class OtherVersionError(sqlite3.DatabaseError):
    """The file's tables are those of another version."""


def has_tables(file: sqlite3.Connection) -> bool:
    """Whether the file has the tables; an empty one has none.

    Raises:
        OtherVersionError: it has those of another version.
    """
    with closing(file.execute("PRAGMA user_version")) as rows:
        found = int(rows.fetchone()[0])
        if found == 0:  # which was a version once, and is that of an empty file
            rows.execute("SELECT count(*) FROM sqlite_master")
            if rows.fetchone()[0] == 0:
                return False
    if found != VERSION:
        raise OtherVersionError(f"it is of version {found}, this Twofold writes version {VERSION}")
    return True


def ensure_schema(file: sqlite3.Connection) -> None:
    """Make the tables where there are none, in the transaction that this begins."""
    if not has_tables(file):
        file.execute("BEGIN IMMEDIATE")
        if not has_tables(file):  # or another process was first
            for statement in _TABLES:  # not executescript, which would end the transaction first
                file.execute(statement)
