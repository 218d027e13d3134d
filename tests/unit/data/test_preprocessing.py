"""Images are resized and measured, and the cache returns the same results."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from tests.support.makers import make_folder, make_raw
from twofold.data import preprocessing
from twofold.data.decoding import Limits
from twofold.data.preprocessing import brightness, preprocess_images
from twofold.data.raw import RawDataset
from twofold.data.resizing import to_image
from twofold.storage import cache_sqlite

LIMITS = Limits(10_000_000, 1_000_000, 4)


def rows(query):
    with closing(sqlite3.connect(cache_sqlite.database())) as database:
        return database.execute(query).fetchall()


def brightness_of(pixels):
    return brightness(to_image(pixels).convert("L"))


def test_brightness_by_hand():
    # Levels 0, 51, 102 and 255: a mean of 102, which is .4 of white.
    assert brightness_of(np.array([[0, 51], [102, 255]], np.uint8)[:, :, None]) == 0.4
    # Rec. 601: .299 of red, .587 of green, .114 of blue.
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert brightness_of(colours) == pytest.approx(1 / 3, abs=0.005)
    assert brightness_of(colours[:, 1:2]) == pytest.approx(0.587, abs=0.005)


def test_grey_is_as_bright_in_one_channel_as_in_three():
    grey = np.random.default_rng(0).integers(0, 256, (9, 7, 1), np.uint8)
    assert brightness_of(grey) == brightness_of(np.repeat(grey, 3, axis=2))


@pytest.fixture
def raw(tmp_path):
    return make_raw(make_folder(tmp_path / "images", per_class=3, size=20), tmp_path / "raw")


def assert_equal(first, second, *, thumbnails=True):
    for (pixels, one), (other_pixels, other) in zip(first, second, strict=True):
        np.testing.assert_array_equal(pixels, other_pixels)
        if thumbnails:
            np.testing.assert_array_equal(one.thumbnail, other.thumbnail)
        assert one._replace(thumbnail=None) == other._replace(thumbnail=None)


def test_the_cache_returns_the_same_result(raw, monkeypatch):
    images = RawDataset.open(raw).images
    first = preprocess_images(images, raw, 16, "pad", LIMITS)
    monkeypatch.setattr(preprocessing, "_preprocess", None)  # no image may be resized again
    assert_equal(first, preprocess_images(images, raw, 16, "pad", LIMITS))


@pytest.mark.parametrize("before", [True, False])
def test_a_thumbnail_is_computed_if_requested_and_the_rest_is_the_same(raw, before, monkeypatch):
    images = RawDataset.open(raw).images
    first = preprocess_images(images, raw, 16, "pad", LIMITS, thumbnails=before)
    again = preprocess_images(images, raw, 16, "pad", LIMITS, thumbnails=not before)
    assert {one.thumbnail is not None for _, one in first} == {before}
    assert {one.thumbnail is not None for _, one in again} == {not before}
    assert_equal(first, again, thumbnails=False)
    assert rows("SELECT count(*) FROM uses WHERE kind = 'pixels'") == [(6,)]
    monkeypatch.setattr(preprocessing, "_preprocess", None)  # both variants are cached now
    assert_equal(preprocess_images(images, raw, 16, "pad", LIMITS), first if before else again)
    without = preprocess_images(images, raw, 16, "pad", LIMITS, thumbnails=False)
    assert {one.thumbnail for _, one in without} == {None}


def test_brightness_does_not_depend_on_padding_or_cropping(raw):
    images = RawDataset.open(raw).images
    found = [
        [one.brightness for _, one in preprocess_images(images, raw, 16, fit, LIMITS)]
        for fit in ("squash", "pad", "crop")
    ]
    assert found[0] == found[1] == found[2]
