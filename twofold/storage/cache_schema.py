"""Tables of the cache's SQLite file; a file with the tables of another version is replaced by an empty one.

Only keys have an index in hash order: an index in random order costs one page per entry once it has grown large. Uses
have a table of their own, so that recording a use does not rewrite the value. Triggers maintain the total size, since
summing it at each write would read all of `uses`.
"""

import sqlite3
from contextlib import closing

VERSION = 3  # the file's user_version; increase it when a table changes
# Both tables have a column for the id that they share: VACUUM renumbers the rows of a table without one
# (https://sqlite.org/lang_vacuum.html).
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
    """The file has the tables of another version."""


def has_tables(connection: sqlite3.Connection) -> bool:
    """Return whether the file has tables; raise OtherVersionError if they are those of another version."""
    # The version comes second: another process may be creating the tables, which get it in the same transaction.
    if not _number(connection, "SELECT count(*) FROM sqlite_master"):
        return False
    found = _number(connection, "PRAGMA user_version")
    if found != VERSION:
        raise OtherVersionError(f"it is of version {found}, this Twofold writes version {VERSION}")
    return True


def _number(connection: sqlite3.Connection, query: str) -> int:
    with closing(connection.execute(query)) as rows:
        return int(rows.fetchone()[0])


def ensure_schema(connection: sqlite3.Connection) -> None:
    """Create the tables in an empty file, within the transaction that this begins."""
    if not has_tables(connection):
        connection.execute("BEGIN IMMEDIATE")
        if not has_tables(connection):  # another process may have created them meanwhile
            for statement in _TABLES:  # executescript would end the transaction first
                connection.execute(statement)
