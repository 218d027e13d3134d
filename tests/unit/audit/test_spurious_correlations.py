"""Planted spurious correlations are reported with their family; clean data has none."""

import numpy as np
import pytest

from tests.support.makers import image_record
from twofold.audit.spurious_correlations import FAMILIES, _auc, find_spurious_correlations
from twofold.data.image_statistics import ImageStatistics

LABELS = ("good", "bad")


def rows(seed=0, count=300, share=0.5, change=None, groups=None):
    """Images of two classes that differ only in their pixels; `change(n, bad, rng)` plants a correlation."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        bad = rng.random() < share
        width, height = rng.choice([(500, 375), (375, 500), (640, 480)])
        level = float(rng.normal(0.5, 0.1))
        label = "bad" if bad else "good"
        names = {"key": f"{label}/{label}_{number:04d}.jpg", "label": label}
        names["group"] = None if groups is None else f"g{rng.integers(groups)}"
        size = {"bytes": int(rng.normal(60_000, 9_000)), "width": int(width), "height": int(height)}
        kind = {"mode": "RGB", "format": str(rng.choice(["JPEG", "PNG"]))}
        image = image_record(f"{seed} {number}", **names, **size, **kind)
        exif = "|".join(["make=A", f"orientation={rng.integers(1, 9)}"] + (["date"] if rng.random() < 0.5 else []))
        statistics = ImageStatistics(brightness=level, red=level * 1.1, green=level, blue=level * 0.9, exif=exif)
        changes = (change or (lambda *_: ({}, {})))(number, bad, rng)
        found.append((image._replace(**changes[0]), statistics._replace(**changes[1])))
    return found


def correlated(found):
    return {one.family for one in find_spurious_correlations(*zip(*found, strict=True), LABELS) if one.is_significant}


@pytest.mark.parametrize("count,share,groups", [(60, 0.5, None), (400, 0.5, None), (600, 0.1, None), (600, 0.5, 20)])
def test_clean_data_has_no_correlation(count, share, groups):
    assert [correlated(rows(seed, count, share, groups=groups)) for seed in range(20)] == [set()] * 20


PLANTED = {
    "size": lambda n, bad, rng: ({"width": 512 if bad else 500}, {}),
    "bytes": lambda n, bad, rng: ({"bytes": int(rng.normal(75_000 if bad else 60_000, 9_000))}, {}),
    "format": lambda n, bad, rng: ({"mode": "L" if bad or rng.random() < 0.2 else "RGB"}, {}),
    "name": lambda n, bad, rng: ({"key": f"x/{'line' if bad else 'shop'}_{n}.jpg"}, {}),
    "exif": lambda n, bad, rng: ({}, {"exif": f"make={'A' if bad else 'B'}"}),
    "brightness": lambda n, bad, rng: ({}, {"brightness": float(rng.normal(0.6 if bad else 0.5, 0.08))}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_planted_correlation_is_found_in_its_family_and_no_other(family):
    assert correlated(rows(change=PLANTED[family])) == {family}


def test_names_with_only_the_class_and_a_number_are_not_reported():
    def numbered(n, bad, rng):
        word = "bad" if bad else "good"
        return {"key": f"{word}s/bad-or-good{word}{n if bad else n + 10**6}.jpg"}, {}

    assert correlated(rows(change=numbered)) == set()


def test_a_few_groups_are_not_significant_whatever_their_number_of_images():
    # Images of three cameras are bad, of three others good: six independent cases, not six hundred.
    def change(number, bad, rng):
        camera = int(rng.integers(3)) + 3 * bad
        return {"group": f"camera {camera}"}, {"exif": f"make={camera}"}

    assert correlated(rows(count=600, change=change)) == set()
    # The same with every image as its own case.
    assert correlated([(image._replace(group=None), row) for image, row in rows(count=600, change=change)]) == {"exif"}


def test_groups_stay_in_one_fold():
    # Each group has its own brightness and one class: only a tree trained on the group itself could predict it.
    def change(number, bad, rng):
        group = int(rng.integers(30)) * 2 + bad
        return {"group": str(group)}, {"brightness": float(np.random.default_rng(group).random())}

    found = find_spurious_correlations(*zip(*rows(count=900, change=change), strict=True), LABELS)
    (one,) = [one for one in found if one.family == "brightness"]
    assert abs(one.auc - 0.5) < 0.2


def test_copies_of_one_picture_count_once():
    found = rows(count=60)
    image, statistics = found[0]
    copies = [(image._replace(sha256=f"{n:064x}"), statistics) for n in range(500)]
    assert correlated(found + copies) == set()


def test_the_order_of_the_images_changes_nothing():
    found = rows(change=PLANTED["brightness"])
    assert find_spurious_correlations(*zip(*found, strict=True), LABELS) == find_spurious_correlations(
        *zip(*found[::-1], strict=True), LABELS
    )


def test_a_perfect_correlation_in_very_few_images_is_not_significant():
    assert correlated(rows(count=12, change=PLANTED["exif"])) == set()
    assert correlated(rows(count=40, change=PLANTED["exif"])) == {"exif"}


def test_one_group_of_a_class_is_too_little_for_a_result():
    def change(number, bad, rng):
        return {"group": "one" if bad else str(number)}, {}

    assert find_spurious_correlations(*zip(*rows(change=change), strict=True), LABELS) == []


def test_the_error_of_an_auc_is_delongs_without_groups():
    rng = np.random.default_rng(1)
    truth = np.repeat([True, False], [60, 90])
    scores = rng.normal(truth * 1.0, 1)
    wins = (scores[truth][:, None] > scores[~truth][None, :]).astype(float)
    auc, error = _auc(scores, truth, np.arange(150))
    assert auc == pytest.approx(wins.mean())
    guessing = np.sqrt(151 / (12 * 60 * 90))
    delong = np.sqrt(wins.mean(1).var(ddof=1) / 60 + wins.mean(0).var(ddof=1) / 90)
    assert error == pytest.approx(max(delong, guessing))
