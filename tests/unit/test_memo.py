import sqlite3

import pytest

from twofold import memo

IMAGE, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def filled(alone):
    memo.put([("k1", IMAGE, b"one" * 500), ("k2", IMAGE, b"two"), ("k3", OTHER, b"three")])
    return alone / ".twofold" / "memo" / "memo.sqlite"


def test_values_come_back_and_missing_ones_do_not(filled):
    assert memo.get(["k1", "k3", "k4"]) == {"k1": b"one" * 500, "k3": b"three"}


def test_nothing_is_written_by_reading(alone):
    assert memo.get(["k1"]) == {}
    assert memo.forget(IMAGE) == 0
    assert not (alone / ".twofold").exists()


def test_many_keys_at_once(alone):
    entries = {f"k{i}": bytes([i % 251]) for i in range(1300)}
    memo.put((key, IMAGE, value) for key, value in entries.items())
    assert memo.get(list(entries)) == entries


def test_a_key_is_replaced(filled):
    memo.put([("k2", OTHER, b"again")])
    assert memo.get(["k2"]) == {"k2": b"again"}


def test_the_folder_is_environment(alone, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE", str(alone / "elsewhere"))
    memo.put([("k", IMAGE, b"v")])
    assert (alone / "elsewhere" / "memo.sqlite").exists()


def test_a_damaged_value_is_as_good_as_missing(filled):
    with sqlite3.connect(filled) as database:
        database.execute("UPDATE entries SET value = ? WHERE key = 'k2'", (b"twO",))
    database.close()
    assert memo.get(["k1", "k2"]) == {"k1": b"one" * 500}


def test_a_damaged_file_is_begun_again(filled, capsys):
    filled.write_bytes(b"no database at all, and long enough to be read as a header" * 20)
    assert memo.get(["k1"]) == {}
    assert "memo.sqlite: not readable as a memo" in capsys.readouterr().err
    memo.put([("k1", IMAGE, b"new")])
    assert memo.get(["k1"]) == {"k1": b"new"}


def test_a_page_damaged_in_the_middle_is_begun_again(filled):
    memo.put((f"m{i}", IMAGE, bytes(2000)) for i in range(200))
    data = bytearray(filled.read_bytes())
    data[4096 : len(data) // 2] = b"\xff" * (len(data) // 2 - 4096)
    filled.write_bytes(data)
    assert memo.get([f"m{i}" for i in range(200)]) == {}
    memo.put([("k", IMAGE, b"v")])
    assert memo.get(["k"]) == {"k": b"v"}


def test_forgetting_an_image_removes_its_entries_and_their_bytes(filled):
    assert b"oneone" in filled.read_bytes()
    before = filled.stat().st_size
    memo.put((f"m{i}", IMAGE, bytes(2000)) for i in range(200))
    assert memo.forget(IMAGE) == 202
    assert memo.get(["k1", "k2", "k3", "m0"]) == {"k3": b"three"}
    assert b"oneone" not in filled.read_bytes()
    assert filled.stat().st_size <= before


def test_keys_depend_on_every_part_and_on_where_one_ends():
    assert memo.key("ab", "c") != memo.key("a", "bc")
    assert memo.key("ab", "c") == memo.key("ab", "c")
