"""Intervals against values computed by hand, and against their definitions."""

import itertools
import math

import numpy as np
import pytest

from twofold.metrics.confidence_intervals import clopper_pearson, delong, delong_difference, mcnemar, tango, wilson


def test_eight_of_ten():
    # z^2 = 3.8415. Middle (.8 + .19207) / 1.38415 = .71674; reach 1.96 * sqrt(.016 + .0096037) / 1.38415 = .22658.
    assert wilson(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)


def test_another_level():
    # z^2 = 2.70554. Middle (.8 + .135277) / 1.270554 = .736117; reach 1.644854 * sqrt(.016 + .00676385) / 1.270554.
    assert wilson(8, 10, level=0.9) == pytest.approx((0.540792, 0.931442), abs=1e-5)


def test_rates_of_0_and_1_stay_within_bounds():
    # z^2 / (n + z^2) = 3.8415 / 13.8415
    assert wilson(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)
    assert wilson(10, 10) == pytest.approx((0.72247, 1), abs=1e-5)
    assert wilson(0, 10).low == 0
    assert wilson(10, 10).high == 1


def test_no_images_no_interval():
    assert (wilson(0, 0), clopper_pearson(0, 0), tango(0, 0, 0)) == (None, None, None)


def test_the_exact_interval_is_where_the_binomial_tails_are_0_025():
    # P(X >= 8 | n 10, p) = .025 and P(X <= 8 | n 10, p) = .025, by the sums themselves.
    low, high = clopper_pearson(8, 10)
    assert sum(math.comb(10, k) * low**k * (1 - low) ** (10 - k) for k in (8, 9, 10)) == pytest.approx(0.025)
    assert sum(math.comb(10, k) * high**k * (1 - high) ** (10 - k) for k in range(9)) == pytest.approx(0.025)
    assert clopper_pearson(10, 10) == pytest.approx((0.025**0.1, 1))
    assert clopper_pearson(0, 10) == pytest.approx((0, 1 - 0.025**0.1))


def test_tango_in_closed_form():
    # Without a discordant image z^2 / (n + z^2), the reach of Wilson's interval of 0 of n.
    assert tango(0, 0, 10) == pytest.approx((0, -0.277533, 0.277533), abs=1e-6)
    # 1 of 44 against none: (1 - z^2) / (44 + z^2), and the upper bound of Wilson's interval of 1 of 44.
    assert tango(1, 0, 44) == pytest.approx((1 / 44, -0.0593932, 0.1180771), abs=1e-6)
    assert tango(0, 1, 44) == pytest.approx((-1 / 44, -0.1180771, 0.0593932), abs=1e-6)
    # All of 10 against none: (10 - z^2) / (10 + z^2).
    assert tango(10, 0, 10) == pytest.approx((1, 0.444934, 1), abs=1e-6)
    assert tango(0, 10, 10) == pytest.approx((-1, -1, -0.444934), abs=1e-6)


def test_tango_is_where_the_score_test_rejects():
    """The maximum-likelihood rate from a grid of a million, instead of the root of the quadratic."""
    one_only, other_only, n = 9, 4, 32

    def score(difference):
        rate = np.linspace(max(-difference, 0) + 1e-9, (1 - difference) / 2 - 1e-9, 1_000_001)
        both = 1 - 2 * rate - difference
        likely = one_only * np.log(rate + difference) + other_only * np.log(rate)
        likely += (n - one_only - other_only) * np.log(both)
        best = rate[np.argmax(likely)]
        return (one_only - other_only - n * difference) / math.sqrt(n * (2 * best + difference - difference**2))

    _, low, high = tango(one_only, other_only, n)
    assert score(low) == pytest.approx(1.959964, abs=1e-4)
    assert score(high) == pytest.approx(-1.959964, abs=1e-4)


def test_mcnemar_by_binomial_sums():
    # 9 against 4 of 13: 2 * (C(13,0) + … + C(13,4)) / 2^13 = 2 * 1093 / 8192.
    assert mcnemar(9, 4) == pytest.approx(2 * 1093 / 8192)
    assert mcnemar(4, 9) == mcnemar(9, 4)
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert (mcnemar(3, 3), mcnemar(0, 0)) == (1, 1)


