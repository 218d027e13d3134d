"""A label that can be read without looking is reported, with what reads it; clean data keeps it silent."""

import numpy as np
import pytest

from twofold.audit.spurious_correlations import FAMILIES, find_spurious_correlations
from twofold.data.image_statistics import ImageStatistics
from twofold.data.raw import ImageRecord

LABELS = ("good", "bad")


def rows(seed=0, count=300, share=0.5, change=None, groups=None):
    """Images of two classes that nothing but the pixels tells apart; `change(n, bad, rng)` plants what does."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        bad = rng.random() < share
        width, height = rng.choice([(500, 375), (375, 500), (640, 480)])
        level = float(rng.normal(0.5, 0.1))
        label = "bad" if bad else "good"
        image = ImageRecord(
            rng.bytes(32).hex(), f"{label}/{label}_{number:04d}.jpg", label,
            None if groups is None else f"g{rng.integers(groups)}", None, int(rng.normal(60_000, 9_000)),
            int(width), int(height), "RGB", str(rng.choice(["JPEG", "PNG"])), 3, rng.bytes(32).hex(), 0, 0, (),
        )  # fmt: skip
        exif = "|".join(["make=A", f"orientation={rng.integers(1, 9)}"] + (["date"] if rng.random() < 0.5 else []))
        look = ImageStatistics(brightness=level, red=level * 1.1, green=level, blue=level * 0.9, exif=exif)
        changes = (change or (lambda *_: ({}, {})))(number, bad, rng)
        found.append((image._replace(**changes[0]), look._replace(**changes[1])))
    return found


def telling(found):
    return {one.family for one in find_spurious_correlations(*zip(*found, strict=True), LABELS) if one.tells}


@pytest.mark.parametrize("count,share,groups", [(60, 0.5, None), (400, 0.5, None), (600, 0.1, None), (600, 0.5, 20)])
def test_clean_data_is_silent(count, share, groups):
    assert [telling(rows(seed, count, share, groups=groups)) for seed in range(20)] == [set()] * 20


PLANTED = {
    "size": lambda n, bad, rng: ({"width": 512 if bad else 500}, {}),
    "bytes": lambda n, bad, rng: ({"bytes": int(rng.normal(75_000 if bad else 60_000, 9_000))}, {}),
    "format": lambda n, bad, rng: ({"mode": "L" if bad or rng.random() < 0.2 else "RGB"}, {}),
    "name": lambda n, bad, rng: ({"key": f"x/{'line' if bad else 'shop'}_{n}.jpg"}, {}),
    "exif": lambda n, bad, rng: ({}, {"exif": f"make={'A' if bad else 'B'}"}),
    "brightness": lambda n, bad, rng: ({}, {"brightness": float(rng.normal(0.6 if bad else 0.5, 0.08))}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_planted_is_read_by_its_family_and_no_other(family):
    assert telling(rows(change=PLANTED[family])) == {family}


def test_names_that_only_say_the_class_and_count_the_files_are_silent():
    def numbered(n, bad, rng):
        word = "bad" if bad else "good"
        return {"key": f"{word}s/bad-or-good{word}{n if bad else n + 10**6}.jpg"}, {}

    assert telling(rows(change=numbered)) == set()


def grouped(rng_of):
    """Six cameras, one a group, each with images of mostly one class by chance."""

    def change(number, bad, rng):
        camera = rng_of(number, bad, rng)
        return {"group": f"camera {camera}"}, {"exif": f"make={camera}"}

    return change


def test_a_few_groups_prove_nothing_however_many_images_they_have():
    # Images of three cameras are bad, of three others good: six cases, not six hundred.
    change = grouped(lambda number, bad, rng: int(rng.integers(3)) + 3 * bad)
    assert telling(rows(count=600, change=change)) == set()
    # The same, each image a case of its own.
    assert telling([(image._replace(group=None), look) for image, look in rows(count=600, change=change)]) == {"exif"}


def test_groups_stay_in_one_fold():
    # Each group has a brightness of its own and one class: only a tree that learnt from the group itself could tell.
    def change(number, bad, rng):
        group = int(rng.integers(30)) * 2 + bad
        return {"group": str(group)}, {"brightness": float(np.random.default_rng(group).random())}

    found = find_spurious_correlations(*zip(*rows(count=900, change=change), strict=True), LABELS)
    (one,) = [one for one in found if one.family == "brightness"]
    assert abs(one.auc - 0.5) < 0.2


def test_copies_of_one_picture_count_once():
    found = rows(count=60)
    image, look = found[0]
    copies = [(image._replace(sha256=f"{n:064x}"), look) for n in range(500)]
    assert telling(found + copies) == set()


def test_the_order_of_the_images_changes_nothing():
    found = rows(change=PLANTED["brightness"])
    assert find_spurious_correlations(*zip(*found, strict=True), LABELS) == find_spurious_correlations(
        *zip(*found[::-1], strict=True), LABELS
    )


def test_a_perfect_cue_in_very_few_images_is_no_proof():
    assert telling(rows(count=12, change=PLANTED["exif"])) == set()
    assert telling(rows(count=40, change=PLANTED["exif"])) == {"exif"}


def test_one_group_of_a_class_is_too_little_to_say_anything():
    def change(number, bad, rng):
        return {"group": "one" if bad else str(number)}, {}

    assert find_spurious_correlations(*zip(*rows(change=change), strict=True), LABELS) == []


def test_the_error_of_an_auc_is_delongs_without_groups():
    from twofold.audit.spurious_correlations import _auc

    rng = np.random.default_rng(1)
    truth = np.repeat([True, False], [60, 90])
    scores = rng.normal(truth * 1.0, 1)
    wins = (scores[truth][:, None] > scores[~truth][None, :]).astype(float)
    auc, error = _auc(scores, truth, np.arange(150))
    assert auc == pytest.approx(wins.mean())
    guessing = np.sqrt(151 / (12 * 60 * 90))
    delong = np.sqrt(wins.mean(1).var(ddof=1) / 60 + wins.mean(0).var(ddof=1) / 90)
    assert error == pytest.approx(max(delong, guessing))
