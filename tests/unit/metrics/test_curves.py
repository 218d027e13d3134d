"""Points of curves against cases computed by hand."""

import numpy as np
import pytest

from twofold.core.errors import DataError
from twofold.metrics import curves

TARGET = [1, 1, 0, 1, 0, 1, 0, 0]
PROBABILITY = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]


def test_sweep_counts_at_and_above_each_probability():
    found = curves.threshold_sweep([1, 0, 1, 0], [0.5, 0.5, 0.2, 0.9])
    assert found.probability.tolist() == [0.9, 0.5, 0.2]
    assert found.true_positive.tolist() == [0, 1, 2]
    assert found.false_positive.tolist() == [1, 2, 2]


def test_roc_keeps_the_corners_and_only_finite_numbers():
    found = curves.roc_curve(TARGET, PROBABILITY)
    # Up 2, right 1, up 1, right 1, up 1, right 2: seven corners.
    assert found.x.tolist() == [0, 0, 0.25, 0.25, 0.5, 0.5, 1]
    assert found.y.tolist() == [0, 0.5, 0.5, 0.75, 0.75, 1, 1]
    assert found.threshold[1:].tolist() == [0.8, 0.7, 0.6, 0.5, 0.4, 0.2]
    assert 0.9 < found.threshold[0] < 0.9 + 1e-12
    assert np.isfinite(found.threshold).all()


def test_roc_goes_straight_through_ties():
    found = curves.roc_curve([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.2])
    assert found.x.tolist() == [0, 0.5, 1]
    assert found.y.tolist() == [0, 1, 1]


def test_precision_recall_starts_at_a_real_point():
    found = curves.precision_recall_curve(TARGET, PROBABILITY)
    assert found.x.tolist() == [0.25, 0.5, 0.5, 0.75, 0.75, 1, 1, 1]
    assert found.y.tolist() == [1, 1, 2 / 3, 3 / 4, 3 / 5, 4 / 6, 4 / 7, 4 / 8]
    assert found.threshold.tolist() == PROBABILITY


def test_long_curves_are_thinned_and_keep_their_ends():
    rng = np.random.default_rng(0)
    target, probability = rng.integers(0, 2, 20000), rng.random(20000)
    for curve in (curves.roc_curve(target, probability), curves.precision_recall_curve(target, probability)):
        assert len(curve.x) == curves.MAX_POINTS
        assert np.all(np.diff(curve.threshold) < 0)
        assert curve.threshold[-1] < 0.01
    assert curves.roc_curve(target, probability).x[[0, -1]].tolist() == [0, 1]


def test_histogram_puts_a_probability_on_an_edge_into_the_upper_bin():
    found = curves.score_histogram([0, 1, 1, 0, 1], [0.0, 0.15, 0.5, 0.499, 1.0])
    assert found.low[3] == 0.15
    assert np.flatnonzero(found.positive).tolist() == [3, 10, 19]
    assert np.flatnonzero(found.negative).tolist() == [0, 9]
    assert found.high[-1] == 1.0


def test_curves_need_their_classes():
    with pytest.raises(DataError, match="2 positive and 0 negative"):
        curves.roc_curve([1, 1], [0.5, 0.6])
    with pytest.raises(DataError, match="at least one positive"):
        curves.precision_recall_curve([0, 0], [0.5, 0.6])


@pytest.mark.parametrize(
    ("target", "probability", "words"),
    [
        ([], [], "two lists of one length"),
        ([1, 0], [0.5], "two lists of one length"),
        ([[1, 0]], [[0.5, 0.5]], "two lists of one length"),
        ([1, 2, 3], [0.5] * 3, r"found \[2, 3\]; allowed are 0"),
        ([1, 0, 1], [0.5, 1.1, -0.1], "2 of 3 lie outside 0..1, the first is 1.1 at position 1"),
        ([1, 0], [0.5, float("nan")], "1 of 2 lie outside 0..1"),
    ],
)
def test_what_cannot_be_scored_is_named(target, probability, words):
    with pytest.raises(DataError, match=words):
        curves.checked_arrays(target, probability)
