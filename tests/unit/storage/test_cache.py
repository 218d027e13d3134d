import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
import xxhash

from twofold.core.errors import ParameterError
from twofold.storage import cache, cache_sqlite

IMAGE, OTHER = "a" * 64, "b" * 64
USES = "SELECT key, kind, size, used FROM uses JOIN entries USING (id) ORDER BY used, key"


@pytest.fixture
def filled(alone):
    put([("k1", IMAGE, b"one" * 500), ("k2", IMAGE, b"two"), ("k3", OTHER, b"three")])
    return alone / ".twofold" / "memo" / "memo.sqlite"


@pytest.fixture
def small(alone, monkeypatch):
    """A cache of at most 1000 bytes, and a clock that advances by one at each call."""
    monkeypatch.setenv("TWOFOLD_CACHE_LIMIT", "1K")
    ticks = iter(range(1, 1000))
    monkeypatch.setattr("time.time_ns", lambda: next(ticks))
    return alone / ".twofold" / "memo" / "memo.sqlite"


def put(entries):
    cache.store(entries, "features")


def rows(query):
    with closing(sqlite3.connect(cache_sqlite.database())) as database:
        return database.execute(query).fetchall()


def stored_keys():
    """The stored keys, read without `get`; also checks the total size."""
    assert rows("SELECT bytes FROM total") == rows("SELECT coalesce(sum(length(value)), 0) FROM entries")
    assert rows("SELECT id, size FROM uses ORDER BY id") == rows("SELECT id, length(value) FROM entries ORDER BY id")
    return [key for (key,) in rows("SELECT key FROM entries ORDER BY key")]


def test_stored_values_are_found_and_missing_ones_are_not(filled):
    assert cache.lookup(["k1", "k3", "k4"]) == {"k1": b"one" * 500, "k3": b"three"}


def test_values_are_read_in_the_order_in_which_they_were_stored(alone):
    put([(key, IMAGE, key.encode()) for key in "zaymb"])
    assert list(cache.lookup(list("abmyz"))) == list("zaymb")


def test_reading_an_absent_cache_writes_nothing(alone):
    assert cache.lookup(["k1"]) == {}
    assert cache.forget_image(IMAGE) == 0
    assert not (alone / ".twofold").exists()


def test_many_keys_at_once(alone):
    entries = {f"k{i}": bytes([i % 251]) for i in range(1300)}
    put((key, IMAGE, value) for key, value in entries.items())
    assert cache.lookup(list(entries)) == entries


def test_a_key_is_replaced(filled):
    put([("k2", OTHER, b"again")])
    assert cache.lookup(["k2"]) == {"k2": b"again"}


