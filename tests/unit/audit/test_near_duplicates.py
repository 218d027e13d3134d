"""Near duplicates: changed copies are found, similar images are not."""

import io
import tracemalloc
from functools import cache

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from twofold.audit import near_duplicates
from twofold.audit.near_duplicates import MIN_CORRELATION, find_near_duplicates
from twofold.data.thumbnails import SIDE, thumbnail

SIZE = 160


@cache
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
    return [
        (pair.first, pair.second) for pair in find_near_duplicates([thumbnail(Image.fromarray(p)) for p in pictures])
    ]


@pytest.mark.parametrize("common", [0, 1, 4])
def test_changed_copies_are_found_and_nothing_else(common):
    count = 10 * len(CHANGES)
    pictures = [part(seed, common) for seed in range(count)]
    copies = [change(pictures[10 * k + n]) for k, change in enumerate(CHANGES.values()) for n in range(10)]
    assert find([*pictures, *copies]) == [(seed, count + seed) for seed in range(count)]


@pytest.mark.parametrize(("count", "common"), [(2, 0), (2, 4), (3, 1), (40, 0), (40, 4)])
def test_similar_images_are_no_duplicates(count, common):
    assert find([part(seed, common) for seed in range(count)]) == []


def test_the_orientation_of_the_second_image_is_reported():
    pictures = [part(seed) for seed in range(30)]
    copies = [pictures[0], pictures[1][:, ::-1], pictures[2][::-1], np.rot90(pictures[3]), np.rot90(pictures[4], 2)]
    turns = [pair.turn for pair in find_near_duplicates([thumbnail(Image.fromarray(p)) for p in [*pictures, *copies]])]
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
    thumbnails = [thumbnail(Image.fromarray(p)) for p in pictures]
    thumbnails.append(thumbnail(Image.fromarray(np.stack([pictures[7]] * 3, axis=2)).convert("L")))
    assert [(p.first, p.second) for p in find_near_duplicates(thumbnails)] == [(7, 40)]


def test_the_block_size_does_not_change_the_result(monkeypatch):
    pictures = [part(seed, 1) for seed in range(50)]
    thumbnails = [thumbnail(Image.fromarray(p)) for p in [*pictures, *(resized(p, 0.5) for p in pictures)]]
    found = [pair[:2] for pair in find_near_duplicates(thumbnails)]
    monkeypatch.setattr("twofold.audit.near_duplicates._BLOCK", 7)
    monkeypatch.setattr("twofold.audit.near_duplicates._ACROSS", 13)
    monkeypatch.setattr("twofold.audit.near_duplicates._PAIRS", 3)
    assert [pair[:2] for pair in find_near_duplicates(thumbnails)] == found == [(n, n + 50) for n in range(50)]


def structured(count, seed=0):
    """(count, SIDE, SIDE) random thumbnails with structure at two scales."""
    rng = np.random.default_rng(seed)
    return sum(gaussian_filter(rng.normal(size=(count, SIDE, SIDE)), (0, sigma, sigma)) * sigma for sigma in (1, 4))


def normalised(pictures):
    pictures = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    return (pictures / np.linalg.norm(pictures, axis=(1, 2), keepdims=True)).astype(np.float16)


def clustered(clusters=12, members=40):
    """Thumbnails around a few pictures, at distances from far below the limit to far above it."""
    amounts = np.linspace(0.002, 0.3, members)[:, None, None]
    return np.concatenate(
        [centre + amounts * structured(members, [1, k]) for k, centre in enumerate(structured(clusters))]
    )


def planted(count=500):
    """Random thumbnails and copies of every fifth in all orientations, with a little noise."""
    pictures = structured(count)
    copies = [near_duplicates._orient(picture[None], k % 8)[0] for k, picture in enumerate(pictures[::5])]
    return np.concatenate([pictures, copies + 0.03 * structured(len(copies), 2)])


DATA = {
    "random": structured(600),
    "clustered": clustered(),
    "planted": planted(),
    "noise": np.random.default_rng(3).normal(size=(300, SIDE, SIDE)),
}


def compare_all(white):
    """Every pair compared in every orientation."""
    white = white.astype(np.float64)
    correlations = np.max(
        [np.tensordot(white, near_duplicates._orient(white, k), ((1, 2), (1, 2))) for k in range(8)], 0
    )
    return {tuple(pair) for pair in np.argwhere(np.triu(correlations >= MIN_CORRELATION, 1)).tolist()}


@cache
def compared(kind):
    """Thumbnails, the same whitened, and the pairs among them."""
    thumbnails = normalised(DATA[kind])
    white = near_duplicates._whiten(thumbnails, np.arange(len(thumbnails)))
    return thumbnails, white, compare_all(white)


