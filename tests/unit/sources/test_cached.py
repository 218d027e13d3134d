"""Files with an ETag are fetched once."""

import pytest

from twofold.core.errors import SourceError
from twofold.sources.base import FetchedFile, FileRequest, Listing
from twofold.sources.cached import CachedSource
from twofold.storage import cache, cache_sqlite

FILES = {"bad/a.png": b"one\nof two lines", "good/b.png": b"", "good/c.png": b"three"}


class Stored:
    """A source in memory that counts the files fetched; tests/slow/s3 uses a real bucket."""

    name = "mem://store"

    def __init__(self, files=FILES, etags=True):
        self.files = dict(files)
        self.etags = etags
        self.fetched = []

    def listing(self):
        return Listing([], [], ())

    def request(self, key):
        return FileRequest(key, len(self.files[key]), f'"{hash(self.files[key])}"' if self.etags else "")

    def fetch(self, requests, limit):
        self.fetched += [one.key for one in requests]
        if any(one.key not in self.files for one in requests):
            raise SourceError("gone")
        return [
            FetchedFile(b"", "too large")
            if one.bytes > limit
            else FetchedFile(self.files[one.key], "", f"v-{one.key}", one.key != "good/c.png")
            for one in requests
        ]


def fetched(store, place="", limit=1000, keys=tuple(FILES)):
    source = CachedSource(store, place)
    return source.fetch([source.request(key) for key in keys], limit)


@pytest.fixture
def known(alone):
    """A source whose files are all in the cache."""
    store = Stored()
    fetched(store)
    store.fetched.clear()
    return store


def test_a_cached_file_equals_the_fetched_one(known):
    assert fetched(known) == Stored().fetch([known.request(key) for key in FILES], 1000)
    assert known.fetched == []


def test_new_and_replaced_files_are_fetched(known):
    known.files |= {"good/b.png": b"2", "good/d.png": b"four"}
    found = fetched(known, keys=("good/d.png", *FILES))
    assert [one.data for one in found] == [b"four", b"one\nof two lines", b"2", b"three"]
    assert known.fetched == ["good/d.png", "good/b.png"]


def test_server_and_source_are_part_of_the_key(known):
    fetched(known, place="https://other")
    assert len(known.fetched) == 3
    known.name = "mem://other"
    fetched(known)
    assert len(known.fetched) == 6


def test_the_size_limit_also_applies_to_cached_files(known):
    found = fetched(known, limit=5)
    assert [one.reason for one in found] == ["too large", "", ""]
    assert known.fetched == ["bad/a.png"]


def test_files_without_an_etag_are_not_cached(alone):
    store = Stored(etags=False)
    fetched(store)
    fetched(store)
    assert len(store.fetched) == 6
    assert not cache_sqlite.database().exists()


@pytest.mark.parametrize("value", [b"", b"x", b"7\nthree", b'["v"]\nthree', b'["v", 1]\nthree', b"[null, true]\nthree"])
def test_an_invalid_cached_value_is_fetched_again(known, value):
    key = CachedSource(known)._cache_key(known.request("good/c.png"))
    assert cache.lookup([key]) == {key: b'["v-good/c.png", false]\nthree'}
    cache.store([(key, "a" * 64, value)], "fetched")
    assert fetched(known, keys=("good/c.png",)) == [FetchedFile(b"three", "", "v-good/c.png", False)]
    assert known.fetched == ["good/c.png"]


def test_forgetting_an_image_removes_its_bytes(known):
    assert cache.forget_image("8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f") == 1
    fetched(known)
    assert known.fetched == ["good/c.png"]


def test_errors_of_the_source_are_passed_on(known):
    with pytest.raises(SourceError, match="gone"):
        CachedSource(known).fetch([FileRequest("bad/z.png", 1, "e")], 1000)
