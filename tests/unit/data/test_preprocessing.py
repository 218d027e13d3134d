"""What is seen of an image while it is made ready, and that the memo keeps it."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from tests.support.makers import encode, make_raw, pixels
from twofold.data.decoding import Limits
from twofold.data.preprocessing import brightness, preprocess_images
from twofold.data.raw import RawDataset
from twofold.storage import cache_sqlite

LIMITS = Limits(10_000_000, 1_000_000, 4)


def rows(query):
    with closing(sqlite3.connect(cache_sqlite.database())) as database:
        return database.execute(query).fetchall()


def test_brightness_by_hand():
    # Levels 0, 51, 102 and 255: a mean of 102, which is .4 of white.
    assert brightness(np.array([[0, 51], [102, 255]], np.uint8)[:, :, None]) == 0.4
    # Rec. 601: .299 of red, .587 of green, .114 of blue.
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert brightness(colours) == pytest.approx(1 / 3, abs=0.005)
    assert brightness(colours[:, 1:2]) == pytest.approx(0.587, abs=0.005)


def test_grey_is_as_bright_in_one_channel_as_in_three():
    grey = np.random.default_rng(0).integers(0, 256, (9, 7, 1), np.uint8)
    assert brightness(grey) == brightness(np.repeat(grey, 3, axis=2))


@pytest.fixture
def raw(tmp_path):
    for label in ("bad", "good"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(3):
            rng = np.random.default_rng([number, len(label)])
            (tmp_path / "images" / label / f"{number}.png").write_bytes(encode(pixels(rng, 20, label == "bad")))
    return make_raw(tmp_path / "images", tmp_path / "raw")


def test_the_memo_gives_back_what_was_seen(raw, tmp_path, monkeypatch):
    from twofold.data import preprocessing

    images = RawDataset.open(raw).images
    first = preprocess_images(images, raw, 16, "pad", LIMITS)
    monkeypatch.setattr(preprocessing, "_made", None)  # nothing may be made again
    second = preprocess_images(images, raw, 16, "pad", LIMITS)
    for one, other in zip(first, second, strict=True):
        assert (one.brightness, one.content) == (other.brightness, other.content)
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.thumbnail, other.thumbnail)


@pytest.mark.parametrize("before", [True, False])
def test_a_thumbnail_is_there_where_it_is_wanted_and_the_rest_is_the_same(raw, before, monkeypatch):
    from twofold.data import preprocessing

    images = RawDataset.open(raw).images
    first = preprocess_images(images, raw, 16, "pad", LIMITS, thumbnails=before)
    again = preprocess_images(images, raw, 16, "pad", LIMITS, thumbnails=not before)
    assert {one.thumbnail is not None for one in first} == {before}
    assert {one.thumbnail is not None for one in again} == {not before}
    for one, other in zip(first, again, strict=True):
        assert (one.brightness, one.content) == (other.brightness, other.content)
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.squares, other.squares)
    assert rows("SELECT count(*) FROM uses WHERE kind = 'pixels'") == [(6,)]
    monkeypatch.setattr(preprocessing, "_made", None)  # by now both ways are known
    with_one = preprocess_images(images, raw, 16, "pad", LIMITS)
    wanted = first if before else again
    for one, other in zip(with_one, wanted, strict=True):
        np.testing.assert_array_equal(one.thumbnail, other.thumbnail)
    assert {
        one.thumbnail is not None for one in preprocess_images(images, raw, 16, "pad", LIMITS, thumbnails=False)
    } == {False}


def test_brightness_is_of_the_picture_and_not_of_what_was_added_or_cut_off(raw):
    images = RawDataset.open(raw).images
    found = [
        [one.brightness for one in preprocess_images(images, raw, 16, fit, LIMITS)] for fit in ("squash", "pad", "crop")
    ]
    assert found[0] == found[1] == found[2]