@pytest.mark.parametrize(("block", "across"), [(512, 16384), (16, 64), (50, 16)])
@pytest.mark.parametrize("kind", DATA)
def test_the_same_pairs_as_by_comparing_all(kind, block, across, monkeypatch):
    monkeypatch.setattr("twofold.audit.near_duplicates._BLOCK", block)
    monkeypatch.setattr("twofold.audit.near_duplicates._ACROSS", across)
    thumbnails, white, expected = compared(kind)
    monkeypatch.setattr("twofold.audit.near_duplicates._whiten", lambda *_: white)  # takes most of the time
    assert {pair[:2] for pair in find_near_duplicates(thumbnails)} == expected
    assert (len(expected) >= 90) == (kind in ("clustered", "planted"))


def test_the_order_of_the_images_does_not_change_the_pairs(monkeypatch):
    monkeypatch.setattr("twofold.audit.near_duplicates._BLOCK", 16)
    thumbnails, _, expected = compared("planted")
    shuffled = np.random.default_rng(0).permutation(len(thumbnails))
    found = find_near_duplicates(thumbnails[shuffled])
    assert {tuple(sorted(shuffled[list(pair[:2])])) for pair in found} == expected
    assert find_near_duplicates(list(thumbnails[shuffled])) == found


@pytest.mark.parametrize(("block", "across"), [(512, 16384), (40, 64)])
def test_the_candidates_contain_every_pair(block, across, monkeypatch):
    monkeypatch.setattr("twofold.audit.near_duplicates._BLOCK", block)
    monkeypatch.setattr("twofold.audit.near_duplicates._ACROSS", across)
    rng = np.random.default_rng(0)
    points = (rng.normal(size=(128, 300)) * np.geomspace(0.2, 0.02, 128)[:, None]).astype(np.float32)
    # Copies at distances from zero to just above the limit.
    steps = rng.normal(size=(128, 100))
    steps *= np.linspace(0, 0.2, 100) / np.linalg.norm(steps, axis=0)
    points[:, 200:] = points[:, :100] + steps
    leaves = near_duplicates._leaves(points, np.arange(300))
    assert sorted(np.concatenate(leaves)) == list(range(300))
    points = points[:, np.concatenate(leaves)]
    distances = ((points[:, :, None].astype(np.float64) - points[:, None]) ** 2).sum(axis=0)
    expected = np.argwhere(np.triu(distances <= near_duplicates._MAX_DISTANCE, 1)).tolist()
    found = []
    for rows in np.split(np.arange(300), np.cumsum([len(leaf) for leaf in leaves])[:-1]):
        assert len(rows) <= block
        for begin in range(rows[0], 300, across):
            found += np.transpose(near_duplicates._candidates(points, rows, begin)).tolist()
    assert sorted(found) == expected
    assert 50 < len(found) < 100


def test_a_leaf_is_compared_with_the_images_near_it_alone(monkeypatch):
    monkeypatch.setattr("twofold.audit.near_duplicates._BLOCK", 16)
    compared, exact = [], np.nonzero
    monkeypatch.setattr(np, "nonzero", lambda near: compared.append(near.size * (near.ndim == 2)) or exact(near))
    find_near_duplicates(normalised(structured(1200)))
    assert 0 < sum(compared) < 0.3 * 1200**2 / 2


@pytest.mark.parametrize("noise", [0, 2e-4])
def test_a_picture_that_occurs_very_often_takes_a_bounded_number_of_comparisons(noise, monkeypatch):
    monkeypatch.setattr("twofold.audit.near_duplicates._ENOUGH", 4)
    others, often = structured(300), 600
    pictures = np.concatenate([normalised(others), normalised(others[:1]) + noise * structured(often, 5)])
    correlated = []
    exact = near_duplicates._correlate
    monkeypatch.setattr(
        "twofold.audit.near_duplicates._correlate",
        lambda first, second: correlated.append(len(first)) or exact(first, second),
    )
    pairs = [pair[:2] for pair in find_near_duplicates(pictures.astype(np.float16))]
    assert len(pairs) == len(set(pairs))
    assert 4 * (often - 8) <= len(pairs) <= sum(correlated) <= 8 * often
    graph = coo_array((np.ones(len(pairs)), np.transpose(pairs)), (len(pictures), len(pictures)))
    assert connected_components(graph)[0] == 300  # all copies belong together


def test_memory_per_image(monkeypatch):
    monkeypatch.setattr("twofold.audit.near_duplicates._SAMPLE", 256)
    thumbnails = normalised(structured(3000))
    # The covariance takes the same memory for any number of images, more than the search takes for these.
    white = near_duplicates._whiten(thumbnails, np.arange(3000))
    monkeypatch.setattr("twofold.audit.near_duplicates._whiten", lambda some, _: white[: len(some)])
    peaks = []
    for count in (1000, 3000):
        tracemalloc.start()
        find_near_duplicates(thumbnails[:count])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert 0 < (peaks[1] - peaks[0]) / 2000 < 3500


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
