"""Confidence intervals from counts, and the interval of a difference from two intervals.

Covers rates (Wilson, or Clopper and Pearson), the paired difference of two rates (Tango) and the paired difference of
any two metrics (MOVER). `metric_intervals.py` says which metric uses which. Images are taken to be independent; for
images in groups, counts are divided by their variance inflation first (`design_effect.py`). No interval has width 0,
because few images never prove perfection.

`level` is the share of two-sided intervals that hold the true value. The lower bound at the level 0.90 is the one-sided
95 % bound.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

LEVEL = 0.95
ROUNDING = 1e-12  # values that differ by less are equal but for rounding
# Hits or misses below which a rate's interval is exact. With 40 or more of both, Wilson's lower bound is above the true
# rate in at most 3.5 % of samples at any rate, and covers at least 94 % (`bench/studies/interval_coverage.py`); with
# fewer, its coverage falls to 84 %.
FEW = 40


class Interval(NamedTuple):
    """Lower and upper bound, in the metric's own unit."""

    low: float
    high: float


class Difference(NamedTuple):
    """The difference of a metric between two models, with its lower and upper bound."""

    estimate: float
    low: float
    high: float


def quantile(level: float, freedom: float = math.inf) -> float:
    """The quantile of a two-sided level, standard normal (1.96 at 0.95) or Student's t with degrees of freedom."""
    from scipy.special import stdtrit

    normal = NormalDist().inv_cdf(0.5 + level / 2)
    return normal if math.isinf(freedom) else float(stdtrit(freedom, 0.5 + level / 2))


def rate_interval(hits: float, n: float, level: float = LEVEL) -> Interval | None:
    """The interval of the rate hits / n; None if n is 0: Clopper and Pearson's with fewer than FEW hits or misses."""
    return (clopper_pearson if min(hits, n - hits) < FEW else wilson)(hits, n, level)


def wilson(hits: float, n: float, level: float = LEVEL) -> Interval | None:
    """The interval of the rate hits / n; None if n is 0.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if n == 0:
        return None
    z = quantile(level)
    rate = hits / n
    middle = rate + z * z / (2 * n)
    reach = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # By the formula these bounds are exactly 0 and 1; rounding would miss them.
    low = 0.0 if hits == 0 else (middle - reach) / scale
    high = 1.0 if hits == n else (middle + reach) / scale
    return Interval(low, high)


def clopper_pearson(hits: float, n: float, level: float = LEVEL) -> Interval | None:
    """The exact interval of hits / n by Clopper and Pearson (1934), never too narrow; None if n is 0.

    For n of n its lower bound is the n-th root of (1 - level) / 2.
    """
    from scipy.special import betaincinv

    if n == 0:
        return None
    tail = (1 - level) / 2
    low = 0.0 if hits <= 0 else float(betaincinv(hits, n - hits + 1, tail))
    high = 1.0 if hits >= n else float(betaincinv(hits + 1, n - hits, 1 - tail))
    return Interval(low, high)


def tango(one_only: float, other_only: float, n: float, level: float = LEVEL) -> Difference | None:
    """The score interval of the paired difference of two rates over the same n images; None if n is 0.

    Tango (1998), "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17. Without a discordant image it reaches z^2 / (n + z^2) to either side of 0.

    Args:
        one_only: images on which only the first model is right.
        other_only: images on which only the second model is right.
        n: all images.
        level: of the interval.
    """
    from scipy.optimize import brentq

    if n == 0:
        return None
    z = quantile(level)
    estimate = (one_only - other_only) / n

    def score(difference: float) -> float:
        """How many standard errors the estimate lies above this difference."""
        b = (2 * n - one_only + other_only) * difference - one_only - other_only
        c = -other_only * difference * (1 - difference)
        # The maximum-likelihood rate of `other_only` under this difference.
        rate = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * rate + difference * (1 - difference))
        if variance <= 0:
            return math.copysign(math.inf, estimate - difference) if estimate != difference else 0.0
        return (one_only - other_only - n * difference) / math.sqrt(variance)

    def bound(target: float, start: float, end: float) -> float:
        """The difference between `start` and `end` whose score is `target`."""
        return float(brentq(lambda d: max(-1e9, min(1e9, score(d))) - target, start, end, xtol=1e-12))

    low = bound(z, -1.0, estimate) if estimate > -1 else -1.0
    high = bound(-z, estimate, 1.0) if estimate < 1 else 1.0
    return Difference(estimate, low, high)


def mcnemar(one_only: int, other_only: int) -> float:
    """The p-value of McNemar's test (1947), two-sided and exact (binomial); 1 without a discordant image."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(one_only, other_only), one_only + other_only, 0.5)))


def mover(first: float, of_first: Interval, second: float, of_second: Interval, correlation: float) -> Difference:
    """The interval of `first` minus `second` from the interval of each and the correlation of their errors.

    Zou (2007), "Toward using confidence intervals to compare correlations", Psychological Methods 12: the method of
    variance estimates recovery (MOVER). It keeps the skewness of each interval.
    """

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0))

    estimate = first - second
    return Difference(
        estimate,
        estimate - reach(first - of_first.low, of_second.high - second),
        estimate + reach(of_first.high - first, second - of_second.low),
    )
