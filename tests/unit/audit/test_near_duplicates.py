"""Near duplicates: changed copies are found, similar images are not."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from twofold.audit import near_duplicates
from twofold.audit.near_duplicates import find_near_duplicates
from twofold.data.thumbnails import thumbnail

SIZE = 160


def part(seed, common=0.0):
    """A picture with structure at several scales, on a background common to all, scaled by `common`."""
    rng, ground = np.random.default_rng(seed), np.random.default_rng(99)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    picture = sum(
        gaussian_filter(rng.normal(size=(SIZE, SIZE)), sigma) * sigma * 25 + common * of_all
        for sigma, of_all in ((1, 0), (3, 20 * np.sin(40 * x)), (8, 20 * (ground.random() + y)))
    )
    return np.clip(128 + picture, 0, 255).astype(np.uint8)


def encoded(picture, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, **options)
    return np.asarray(Image.open(stream).convert("L"))


def resized(picture, factor):
    side = round(SIZE * factor)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


CHANGES = {
    "half": lambda p: resized(p, 0.5),
    "double": lambda p: resized(p, 2),
    "narrow": lambda p: np.asarray(Image.fromarray(p).resize((SIZE, SIZE // 2))),
    "jpeg 40": lambda p: encoded(p, "JPEG", quality=40),
    "jpeg 80": lambda p: encoded(p, "JPEG", quality=80),
    "webp 60": lambda p: encoded(p, "WEBP", quality=60),
    "gamma": lambda p: (255 * (p / 255) ** 0.8).astype(np.uint8),
    "darker": lambda p: (p * 0.8).astype(np.uint8),
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "turned": lambda p: np.rot90(p),
    "turned, half, jpeg": lambda p: encoded(resized(np.rot90(p, 3), 0.5), "JPEG", quality=60),
}


def find(pictures):
    return [(pair.first, pair.second) for pair in find_near_duplicates([thumbnail(p[:, :, None]) for p in pictures])]


@pytest.mark.parametrize("common", [0, 1, 4])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change, common):
    pictures = [part(seed, common) for seed in range(60)]
    copies = [CHANGES[change](picture) for picture in pictures[:20]]
    found = find([*pictures, *copies])
    expected = {(seed, 60 + seed) for seed in range(20)}
    assert len(expected & set(found)) >= 19
    assert not set(found) - expected


@pytest.mark.parametrize("common", [0, 1, 4])
@pytest.mark.parametrize("count", [2, 3, 40, 600])
def test_similar_images_are_no_duplicates(count, common):
    assert find([part(seed, common) for seed in range(count)]) == []


def test_the_orientation_of_the_second_image_is_reported():
    pictures = [part(seed) for seed in range(30)]
    copies = [pictures[0], pictures[1][:, ::-1], pictures[2][::-1], np.rot90(pictures[3]), np.rot90(pictures[4], 2)]
    turns = [pair.turn for pair in find_near_duplicates([thumbnail(p[:, :, None]) for p in [*pictures, *copies]])]
    assert turns[0] == "as it is"
    assert turns[1] == "mirrored"
    assert turns[2] == "upside down"
    assert "90" in turns[3] or "270" in turns[3]
    assert turns[4] == "turned by 180 degrees"


def test_pictures_without_contrast_are_no_duplicates():
    flat = [np.full((SIZE, SIZE), level, np.uint8) for level in (0, 0, 128, 255)]
    assert find(flat) == []
    assert find([*flat, part(0), part(0)]) == [(4, 5)]
    assert find([]) == []
    assert find([part(0)]) == []


def test_low_contrast_and_colour_are_found_too():
    pictures = [(part(seed) / 8 + 100).astype(np.uint8) for seed in range(40)]
    thumbnails = [thumbnail(p[:, :, None]) for p in pictures]
    thumbnails.append(thumbnail(np.stack([pictures[7]] * 3, axis=2)))
    assert [(p.first, p.second) for p in find_near_duplicates(thumbnails)] == [(7, 40)]


def test_the_block_size_does_not_change_the_result(monkeypatch):
    pictures = [part(seed, 1) for seed in range(50)]
    thumbnails = [thumbnail(p[:, :, None]) for p in [*pictures, *(resized(p, 0.5) for p in pictures)]]
    found = [pair[:2] for pair in find_near_duplicates(thumbnails)]
    monkeypatch.setattr("twofold.audit.near_duplicates._BLOCK", 7)
    monkeypatch.setattr("twofold.audit.near_duplicates._ACROSS", 13)
    monkeypatch.setattr("twofold.audit.near_duplicates._PAIRS", 3)
    assert [pair[:2] for pair in find_near_duplicates(thumbnails)] == found == [(n, n + 50) for n in range(50)]


@pytest.mark.parametrize(("block", "across"), [(512, 4096), (40, 64), (64, 40)])
def test_the_candidates_contain_every_pair(monkeypatch, block, across):
    monkeypatch.setattr("twofold.audit.near_duplicates._BLOCK", block)
    monkeypatch.setattr("twofold.audit.near_duplicates._ACROSS", across)
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(300, 256)) / 16).astype(np.float32)
    # Copies at distances from zero to just above the limit.
    steps = rng.normal(size=(100, 256))
    steps *= np.linspace(0, 0.2, 100)[:, None] / np.linalg.norm(steps, axis=1, keepdims=True)
    features[200:] = features[:100] + steps
    distances = ((features[:, None].astype(np.float64) - features[None]) ** 2).sum(axis=2)
    expected = np.argwhere(np.triu(distances <= near_duplicates._MAX_DISTANCE, 1)).tolist()
    found = [pair for pairs in near_duplicates._candidates(features) for pair in np.transpose(pairs).tolist()]
    assert sorted(found) == expected
    assert 50 < len(found) < 100


def test_a_shared_background_makes_no_duplicates():
    ground = gaussian_filter(np.random.default_rng(5).normal(size=(SIZE, SIZE)), 6)
    pictures = []
    for seed in range(100):  # a thousandth of the variance is specific to an image
        own = gaussian_filter(np.random.default_rng(seed).normal(size=(SIZE, SIZE)), 5)
        pictures.append((128 + 45 * ground / ground.std() + 1.5 * own / own.std()).clip(0, 255).astype(np.uint8))
    assert find(pictures) == []
    assert find([*pictures, resized(pictures[7], 0.5)]) == [(7, 100)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_copy_is_found_among_few_images(count):
    pictures = [part(seed) for seed in range(count)]
    assert find([*pictures, encoded(pictures[0], "JPEG", quality=40)]) == [(0, count)]


def test_a_sound_and_a_cracked_cell_are_no_duplicates():
    sound = [part(seed, 1) for seed in range(60)]
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    crack = 30 * (np.abs(y - 0.3 - 0.4 * x) < 0.01)
    broken = [np.clip(picture.astype(int) - crack, 0, 255).astype(np.uint8) for picture in sound[:20]]
    assert find([*sound, *broken]) == []