TARGET = [1, 1, 1, 0, 0, 0, 0]
ONE = [0.9, 0.6, 0.4, 0.6, 0.3, 0.2, 0.1]
OTHER = [0.8, 0.7, 0.2, 0.7, 0.5, 0.1, 0.1]


def test_delong_by_hand():
    # Shares of negatives below each positive: 1, 3.5/4, 3/4; of positives above each negative: .5, 1, 1, 1 (of 3:
    # 1.5/3). Area .875; variances .015625 (of 3) and .0625 (of 4): sqrt(.015625/3 + .0625/4) = .144338.
    assert delong(TARGET, ONE) == pytest.approx((0.875 - 1.959964 * 0.144338, 1), abs=1e-5)
    assert delong(TARGET, ONE, level=0.5).high == pytest.approx(0.875 + 0.674490 * 0.144338, abs=1e-5)


def test_the_difference_of_two_areas_by_the_definition():
    """Every pair of images compared, and the covariances summed as in DeLong's paper."""
    target = np.array(TARGET)

    def components(scores):
        x, y = np.array(scores)[target == 1, None], np.array(scores)[target == 0]
        wins = (x > y) + 0.5 * (x == y)
        return wins.mean(), wins.mean(axis=1), wins.mean(axis=0)

    (first, x1, y1), (second, x2, y2) = components(ONE), components(OTHER)

    def own(a, b):
        return a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)

    variance = own(x1 - x2, y1 - y2)

    def bounds(area, deviation):
        middle, reach = math.log(area / (1 - area)), 1.959964 * deviation / (area * (1 - area))
        return [1 / (1 + math.exp(-(middle + sign * reach))) for sign in (-1, 1)]

    one, other = math.sqrt(own(x1, y1)), math.sqrt(own(x2, y2))
    together = (one**2 + other**2 - variance) / (2 * one * other)
    (low, high), (below, above) = bounds(first, one), bounds(second, other)

    def reach(here, there):
        return math.sqrt(here**2 + there**2 - 2 * together * here * there)

    apart = first - second
    expected = (apart, apart - reach(first - low, above - second), apart + reach(high - first, second - below))
    assert delong_difference(TARGET, ONE, OTHER) == pytest.approx(expected, abs=1e-6)


def test_a_perfect_separation_has_an_exact_interval():
    # Ten positives above thirty negatives: ten independent comparisons, all of them hits.
    target = [1] * 10 + [0] * 30
    assert delong(target, np.linspace(1, 0, 40)) == pytest.approx((0.025**0.1, 1))
    assert delong(target, np.linspace(0, 1, 40)) == pytest.approx((0, 1 - 0.025**0.1))
    found = delong_difference(target, np.linspace(1, 0, 40), np.linspace(1, 0.5, 40))
    assert found == pytest.approx((0, -0.277533, 0.277533), abs=1e-6)


def test_one_image_of_a_class_has_a_wide_interval():
    low, high = delong([1, 0, 0, 0], [0.9, 0.3, 0.2, 0.1])
    assert (low, high) == pytest.approx((0.025, 1))
    assert delong_difference([1, 0, 0], [0.9, 0.1, 0.2], [0.1, 0.2, 0.3]).low < 0


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("others", [1, 2, 100])
@pytest.mark.parametrize("score", [0.0, 0.25, 0.5, 1.0])
def test_one_image_of_a_class_proves_little_wherever_it_ranks(positive, others, score):
    target, rest = np.array([positive] + [not positive] * others), np.linspace(0.1, 0.8, others)
    one, other = np.append(score, rest), np.append(0.4, rest)
    for low, high in (delong(target, one), delong_difference(target, one, other)[1:]):
        assert math.isfinite(low)
        assert high - low > 0.5


def test_a_missing_class_has_no_area():
    for target in ([1, 1], [0, 0]):
        assert delong(target, [0.2, 0.8]) is None
        assert delong_difference(target, [0.2, 0.8], [0.1, 0.3]) is None


def test_equal_scores_have_an_interval_around_a_half():
    low, high = delong([1, 1, 0, 0], [0.5] * 4)
    assert low < 0.1
    assert high > 0.9


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_a_higher_level_is_wider_and_holds_the_estimate(level):
    for one, other in itertools.product(range(4), range(4)):
        estimate, low, high = tango(one, other, 7, level)
        wider = tango(one, other, 7, 0.9999)
        assert -1 <= wider.low <= low <= estimate <= high <= wider.high <= 1
        assert low < high
