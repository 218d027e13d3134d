"""Packs: their names, and the entries of a corrupt pack."""

import hashlib
import json

import numpy as np
import pytest

from twofold.storage import cache_packs
from twofold.storage.cache_packs import Index, Pack, batches_by_size, pack, parse_name, short_hash, unpack

IMAGE, OTHER = "a" * 64, "b" * 64
ENTRIES = [("k1", IMAGE, b"one"), ("k2", OTHER, b""), ("k3", IMAGE, b"three\nlines")]


def test_a_pack_returns_its_entries():
    name, data = pack(ENTRIES, "features")
    assert list(unpack(data)) == ENTRIES
    assert list(unpack(data, {"k3", "k9"})) == ENTRIES[2:]
    assert pack(ENTRIES, "features") == (name, data)


def test_the_name_lists_the_entries():
    name, data = pack(ENTRIES, "features")
    assert name == "/".join(
        [
            "features",
            hashlib.sha256(data).hexdigest()[:16],
            "".join(short_hash(key) + short_hash(image) for key, image, _ in ENTRIES),
        ]
    )
    found = parse_name(name, len(data), 7.0)
    assert found == Pack(
        name,
        "features",
        tuple(map(short_hash, ["k1", "k2", "k3"])),
        (short_hash(IMAGE), short_hash(OTHER), short_hash(IMAGE)),
        len(data),
        7.0,
    )


def test_a_tag_is_the_start_of_a_sha256():
    assert short_hash("abc") == "ungWv48B"  # the SHA-256 of abc starts with ba 78 16 bf 8f 01


def test_the_name_of_a_full_pack_is_allowed_by_every_store():
    entries = [(f"k{i}", IMAGE, b"v") for i in range(cache_packs.MOST_ENTRIES)]
    name, _ = pack(entries, "features")
    assert max(map(len, name.split("/"))) <= 255
    assert len(name) < 700  # of 1,024; the rest is for the user's prefix
    assert parse_name(name, 1, 0.0).keys == tuple(short_hash(key) for key, _, _ in entries)


@pytest.mark.parametrize(
    "name", ["", "features", "features/0123456789abcdef", "x/0123456789abcdef/short", "../0123456789abcdef/" + "a" * 16]
)
def test_other_names_are_not_parsed(name):
    assert parse_name(name, 1, 0.0) is None


def test_only_corrupt_entries_are_lost():
    _, data = pack(ENTRIES, "features")
    assert list(unpack(data.replace(b"three", b"thrEe"))) == ENTRIES[:2]
    assert list(unpack(data[:-1])) == ENTRIES[:2]
    assert list(unpack(b"x" + data)) == list(unpack(b"")) == list(unpack(b"7\n")) == list(unpack(b"[[1]]\n")) == []
    head = json.dumps([["k1", IMAGE, hashlib.sha256(b"x").hexdigest(), -1]]).encode()
    assert list(unpack(head + b"\nx")) == []


def test_batches_respect_both_limits(monkeypatch):
    monkeypatch.setattr(cache_packs, "MOST_ENTRIES", 3)
    monkeypatch.setattr(cache_packs, "MOST_BYTES", 10)
    sizes = [1, 1, 1, 1, 9, 1, 50, 1]
    entries = [(f"k{i}", IMAGE, bytes(size)) for i, size in enumerate(sizes)]
    assert [[len(value) for _, _, value in some] for some in batches_by_size(entries)] == [
        [1, 1, 1],
        [1, 9],
        [1],
        [50],
        [1],
    ]
    assert list(batches_by_size([])) == []


def test_an_index_finds_every_key_newest_pack_first():
    listed = [
        parse_name(pack([(f"k{i}", IMAGE, b"v"), ("both", IMAGE, bytes([i]))], "features")[0], 1, float(i))
        for i in range(20)
    ]
    index = Index(listed)
    assert [index.find(short_hash(f"k{i}")) for i in range(20)] == [[one.name] for one in listed]
    assert index.find(short_hash("both")) == [one.name for one in reversed(listed)]
    assert index.find(short_hash("none")) == []
    index.add("new", [short_hash("both"), short_hash("k99")])
    assert index.find(short_hash("both"))[0] == "new"
    assert index.find(short_hash("k99")) == ["new"]
    assert (index.used(listed[3].name), index.used("new")) == (3.0, np.inf)


def test_an_empty_index_finds_nothing():
    assert Index().find(short_hash("k")) == []
