"""The interval of the area under the ROC curve against a published example, its equation, and its limits."""

import math

import numpy as np
import pytest

from twofold.metrics.confidence_intervals import clopper_pearson
from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import metric_difference, metric_interval
from twofold.metrics.roc_auc_interval import hanley_mcneil, roc_auc_interval


def interval(area, positive, negative, variance=0.0, inflation=1.0, level=0.95):
    return roc_auc_interval(area, variance, positive, negative, inflation, level)


def test_the_variance_by_hand():
    # Area .8: q1 .8 / 1.2 = .666667, q2 1.28 / 1.8 = .711111; .16 + 2 * (.666667 - .64) + 4 * (.711111 - .64), by 15.
    assert hanley_mcneil(0.8, 3, 5) == pytest.approx((0.16 + 2 * 0.0266667 + 4 * 0.0711111) / 15, rel=1e-5)
    assert hanley_mcneil(0.3, 1, 1) == pytest.approx(0.21)  # one comparison is one toss
    assert hanley_mcneil(0.3, 4, 9) == pytest.approx(hanley_mcneil(0.7, 9, 4))  # the classes change places
    assert (hanley_mcneil(0, 4, 9), hanley_mcneil(1, 4, 9)) == (0, 0)


def test_the_published_example():
    """Hanley and McNeil (1982): 58 normal and 51 abnormal scans in five ratings, area .893, standard error .032."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    wins = sum(n * m * ((i > j) + 0.5 * (i == j)) for i, m in enumerate(abnormal) for j, n in enumerate(normal))
    area = wins / (58 * 51)
    assert area == pytest.approx(0.893, abs=5e-4)
    assert math.sqrt(hanley_mcneil(area, 51, 58)) == pytest.approx(0.032, abs=5e-4)


@pytest.mark.parametrize(("positive", "negative"), [(2, 2), (3, 200), (20, 636), (219, 437)])
@pytest.mark.parametrize("inflation", [1, 3])
def test_at_the_bounds_the_area_is_just_usual(positive, negative, inflation):
    for area in (0.5, 0.9, 0.995):
        for level, z in ((0.95, 1.959964), (0.9, 1.644854)):
            low, high = interval(area, positive, negative, inflation=inflation, level=level)
            assert 0 < low < area < high < 1
            for bound in (low, high):
                error = math.sqrt(inflation * hanley_mcneil(bound, positive, negative))
                assert abs(area - bound) == pytest.approx(z * error, rel=1e-5)


def test_a_variance_above_that_of_hanley_and_mcneil_counts_and_one_below_does_not():
    expected = hanley_mcneil(0.9, 20, 50)
    assert interval(0.9, 20, 50, 2.5 * expected) == pytest.approx(interval(0.9, 20, 50, inflation=2.5))
    assert interval(0.9, 20, 50, 0.4 * expected) == interval(0.9, 20, 50)


def test_inflation_and_level_widen_and_images_narrow():
    middle = interval(0.95, 20, 50)
    for wider in (interval(0.95, 20, 50, inflation=1.5), interval(0.95, 20, 50, level=0.99), interval(0.95, 18, 45)):
        assert wider.low < middle.low < middle.high < wider.high


def test_a_perfect_separation_is_not_certain():
    for positive, negative in ((2, 2), (10, 30), (38, 38), (20, 636)):
        low, high = interval(1, positive, negative)
        assert high == 1
        # Zero of the few has an upper bound of about 3 / n, and no pair of images tells more than one image does.
        assert 1 / min(positive, negative) < 1 - low < 4 / min(positive, negative)


@pytest.mark.parametrize(("positive", "negative"), [(200_000, 3), (3, 200_000), (1_000_000, 2), (100_000, 100_000)])
def test_many_images_of_one_class_have_bounds_too(positive, negative):
    for area in (0.0, 0.7, 1.0):
        low, high = interval(area, positive, negative)
        assert 0 <= low <= area <= high <= 1
        assert low < high


def test_the_mirrored_area_has_the_mirrored_interval():
    for area in (0, 0.2, 0.5):
        low, high = interval(area, 7, 40)
        assert interval(1 - area, 40, 7) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert interval(0, 7, 40).low == 0


def test_one_image_of_a_class_is_one_comparison():
    for positive, negative in ((1, 30), (30, 1), (1, 1)):
        for area in (0.0, 0.5, 0.9, 1.0):
            found = interval(area, positive, negative, inflation=40)
            assert found == clopper_pearson(area, 1)
            assert found.high - found.low > 0.9
    assert interval(1, 1, 30) == pytest.approx((0.025, 1))
    assert interval(1, 2, 30) != clopper_pearson(1, 1)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("others", [1, 2, 100])
@pytest.mark.parametrize("score", [0.0, 0.25, 0.5, 1.0])
def test_one_image_of_a_class_proves_little_wherever_it_ranks(positive, others, score):
    target, rest = np.array([positive] + [not positive] * others).astype(int), np.linspace(0.1, 0.8, others)
    one, other = (ModelOutputs(np.append(own, rest), 0.5) for own in (score, 0.4))
    difference = metric_difference("roc_auc", target, one, other)
    for low, high in (metric_interval("roc_auc", target, one), difference[1:]):
        assert math.isfinite(low)
        assert high - low > 0.5