def test_the_environment_sets_the_folder(alone, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", str(alone / "elsewhere"))
    put([("k", IMAGE, b"v")])
    assert (alone / "elsewhere" / "memo.sqlite").exists()


def test_a_corrupt_value_counts_as_missing(filled):
    with sqlite3.connect(filled) as database:
        database.execute("UPDATE entries SET value = ? WHERE key = 'k2'", (b"twO",))
    database.close()
    assert cache.lookup(["k1", "k2"]) == {"k1": b"one" * 500}


def test_a_corrupt_file_is_replaced(filled, capsys):
    filled.write_bytes(b"no database at all, and long enough to be read as a header" * 20)
    assert cache.lookup(["k1"]) == {}
    assert "memo.sqlite: not readable as a cache" in capsys.readouterr().err
    put([("k1", IMAGE, b"new")])
    assert cache.lookup(["k1"]) == {"k1": b"new"}


def test_a_file_with_a_corrupt_page_is_replaced(filled):
    put((f"m{i}", IMAGE, bytes(2000)) for i in range(200))
    data = bytearray(filled.read_bytes())
    data[4096 : len(data) // 2] = b"\xff" * (len(data) // 2 - 4096)
    filled.write_bytes(data)
    assert cache.lookup([f"m{i}" for i in range(200)]) == {}
    put([("k", IMAGE, b"v")])
    assert cache.lookup(["k"]) == {"k": b"v"}


def test_forgetting_an_image_removes_its_entries_and_their_bytes(filled):
    assert b"oneone" in filled.read_bytes()
    before = filled.stat().st_size
    put((f"m{i}", IMAGE, bytes(2000)) for i in range(200))
    assert cache.forget_image(IMAGE) == 202
    assert cache.lookup(["k1", "k2", "k3", "m0"]) == {"k3": b"three"}
    assert b"oneone" not in filled.read_bytes()
    assert filled.stat().st_size <= before


def test_keys_depend_on_every_part_and_on_their_boundaries():
    assert cache.key("ab", "c") != cache.key("a", "bc")
    assert cache.key("ab", "c") == cache.key("ab", "c")


def test_the_least_recently_used_values_are_evicted(small):
    for name in ("a", "b", "c"):
        put([(name, IMAGE, bytes(300))])
    cache.lookup(["a"])
    put([("d", IMAGE, bytes(300))])
    assert stored_keys() == ["a", "c", "d"]
    put([("c", IMAGE, bytes(100))])  # storing counts as a use, and the size is smaller now
    put([("e", IMAGE, bytes(600))])
    assert stored_keys() == ["c", "d", "e"]


def test_a_size_equal_to_the_limit_is_allowed(small):
    put([("a", IMAGE, bytes(400)), ("b", IMAGE, bytes(600))])
    assert stored_keys() == ["a", "b"]
    put([("c", IMAGE, b"1")])
    assert stored_keys() == ["b", "c"]


def test_a_value_larger_than_the_limit_is_skipped_and_evicts_nothing(small):
    put([("a", IMAGE, bytes(500))])
    put([("large", IMAGE, bytes(1001)), ("b", IMAGE, bytes(400))])
    assert stored_keys() == ["a", "b"]


def test_many_uses_are_recorded_at_once(small, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE_LIMIT", "1300")
    put([(f"k{i:04}", IMAGE, b"1") for i in range(1200)])
    put([(f"n{i:04}", IMAGE, b"1") for i in range(100)])
    cache.lookup([f"k{i:04}" for i in range(1200)])
    put([("last", IMAGE, bytes(100))])
    assert stored_keys() == [*(f"k{i:04}" for i in range(1200)), "last"]


def test_a_corrupt_value_is_replaced_by_the_next_put(filled):
    with closing(sqlite3.connect(filled)) as database, database:
        database.execute("UPDATE entries SET value = ? WHERE key = 'k2'", (b"twO",))
    put([("k2", IMAGE, b"two")])
    assert cache.lookup(["k2"]) == {"k2": b"two"}
    assert stored_keys() == ["k1", "k2", "k3"]


def test_only_the_matching_checksum_verifies_a_value():
    value = b"any value"
    checksum = xxhash.xxh3_128_digest(value)
    assert cache_sqlite._is_intact(value, checksum)
    assert not cache_sqlite._is_intact(value + b"!", checksum)
    assert not cache_sqlite._is_intact(value, bytes([checksum[0] ^ 1]) + checksum[1:])
    assert not cache_sqlite._is_intact(value, checksum[:-1])
    assert not cache_sqlite._is_intact(value, hashlib.sha256(value).digest())
    assert not cache_sqlite._is_intact(b"", b"")


def test_forgetting_returns_the_number_of_entries(filled):
    assert cache.forget_image(IMAGE) == 2
    assert stored_keys() == ["k3"]


def test_uses_are_recorded_later_than_the_read(small):
    put([(name, IMAGE, bytes(300)) for name in ("a", "b", "c")])
    before = cache_sqlite.database().read_bytes()
    cache.lookup(["a", "b"])
    assert cache_sqlite.database().read_bytes() == before
    cache_sqlite.record_uses()
    assert rows(USES)[0][0] == "c"


READER = """
import multiprocessing, sys
from twofold.storage import cache
cache.lookup(["a"])
with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
    found = pool.map(cache.lookup, [["b"], ["a", "b"]])
    pool.close()
    pool.join()
assert [sorted(one) for one in found] == [["b"], ["a", "b"]], found
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_uses_are_recorded_when_the_process_ends(small, method):
    put([(name, IMAGE, bytes(300)) for name in ("a", "b", "c")])
    subprocess.run([sys.executable, "-c", READER, method], check=True, timeout=60)
    put([("d", IMAGE, bytes(300))])
    assert stored_keys() == ["a", "b", "d"]


def test_a_file_that_replaced_another_is_read(filled):
    assert cache.lookup(["k3"]) == {"k3": b"three"}
    filled.unlink()
    assert cache.lookup(["k3"]) == {}
    put([("k1", IMAGE, b"new")])
    assert cache.lookup(["k1"]) == {"k1": b"new"}


def test_reading_does_not_wait_for_another_process_that_writes(filled, monkeypatch):
    monkeypatch.setattr(cache_sqlite, "USES_LOCK_TIMEOUT", 0.0)
    with closing(sqlite3.connect(filled)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert cache.lookup(["k2"]) == {"k2": b"two"}


def test_an_empty_file_has_no_values(alone):
    cache_sqlite.database().parent.mkdir(parents=True)
    cache_sqlite.database().touch()
    assert cache.lookup(["k"]) == {}


WRITER = """
import sys
from twofold.storage import cache
name = sys.argv[1]
for i in range(60):
    cache.store([(f"{name}{i:02}", "a" * 64, name.encode() * 100), ("both", "a" * 64, b"the same")], "features")
"""


def test_two_processes_can_write_at_once(alone):
    put([("old", IMAGE, b"old")])
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name], stderr=subprocess.PIPE) for name in "xy"]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert (errors, [writer.returncode for writer in writers]) == ([b"", b""], [0, 0])
    assert stored_keys() == ["both", "old", *(f"{name}{i:02}" for name in "xy" for i in range(60))]
    assert cache.lookup(["x59", "y00", "both"]) == {"x59": b"x" * 100, "y00": b"y" * 100, "both": b"the same"}


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1234", 1234), ("2K", 2000), ("500M", 500_000_000), ("10g", 10_000_000_000), (" 3T ", 3 * 10**12)],
)
def test_sizes(text, size, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE_LIMIT", text)
    assert cache.cache_limit() == size


def test_the_default_limit(monkeypatch):
    monkeypatch.delenv("TWOFOLD_CACHE_LIMIT", raising=False)
    assert cache.cache_limit() == 10_000_000_000


@pytest.mark.parametrize("text", ["", "ten", "-1", "1.5G", "10GB", "G", "1e9", "\u0663"])
def test_a_wrong_limit_is_an_error_that_names_it(text, alone, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE_LIMIT", text)
    with pytest.raises(
        ParameterError, match=r"TWOFOLD_CACHE_LIMIT: .* is not a size; allowed: .*K, M, G or T"
    ) as caught:
        put([("k", IMAGE, b"v")])
    assert repr(text) in str(caught.value)
    assert not cache_sqlite.database().exists()
