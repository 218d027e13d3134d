"""Intervals against values computed by hand, and against their definitions."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from twofold.metrics.confidence_intervals import (
    Interval,
    clopper_pearson,
    mcnemar,
    mover,
    quantile,
    rate_interval,
    tango,
    wilson,
)


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


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_exact_interval_is_the_one_of_scipy(level):
    for hits, n in ((0, 1), (1, 1), (3, 7), (38, 38), (0, 60), (17, 656)):
        expected = binomtest(hits, n).proportion_ci(level, method="exact")
        assert clopper_pearson(hits, n, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_rate_has_the_exact_interval_until_it_has_40_hits_and_40_misses():
    assert rate_interval(0, 0) is None
    for hits, n in ((39, 500), (461, 500), (38, 38), (10, 20)):
        assert rate_interval(hits, n, 0.9) == clopper_pearson(hits, n, 0.9) != wilson(hits, n, 0.9)
    for hits, n in ((40, 500), (460, 500), (40, 80)):
        assert rate_interval(hits, n, 0.9) == wilson(hits, n, 0.9) != clopper_pearson(hits, n, 0.9)


@pytest.mark.parametrize("n", [1, 10, 38, 60, 85, 200, 656])
def test_a_rate_is_covered_as_often_as_promised_at_any_true_rate(n):
    """By the probability of every number of hits, not by simulation."""
    low, high = np.array([rate_interval(hits, n) for hits in range(n + 1)]).T
    for rate in np.concatenate([np.linspace(0.001, 0.999, 400), 1 - np.geomspace(1e-4, 0.1, 50)]):
        chance = binom.pmf(np.arange(n + 1), n, rate)
        assert chance[low > rate].sum() <= 0.036, rate
        assert chance[(low <= rate) & (rate <= high)].sum() >= 0.94, rate


def test_quantiles_with_and_without_degrees_of_freedom():
    assert (quantile(0.95), quantile(0.9)) == pytest.approx((1.959964, 1.644854), abs=1e-6)
    # Student's t in tables: 12.706 with one degree of freedom, 2.228 with ten.
    assert (quantile(0.95, 1), quantile(0.95, 10)) == pytest.approx((12.7062, 2.22814), abs=1e-4)
    assert quantile(0.9, 1e7) == pytest.approx(quantile(0.9), abs=1e-5)


def test_the_difference_of_two_intervals_by_hand():
    # Independent: .8 (.5 to .9) less .6 (.2 to .7) reaches sqrt(.3^2 + .1^2) down and sqrt(.1^2 + .4^2) up.
    one, other = Interval(0.5, 0.9), Interval(0.2, 0.7)
    assert mover(0.8, one, 0.6, other, 0) == pytest.approx((0.2, 0.2 - math.sqrt(0.1), 0.2 + math.sqrt(0.17)))
    # Correlated by .5: the product .3 * .1, and .1 * .4, is taken off the squares.
    assert mover(0.8, one, 0.6, other, 0.5) == pytest.approx((0.2, 0.2 - math.sqrt(0.07), 0.2 + math.sqrt(0.13)))
    # Errors of equal size that always go together cancel, and those that always differ add up.
    even = Interval(0.7, 0.9)
    assert mover(0.8, even, 0.8, even, 1) == pytest.approx((0, 0, 0), abs=1e-9)
    assert mover(0.8, even, 0.8, even, -1) == pytest.approx((0, -0.2, 0.2))


def test_the_mirrored_difference_is_the_mirrored_interval():
    one, other = Interval(0.5, 0.9), Interval(0.2, 0.7)
    estimate, low, high = mover(0.8, one, 0.6, other, 0.3)
    assert mover(0.6, other, 0.8, one, 0.3) == pytest.approx((-estimate, -high, -low))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_a_higher_level_is_wider_and_holds_the_estimate(level):
    for one, other in itertools.product(range(4), range(4)):
        estimate, low, high = tango(one, other, 7, level)
        wider = tango(one, other, 7, 0.9999)
        assert -1 <= wider.low <= low <= estimate <= high <= wider.high <= 1
        assert low < high


def test_counts_divided_by_their_inflation_need_not_be_whole():
    # Half of the images, as many hits: the same rate, less certain.
    for method in (wilson, clopper_pearson):
        whole, part = method(7, 10), method(3.5, 5)
        assert part.low < whole.low < 0.7 < whole.high < part.high
    whole, part = tango(7, 2, 30), tango(3.5, 1, 15)
    assert part.estimate == whole.estimate
    assert part.low < whole.low < whole.high < part.high
