"""Tables of the cache's file: a file of another version is replaced, and compaction shrinks the file."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.unit.storage.test_cache import IMAGE, OTHER, USES, put, rows, stored_keys
from twofold.storage import cache, cache_schema, cache_sqlite

ALL = {"x": b"x" * 300, "a": b"a" * 200, "m": b"m" * 100}


@pytest.fixture
def filled(alone):
    put([(name, IMAGE if name < "n" else OTHER, value) for name, value in ALL.items()])


def version():
    return rows("PRAGMA user_version")[0][0]


@pytest.mark.parametrize("other", [1, 2, cache_schema.VERSION + 1])
def test_a_file_of_another_version_is_replaced_at_the_first_read_with_a_message(filled, other, capsys):
    with closing(sqlite3.connect(cache_sqlite.database())) as database, database:
        database.execute(f"PRAGMA user_version = {other}")
    assert cache.lookup(list(ALL)) == {}
    assert f"it is of version {other}, this Twofold writes version {cache_schema.VERSION}" in capsys.readouterr().err
    put([("a", IMAGE, b"again")])
    assert (version(), stored_keys()) == (cache_schema.VERSION, ["a"])


def test_a_file_of_another_version_is_replaced_at_the_first_write(filled):
    with closing(sqlite3.connect(cache_sqlite.database())) as database, database:
        database.execute("PRAGMA user_version = 1")
    put([("b", IMAGE, b"new")])
    assert (version(), stored_keys()) == (cache_schema.VERSION, ["b"])


def test_a_file_without_a_version_is_replaced(alone):
    cache_sqlite.database().parent.mkdir(parents=True)
    with closing(sqlite3.connect(cache_sqlite.database())) as database, database:
        database.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB)")
    assert cache.lookup(["k"]) == {}
    put([("k", IMAGE, b"v")])
    assert stored_keys() == ["k"]


def test_tables_that_another_process_creates_meanwhile_are_not_those_of_another_version(alone, monkeypatch):
    connect, said = cache_sqlite._connect, []

    class Slow(sqlite3.Connection):
        def execute(self, *args):
            said.append(args)
            if len(said) == 2:
                monkeypatch.setattr(cache_sqlite, "_connect", connect)
                put([("theirs", IMAGE, b"theirs")])
            return super().execute(*args)

    def slow(timeout=1.0):
        cache_sqlite.database().parent.mkdir(parents=True, exist_ok=True)
        return sqlite3.connect(cache_sqlite.database(), timeout=timeout, factory=Slow)

    monkeypatch.setattr(cache_sqlite, "_connect", slow)
    put([("ours", IMAGE, b"ours")])
    assert cache.lookup(["ours", "theirs"]) == {"ours": b"ours", "theirs": b"theirs"}


def test_only_keys_have_an_index_in_hash_order(filled):
    found = rows("SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name")
    assert found == [("by_use",), ("sqlite_autoindex_entries_1",)]


def test_uses_stay_with_their_entries_after_compaction(filled):
    before = rows(USES)
    cache_sqlite.trim(300)
    cache_sqlite.compact()
    assert stored_keys() == ["a", "m"]
    assert rows(USES) == [row for row in before if row[0] != "x"]


def test_compaction_frees_the_space_of_removed_entries(alone):
    put((f"k{i}", IMAGE if i % 2 else OTHER, bytes(50_000)) for i in range(40))
    whole = cache_sqlite.database().stat().st_size
    cache_sqlite.trim(500_000)
    cache_sqlite.compact()
    assert len(stored_keys()) == 10
    assert cache_sqlite.database().stat().st_size < whole / 3
    put([("k1", IMAGE, b"again")])
    assert stored_keys() == sorted(["k1", *(f"k{i}" for i in range(30, 40))])


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


def test_processes_that_compact_read_and_write_at_once_wait_for_each_other(filled):
    words = ("shrink", "shrink", "put", "get")
    processes = [subprocess.Popen([sys.executable, "-c", TOGETHER, word], stderr=subprocess.PIPE) for word in words]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert (errors, [process.returncode for process in processes]) == ([b""] * 4, [0] * 4)
    assert stored_keys() == ["a", "m", *(f"n{i}" for i in range(5)), "x"]
