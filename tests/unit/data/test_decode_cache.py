"""What a file holds is known without decoding it again, and only while everything is as it was."""

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

    def counted(data, limits):
        files.append(data)
        return decode(data, limits)

    monkeypatch.setattr(decode_cache, "decode", counted)
    return files


def test_a_file_is_decoded_once(decoded):
    first = decode_cached([*FILES, DAMAGED], LIMITS)
    assert decoded == [*FILES, DAMAGED]
    assert [(one.width, one.channels, one.mode, one.format) for one in first[:2]] == [
        (16, 1, "L", "PNG"),
        (16, 3, "RGB", "PNG"),
    ]
    assert first[2] == DecodedFile(hashlib.sha256(DAMAGED).hexdigest(), first[2].reason)
    assert "damaged or cut short" in first[2].reason
    new = encode(pixels(np.random.default_rng(9), 16, bad=True))
    again = decode_cached([DAMAGED, new, *FILES], LIMITS)
    assert decoded == [*FILES, DAMAGED, new]
    assert [again[2], again[3], again[0]] == first


def test_other_limits_are_another_question(decoded):
    decode_cached(FILES[:1], LIMITS)
    (refused,) = decode_cached(FILES[:1], Limits(100_000, 10_000, min_side=17))
    assert "the shorter side must have at least 17 pixels" in refused.reason
    assert len(decoded) == 2


@pytest.mark.parametrize("what", ["code", "decoder"])
def test_other_code_or_another_decoder_is_another_question(decoded, monkeypatch, what):
    decode_cached(FILES[:1], LIMITS)
    decode_cache._circumstances.cache_clear()
    if what == "code":
        monkeypatch.setattr(decode_cache, "code_digest", lambda module: f"other than {module}")
    else:
        monkeypatch.setattr("PIL.__version__", "0.1")
    decode_cached(FILES[:1], LIMITS)
    decode_cache._circumstances.cache_clear()
    assert len(decoded) == 2


def test_the_beginning_of_a_file_is_no_content_to_know_it_by(decoded):
    (one,) = decode_cached([bytes(100_001)], LIMITS)
    assert (one.sha256, one.reason) == ("", "100001 bytes, allowed are at most 100000")
    assert not cache_sqlite.database().exists()


@pytest.mark.parametrize("value", [b"", b"[]", b"null", b"7", b"\xff", b'{"sha256": "a"}', "short", "type"])
def test_a_value_that_is_none_is_computed_again(decoded, value):
    (expected,) = decode_cached(FILES[:1], LIMITS)
    key = cache.key("decoded", expected.sha256, *decode_cache._circumstances(LIMITS))
    assert json.loads(cache.lookup([key])[key]) == json.loads(json.dumps(expected))
    wrong = {"short": list(expected)[:-1], "type": [*expected[:3], "16", *expected[4:]]}
    cache.store([(key, expected.sha256, json.dumps(wrong[value]).encode() if value in wrong else value)], "decoded")
    assert decode_cached(FILES[:1], LIMITS) == [expected]
    assert len(decoded) == 2
