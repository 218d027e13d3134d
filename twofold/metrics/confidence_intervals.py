"""Confidence intervals of metrics with a closed formula, from counts or from targets and probabilities.

Covers rates (Wilson), the paired difference of two rates (Tango), the area under the ROC curve and the paired
difference of two areas (DeLong); `bootstrap.py` covers the other metrics. Images are taken to be independent: several
images of one group make the true interval wider. No interval has width 0, because few images never prove perfection.

`level` is the share of two-sided intervals that hold the true value. The lower bound at the level 0.90 is the one-sided
95 % bound.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.metrics.curves import checked_arrays

LEVEL = 0.95
ROUNDING = 1e-12  # a standard deviation below this is 0 but for rounding


class Interval(NamedTuple):
    """Lower and upper bound, in the metric's own unit."""

    low: float
    high: float


class Difference(NamedTuple):
    """The difference of a metric between two models, with its lower and upper bound."""

    estimate: float
    low: float
    high: float


def _z(level: float) -> float:
    """The standard normal quantile of a two-sided level: 1.96 at 0.95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(hits: float, n: int, level: float = LEVEL) -> Interval | None:
    """The interval of the rate hits / n; None if n is 0.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference". `hits` may be a sum of
    values in 0..1: their variance is at most that of hits and misses with the same mean.
    """
    if n == 0:
        return None
    z = _z(level)
    rate = hits / n
    middle = rate + z * z / (2 * n)
    reach = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # By the formula these bounds are exactly 0 and 1; rounding would miss them.
    low = 0.0 if hits == 0 else (middle - reach) / scale
    high = 1.0 if hits == n else (middle + reach) / scale
    return Interval(low, high)


def clopper_pearson(hits: float, n: int, level: float = LEVEL) -> Interval | None:
    """The exact interval of hits / n by Clopper and Pearson (1934), never too narrow; None if n is 0.

    For n of n its lower bound is the n-th root of (1 - level) / 2.
    """
    from scipy.stats import beta

    if n == 0:
        return None
    tail = (1 - level) / 2
    low = 0.0 if hits <= 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits >= n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return Interval(low, high)


def tango(one_only: float, other_only: float, n: int, level: float = LEVEL) -> Difference | None:
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
    z = _z(level)
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
    from scipy.stats import binomtest

    n = one_only + other_only
    return float(binomtest(one_only, n).pvalue) if n else 1.0


def delong(target: ArrayLike, probability: ArrayLike, level: float = LEVEL) -> Interval | None:
    """The interval of the area under the ROC curve; None if a class is missing.

    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more correlated receiver operating
    characteristic curves", by the midranks of Sun and Xu (2014). Without variance (every positive image ranks above
    every negative one, or a class has one image) the interval is exact: the area is the chance of a hit when a positive
    and a negative image are compared, and there are as many independent comparisons as images of the rarer class.
    """
    targets, probabilities = checked_arrays(target, probability)
    areas = _areas(targets, [probabilities])
    if areas is None:
        return None
    area = float(areas.area[0])
    deviation = math.sqrt(areas.covariance[0, 0])
    if areas.pairs < 2 or deviation < ROUNDING:
        return clopper_pearson(area * areas.pairs, areas.pairs, level)
    reach = _z(level) * deviation
    return Interval(max(area - reach, 0.0), min(area + reach, 1.0))


def delong_difference(target: ArrayLike, one: ArrayLike, other: ArrayLike, level: float = LEVEL) -> Difference | None:
    """The area under the ROC curve of `one` minus that of `other` on the same images; None if a class is missing.

    The interval of each area is DeLong's on the logit scale, where areas near 1 are not skewed; the two are combined
    with DeLong's correlation (Zou 2007, "Toward using confidence intervals to compare correlations", the method of
    variance estimates recovery). DeLong's own interval of the difference is too narrow if the two areas differ: of
    models that were worse by the margin, 6.5 % passed at 5 % (`bench/studies/gate_error_rates.py`). Without variance
    of the difference (both rank every pair of images alike), Tango's interval over as many independent comparisons as
    the rarer class has images.
    """
    targets, probabilities = checked_arrays(target, one)
    areas = _areas(targets, [probabilities, checked_arrays(target, other)[1]])
    if areas is None:
        return None
    first, second = areas.area.tolist()
    estimate = first - second
    contrast = np.array([1.0, -1.0])
    deviation = math.sqrt(max(float(contrast @ areas.covariance @ contrast), 0.0))
    if areas.pairs < 2 or deviation < ROUNDING:
        interval = tango(max(estimate, 0.0) * areas.pairs, max(-estimate, 0.0) * areas.pairs, areas.pairs, level)
        return interval and Difference(estimate, interval.low, interval.high)
    deviations = np.sqrt(np.diag(areas.covariance))
    of_one, of_other = (
        _logit_interval(area, own, areas.pairs, level)
        for area, own in zip((first, second), deviations.tolist(), strict=True)
    )
    correlation = float(areas.covariance[0, 1] / deviations.prod()) if deviations.min() > ROUNDING else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0))

    low = estimate - reach(first - of_one.low, of_other.high - second)
    high = estimate + reach(of_one.high - first, second - of_other.low)
    return Difference(estimate, max(low, -1.0), min(high, 1.0))


def _logit_interval(area: float, deviation: float, pairs: int, level: float) -> Interval:
    """The interval of an area whose logit is taken to be normal; an exact one if the logit is infinite."""
    if deviation < ROUNDING or not 0 < area < 1:
        return clopper_pearson(area * pairs, pairs, level) or Interval(0.0, 1.0)
    middle = math.log(area / (1 - area))
    reach = _z(level) * deviation / (area * (1 - area))
    low, high = (max(min(middle + sign * reach, 700.0), -700.0) for sign in (-1, 1))  # exp overflows beyond
    return Interval(1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high)))


class _Areas(NamedTuple):
    area: NDArray[np.float64]  # (K,)
    covariance: NDArray[np.float64]  # (K, K)
    pairs: int  # independent comparisons of a positive and a negative image


def _areas(target: NDArray[np.int64], probabilities: list[NDArray[np.float64]]) -> _Areas | None:
    """The areas of K models on the same images and their covariance."""
    from scipy.stats import rankdata

    scores = np.stack(probabilities)
    positive, negative = scores[:, target == 1], scores[:, target == 0]
    m, n = positive.shape[1], negative.shape[1]
    if not m or not n:
        return None
    ranks = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    # (K, m): share of negative images below each positive one; (K, n): of positive images above each negative one.
    above = (ranks[:, :m] - rankdata(positive, axis=1)) / n
    below = 1 - (ranks[:, m:] - rankdata(negative, axis=1)) / m
    covariance = np.zeros((len(scores), len(scores)))
    for shares, count in ((above, m), (below, n)):
        if count > 1:
            covariance += np.atleast_2d(np.cov(shares)) / count
    return _Areas(above.mean(axis=1), covariance, min(m, n))
