"""The memo's tables: those of older versions are taken over, and the file shrinks without mixing anything up."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
import xxhash

from tests.unit.storage.test_cache import IMAGE, OTHER, USES, held, put, rows
from twofold.storage import cache, cache_schema, cache_sqlite

VERSION_1 = """
CREATE TABLE entries (key TEXT PRIMARY KEY, image TEXT NOT NULL, sha256 BLOB NOT NULL, value BLOB NOT NULL);
CREATE INDEX by_image ON entries (image);
CREATE TABLE uses
  (key TEXT PRIMARY KEY, kind TEXT NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX by_use ON uses (used);
CREATE TABLE total (bytes INTEGER NOT NULL);
INSERT INTO total VALUES (0);
CREATE TRIGGER removed AFTER DELETE ON entries BEGIN DELETE FROM uses WHERE key = old.key; END;
CREATE TRIGGER added AFTER INSERT ON uses BEGIN UPDATE total SET bytes = bytes + new.size; END;
CREATE TRIGGER taken AFTER DELETE ON uses BEGIN UPDATE total SET bytes = bytes - old.size; END;
PRAGMA user_version = 1;
"""
ALL = {"x": b"x" * 300, "a": b"a" * 200, "m": b"m" * 100}


@pytest.fixture
def version_1(alone):
    """A file that twofold wrote before: x was used last, then a, and m before all others."""
    cache_sqlite.database().parent.mkdir(parents=True)
    with closing(sqlite3.connect(cache_sqlite.database())) as database, database:
        database.executescript(VERSION_1)
        for number, (name, value) in enumerate(ALL.items()):
            entry = (name, IMAGE if name < "n" else OTHER, xxhash.xxh3_128_digest(value), value)
            database.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", entry)
            database.execute("INSERT INTO uses VALUES (?, ?, ?, ?)", (name, "pixels", len(value), 9 - number))


def version():
    return rows("PRAGMA user_version")[0][0]


def test_everything_of_version_1_is_taken_over(version_1):
    assert cache.lookup(list(ALL)) == ALL
    assert version() == 1  # reading writes nothing
    cache_sqlite._unmarked.clear()
    assert cache_sqlite.kinds() == [("pixels", 3, 600)]
    assert version() == cache_schema.VERSION == 2
    assert rows(USES) == [("m", "pixels", 100, 7), ("a", "pixels", 200, 8), ("x", "pixels", 300, 9)]
    assert held() == ["a", "m", "x"]
    assert cache.lookup(list(ALL)) == ALL


def test_a_use_of_an_entry_that_is_not_there_is_left_behind_and_an_entry_without_one_gets_it(version_1):
    with closing(sqlite3.connect(cache_sqlite.database())) as database, database:
        database.execute("INSERT INTO uses VALUES ('none', 'pixels', 5000, 9)")
        database.execute("DELETE FROM uses WHERE key = 'a'")
    cache_sqlite.kinds()
    assert rows(USES) == [("a", "features", 200, 0), ("m", "pixels", 100, 7), ("x", "pixels", 300, 9)]
    assert held() == ["a", "m", "x"]


@pytest.mark.parametrize("image", [IMAGE, OTHER])
def test_an_image_is_forgotten_from_a_file_of_version_1(version_1, image):
    gone = {"a", "m"} if image == IMAGE else {"x"}
    assert cache.forget_image(image) == len(gone)
    assert held() == sorted(set(ALL) - gone)
    data = cache_sqlite.database().read_bytes()
    assert image.encode() not in data
    assert not any(ALL[name] in data for name in gone)


def test_taking_over_that_fails_leaves_the_file_as_it_was(version_1, monkeypatch):
    before = cache_sqlite.database().read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(cache_schema, "_BY_ROW", (*cache_schema._BY_ROW[:-1], "INSERT INTO nowhere VALUES (1)"))
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            cache_sqlite.kinds()
    assert cache_sqlite.database().read_bytes()[100:] == before[100:]  # the header counts changes
    assert version() == 1
    assert cache_sqlite.kinds() == [("pixels", 3, 600)]


def test_only_keys_are_in_an_order_that_is_as_good_as_random(version_1, monkeypatch):
    old = cache_sqlite.database()
    put([("k", IMAGE, b"v")])
    monkeypatch.setenv("TWOFOLD_CACHE", str(old.parent / "new"))
    put([("k", IMAGE, b"v")])
    for file in (old, cache_sqlite.database()):
        with closing(sqlite3.connect(file)) as database:
            indexes = database.execute("SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
        assert indexes == [("by_use",), ("sqlite_autoindex_entries_1",)]


def test_a_row_that_is_numbered_anew_keeps_its_use(version_1):
    """As VACUUM may do; the one in this SQLite keeps the numbers."""
    cache_sqlite.kinds()
    with closing(sqlite3.connect(cache_sqlite.database())) as database, database:
        cache_schema._run(database, cache_schema._BY_KEY)
        database.execute("UPDATE entries SET rowid = 100 - rowid")
    # This is also what a compaction leaves that is cut off before its end.
    assert version() == 1
    cache_sqlite.kinds()
    assert rows(USES) == [("m", "pixels", 100, 7), ("a", "pixels", 200, 8), ("x", "pixels", 300, 9)]
    assert held() == ["a", "m", "x"]


def test_nobody_gets_at_the_file_while_it_shrinks(version_1):
    seen = []

    def other(statement):
        if statement == "VACUUM":
            with closing(sqlite3.connect(cache_sqlite.database(), timeout=0)) as database:
                for query in ("BEGIN IMMEDIATE", "SELECT * FROM entries"):
                    try:
                        database.execute(query)
                    except sqlite3.OperationalError as error:
                        seen.append(str(error))

    with closing(cache_sqlite._connect()) as database:
        database.set_trace_callback(other)
        cache_schema.compact(database)
    assert seen == ["database is locked"] * 2
    assert held() == ["a", "m", "x"]
    assert sorted(path.name for path in cache_sqlite.database().parent.iterdir()) == ["memo.sqlite"]


def test_a_file_shrinks_by_what_was_removed_from_it(alone):
    put((f"k{i}", IMAGE if i % 2 else OTHER, bytes(50_000)) for i in range(40))
    whole = cache_sqlite.database().stat().st_size
    cache_sqlite.trim(500_000)
    cache_sqlite.compact()
    assert len(held()) == 10
    assert cache_sqlite.database().stat().st_size < whole / 3
    put([("k1", IMAGE, b"again")])
    assert held() == sorted(["k1", *(f"k{i}" for i in range(30, 40))])


TOGETHER = """
import sys
from twofold.storage import cache_sqlite
for i in range(5):
    if sys.argv[1] == "shrink":
        cache_sqlite.compact()
    elif sys.argv[1] == "put":
        cache_sqlite.put([(f"n{i}", "b" * 64, bytes(5000))], "features", 10**9)
    else:
        assert len(cache_sqlite.get(list("amx"))) == 3
"""


def test_processes_that_shrink_it_at_once_wait_for_each_other_and_so_do_those_that_use_it(version_1):
    words = ("shrink", "shrink", "put", "get")
    processes = [subprocess.Popen([sys.executable, "-c", TOGETHER, word], stderr=subprocess.PIPE) for word in words]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert (errors, [process.returncode for process in processes]) == ([b""] * 4, [0] * 4)
    assert held() == ["a", "m", *(f"n{i}" for i in range(5)), "x"]
