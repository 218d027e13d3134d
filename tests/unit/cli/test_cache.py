"""`twofold cache`."""

import sqlite3
from contextlib import closing

import pytest

from twofold.cli.main import main
from twofold.storage import cache, cache_sqlite

IMAGE = "a" * 64
PLACE = ".twofold/memo/memo.sqlite"


@pytest.fixture
def command(alone, capsys, monkeypatch):
    """Runs a command and returns the lines that it prints, after checking its exit status."""
    monkeypatch.setenv("TWOFOLD_CACHE_LIMIT", "2M")

    def run(*arguments, status=0):
        with pytest.raises(SystemExit) as ended:
            main(["cache", *arguments])
        printed = capsys.readouterr()
        assert ended.value.code == status, printed.err
        return (printed.err if status else printed.out).splitlines()

    return run


@pytest.fixture
def filled(command):
    for i in range(4):
        cache.store([(f"k{i}", IMAGE, bytes([i]) * 100_000)], "features")
    cache.store([("d", IMAGE, b"d" * 50)], "decoded")


def damage(name):
    with closing(sqlite3.connect(cache_sqlite.database())) as database, database:
        database.execute("UPDATE entries SET value = zeroblob(100000) WHERE key = ?", (name,))


def size():
    return cache_sqlite.database().stat().st_size


def test_show(command, filled):
    assert command("show") == [
        f"cache: {PLACE}, a file of {size():,} bytes",
        "limit: 2,000,000 bytes (TWOFOLD_CACHE_LIMIT)",
        "decoded: 1 entry, 50 bytes",
        "features: 4 entries, 400,000 bytes",
        "total: 5 entries, 400,050 bytes",
    ]


def test_show_verify(command, filled):
    assert command("show", "--verify")[-1] == "damaged: 0 entries, 0 bytes"
    damage("k1")
    damage("k3")
    assert command("show", "--verify")[-1] == "damaged: 2 entries, 200,000 bytes"
    assert "damaged" not in "".join(command("show"))


def test_prune_to_a_size_removes_the_least_recently_used_entries(command, filled):
    cache.lookup(["k0"])
    before = size()
    lines = command("prune", "--to", "200050")
    assert lines == [
        f"cache: {PLACE}, a file of {size():,} bytes (before: a file of {before:,} bytes)",
        "removed: 2 entries, 200,000 bytes",
        "left: 3 entries, 200,050 bytes",
    ]
    assert sorted(cache.lookup(["k0", "k1", "k2", "k3", "d"])) == ["d", "k0", "k3"]
    assert size() < before - 150_000


def test_prune_to_a_larger_size_removes_nothing(command, filled):
    assert command("prune", "--to", "1M")[1:] == ["removed: 0 entries, 0 bytes", "left: 5 entries, 400,050 bytes"]


def test_prune_damaged(command, filled):
    damage("k1")
    assert command("prune", "--damaged")[1:] == ["removed: 1 entry, 100,000 bytes", "left: 4 entries, 300,050 bytes"]
    assert sorted(cache.lookup(["k0", "k1", "k2", "k3", "d"])) == ["d", "k0", "k2", "k3"]


def test_prune_all(command, filled):
    assert command("prune", "--all")[1:] == ["removed: 5 entries, 400,050 bytes", "left: 0 entries, 0 bytes"]
    assert size() < 300_000
    assert command("show")[2:] == ["total: 0 entries, 0 bytes"]


@pytest.mark.parametrize(
    "arguments", [["show"], ["show", "--verify"], ["prune", "--all"], ["prune", "--to", "1K"], ["prune", "--damaged"]]
)
def test_a_missing_cache_is_no_error(arguments, command, alone):
    assert command(*arguments)[0] == f"cache: {PLACE} does not exist; nothing has been stored yet"
    assert not (alone / ".twofold").exists()


def test_wrong_sizes_are_named(command, filled, monkeypatch):
    assert command("prune", "--to", "much", status=1)[0].startswith("twofold: error: --to: 'much' is not a size")
    assert cache.lookup(["d"]) == {"d": b"d" * 50}
    monkeypatch.setenv("TWOFOLD_CACHE_LIMIT", "lots")
    assert command("show", status=1)[0].startswith("twofold: error: TWOFOLD_CACHE_LIMIT: 'lots' is not a size")


@pytest.mark.parametrize("arguments", [["prune"], ["prune", "--all", "--damaged"], ["show", "--all"]])
def test_prune_needs_exactly_one_selection(arguments, command, filled):
    command(*arguments, status=2)
    assert cache.lookup(["d"]) == {"d": b"d" * 50}
