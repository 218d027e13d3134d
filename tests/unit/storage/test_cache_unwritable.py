"""A memo that cannot be written, or read, is done without."""

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


def read_only(monkeypatch):
    def connect(patience=0.0):
        return sqlite3.connect(f"file:{cache_sqlite.database()}?mode=ro", uri=True, timeout=patience)

    monkeypatch.setattr(cache_sqlite, "_connect", connect)


def test_a_memo_that_cannot_be_written_is_read(filled, monkeypatch, capsys):
    read_only(monkeypatch)
    before = filled.read_bytes()
    assert cache.lookup(["k2", "k4"]) == {"k2": b"two"}
    put([("k4", IMAGE, b"four")])
    put([("k5", IMAGE, b"five")])
    assert cache.lookup(["k2", "k4"]) == {"k2": b"two"}
    assert filled.read_bytes() == before
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "memo: .twofold/memo/memo.sqlite cannot be written (attempt to write a readonly database); going on without it"
    ]
    with pytest.raises(ParameterError, match=r"TWOFOLD_CACHE: .* readonly database"):
        cache.forget_image(IMAGE)


def test_a_folder_that_cannot_be_is_done_without(alone, monkeypatch, capsys):
    (alone / "file").touch()
    monkeypatch.setenv("TWOFOLD_CACHE", str(alone / "file" / "memo"))
    put([("k", IMAGE, b"v")])
    put([("k", IMAGE, b"v")])
    assert cache.lookup(["k"]) == {}
    assert capsys.readouterr().err.count("memo.sqlite cannot be written") == 1


def test_garbage_in_a_folder_that_cannot_be_written_is_done_without(no_root, monkeypatch, capsys):
    monkeypatch.setenv("TWOFOLD_CACHE", str(no_root))
    cache_sqlite.database().write_bytes(b"no database at all" * 100)
    cache_sqlite.database().chmod(0o444)
    no_root.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)
    assert cache.lookup(["k"]) == {}
    put([("k", IMAGE, b"v")])
    said = capsys.readouterr().err
    assert "memo.sqlite cannot be read" in said
    assert "memo.sqlite cannot be written" in said


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("gs://bucket/memo", "found 'gs://bucket/memo'; the memo lies in a folder or below s3://bucket/prefix"),
        ("s3://b/memo", "found 's3://b/memo'; must be s3://bucket or s3://bucket/prefix"),
        ("s3://key:secret@bucket/memo", "an s3:// address holds no credentials"),
    ],
)
def test_an_address_that_is_no_place_is_named(address, said, alone, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", address)
    for call in (lambda: cache.lookup(["k"]), lambda: put([("k", IMAGE, b"v")]), lambda: cache.forget_image(IMAGE)):
        with pytest.raises(ParameterError, match=f"TWOFOLD_CACHE: {said}") as caught:
            call()
        assert "secret@" not in str(caught.value)
    assert list(alone.iterdir()) == []


def test_a_value_too_large_for_the_file_is_not_kept(filled, monkeypatch):
    monkeypatch.setattr(cache, "LARGEST", 10)
    put([("large", IMAGE, bytes(11)), ("small", IMAGE, bytes(10))])
    assert list(cache.lookup(["large", "small"])) == ["small"]


@pytest.fixture
def no_root():
    """A folder of one's own, and rights that a read-only folder can withhold."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_read(no_root, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", str(no_root))
    put([("k2", IMAGE, b"two")])
    cache_sqlite.database().chmod(0o444)
    no_root.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(PermissionError):
        (no_root / "journal").touch()
    assert cache.lookup(["k2"]) == {"k2": b"two"}


def test_a_file_of_another_version_in_a_folder_that_cannot_be_written_is_done_without(no_root, monkeypatch, capsys):
    monkeypatch.setenv("TWOFOLD_CACHE", str(no_root))
    put([("k2", IMAGE, b"two")])
    with sqlite3.connect(cache_sqlite.database()) as database:
        database.execute("PRAGMA user_version = 1")
    database.close()
    before = cache_sqlite.database().read_bytes()
    cache_sqlite.database().chmod(0o444)
    no_root.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)
    assert cache.lookup(["k2"]) == {}
    assert "going on without it" in capsys.readouterr().err
    assert cache_sqlite.database().read_bytes() == before
