"""Files are decoded once, and again if limits, code or decoders change."""

import hashlib
import json

import numpy as np
import pytest

from tests.support.makers import encode, pixels
from twofold.data import decode_cache
from twofold.data.decode_cache import DecodedFile, decode_cached
from twofold.data.decoding import Limits
from twofold.storage import cache, cache_sqlite

LIMITS = Limits(max_bytes=100_000, max_pixels=10_000, min_side=4)
FILES = [encode(pixels(np.random.default_rng(number), 16, bad=False, channels=number)) for number in (1, 3)]
DAMAGED = FILES[0][:-20]


@pytest.fixture
def decoded(alone, monkeypatch):
    """The files that were decoded, in order."""
    files = []
    decode = decode_cache.decode
    monkeypatch.setattr(decode_cache, "decode", lambda data, limits: files.append(data) or decode(data, limits))
    return files


def test_a_file_is_decoded_once(decoded):
    first = decode_cached([*FILES, DAMAGED], LIMITS)
    assert decoded == [*FILES, DAMAGED]
    found = [(one.width, one.channels, one.mode, one.format) for one in first[:2]]
    assert found == [(16, 1, "L", "PNG"), (16, 3, "RGB", "PNG")]
    assert first[2] == DecodedFile(hashlib.sha256(DAMAGED).hexdigest(), first[2].reason)
    assert "damaged or cut short" in first[2].reason
    new = encode(pixels(np.random.default_rng(9), 16, bad=True))
    again = decode_cached([DAMAGED, new, *FILES], LIMITS)
    assert decoded == [*FILES, DAMAGED, new]
    assert [again[2], again[3], again[0]] == first


def test_files_are_decoded_again_with_other_limits(decoded):
    decode_cached(FILES[:1], LIMITS)
    (refused,) = decode_cached(FILES[:1], Limits(100_000, 10_000, min_side=17))
    assert "the shorter side must have at least 17 pixels" in refused.reason
    assert len(decoded) == 2


@pytest.mark.parametrize("change", ["code", "decoder"])
def test_files_are_decoded_again_with_other_code_or_another_decoder(decoded, monkeypatch, change):
    decode_cached(FILES[:1], LIMITS)
    decode_cache._key_parts.cache_clear()
    if change == "code":
        monkeypatch.setattr(decode_cache, "code_digest", lambda module: f"other than {module}")
    else:
        monkeypatch.setattr("PIL.__version__", "0.1")
    decode_cached(FILES[:1], LIMITS)
    decode_cache._key_parts.cache_clear()
    assert len(decoded) == 2


def test_a_file_over_the_limit_is_not_cached(decoded):
    (one,) = decode_cached([bytes(100_001)], LIMITS)
    assert (one.sha256, one.reason) == ("", "100001 bytes, allowed are at most 100000")
    assert not cache_sqlite.database().exists()


@pytest.mark.parametrize("value", [b"", b"[]", b"null", b"7", b"\xff", b'{"sha256": "a"}', "short", "type"])
def test_an_invalid_value_is_computed_again(decoded, value):
    (expected,) = decode_cached(FILES[:1], LIMITS)
    key = cache.key("decoded", expected.sha256, *decode_cache._key_parts(LIMITS))
    assert json.loads(cache.lookup([key])[key]) == json.loads(json.dumps(expected))
    wrong = {"short": list(expected)[:-1], "type": [*expected[:3], "16", *expected[4:]]}
    cache.store([(key, expected.sha256, json.dumps(wrong[value]).encode() if value in wrong else value)], "decoded")
    assert decode_cached(FILES[:1], LIMITS) == [expected]
    assert len(decoded) == 2
