"""Work goes on without a cache that cannot be written or read."""

import os
import sqlite3
import tempfile
from pathlib import Path

import pytest

from tests.unit.storage.test_cache import IMAGE, put
from twofold.core.errors import ParameterError
from twofold.storage import cache, cache_sqlite


@pytest.fixture
def filled(alone):
    put([("k1", IMAGE, b"one"), ("k2", IMAGE, b"two")])
    return alone / ".twofold" / "memo" / "memo.sqlite"


@pytest.fixture
def folder(monkeypatch):
    """The cache's folder, which the test can make read-only; the end of the test restores the permissions."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        monkeypatch.setenv("TWOFOLD_CACHE", name)
        yield Path(name)
        os.seteuid(user)
        Path(name).chmod(0o755)


def make_read_only(folder):
    cache_sqlite.database().chmod(0o444)
    folder.chmod(0o555)
    if os.geteuid() == 0:  # root may write everywhere
        os.seteuid(65534)


def connect_read_only(monkeypatch):
    def connect(timeout=0.0):
        return sqlite3.connect(f"file:{cache_sqlite.database()}?mode=ro", uri=True, timeout=timeout)

    monkeypatch.setattr(cache_sqlite, "_connect", connect)


def test_a_read_only_cache_is_read(filled, monkeypatch, capsys):
    connect_read_only(monkeypatch)
    before = filled.read_bytes()
    assert cache.lookup(["k2", "k4"]) == {"k2": b"two"}
    put([("k4", IMAGE, b"four")])
    put([("k5", IMAGE, b"five")])
    assert cache.lookup(["k2", "k4"]) == {"k2": b"two"}
    assert filled.read_bytes() == before
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "cache: .twofold/memo/memo.sqlite cannot be written (attempt to write a readonly database); going on without it"
    ]
    with pytest.raises(ParameterError, match=r"TWOFOLD_CACHE: .* readonly database"):
        cache.forget_image(IMAGE)


def test_an_impossible_folder_costs_one_warning(alone, monkeypatch, capsys):
    (alone / "file").touch()
    monkeypatch.setenv("TWOFOLD_CACHE", str(alone / "file" / "cache"))
    put([("k", IMAGE, b"v")])
    put([("k", IMAGE, b"v")])
    assert cache.lookup(["k"]) == {}
    assert capsys.readouterr().err.count("memo.sqlite cannot be written") == 1


def test_an_invalid_file_in_a_read_only_folder_costs_a_warning(folder, capsys):
    cache_sqlite.database().write_bytes(b"no database at all" * 100)
    make_read_only(folder)
    assert cache.lookup(["k"]) == {}
    put([("k", IMAGE, b"v")])
    output = capsys.readouterr().err
    assert "memo.sqlite cannot be read" in output
    assert "memo.sqlite cannot be written" in output


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("gs://bucket/cache", "found 'gs://bucket/cache'; the cache must be a folder or an address s3://bucket/prefix"),
        ("s3://b/cache", "found 's3://b/cache'; must be s3://bucket or s3://bucket/prefix"),
        ("s3://key:secret@bucket/cache", "an address must hold no user, password or token"),
        ("s3://key:se/cret@bucket/cache", "an address must hold no user, password or token"),
        ("gs://key:secret@bucket/cache", "found 'gs://bucket/cache'; the cache must be"),
    ],
)
def test_an_invalid_address_is_an_error_that_names_it(address, message, alone, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", address)
    for call in (lambda: cache.lookup(["k"]), lambda: put([("k", IMAGE, b"v")]), lambda: cache.forget_image(IMAGE)):
        with pytest.raises(ParameterError, match=f"TWOFOLD_CACHE: {message}") as caught:
            call()
        assert "cret@" not in str(caught.value)
    assert list(alone.iterdir()) == []


def test_a_value_above_the_maximum_is_skipped(filled, monkeypatch):
    monkeypatch.setattr(cache, "LARGEST", 10)
    put([("large", IMAGE, bytes(11)), ("small", IMAGE, bytes(10))])
    assert list(cache.lookup(["large", "small"])) == ["small"]


def test_a_file_in_a_read_only_folder_is_read(folder):
    put([("k2", IMAGE, b"two")])
    make_read_only(folder)
    with pytest.raises(PermissionError):
        (folder / "journal").touch()
    assert cache.lookup(["k2"]) == {"k2": b"two"}


def test_a_file_of_another_version_in_a_read_only_folder_costs_a_warning(folder, capsys):
    put([("k2", IMAGE, b"two")])
    with sqlite3.connect(cache_sqlite.database()) as database:
        database.execute("PRAGMA user_version = 1")
    database.close()
    before = cache_sqlite.database().read_bytes()
    make_read_only(folder)
    assert cache.lookup(["k2"]) == {}
    assert "going on without it" in capsys.readouterr().err
    assert cache_sqlite.database().read_bytes() == before
