"""How far chance alone may have moved a figure: in come counts, or targets and probabilities, out go intervals.

Of rates (Wilson), of the paired difference of two rates (Tango), of the area under the ROC curve and of the paired
difference of two areas (DeLong). Figures without such a formula are in `resampling.py`; `uncertainty.py` knows which
method belongs to which figure. Images are taken to be independent: several images of one group make the true interval
wider. No interval has a width of 0, however well a model did: few images never prove perfection.

`level` is the share of two-sided intervals that hold the true value. The lower end at the level 0.90 is the one-sided
95 % bound.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.metrics.curves import checked_arrays

LEVEL = 0.95
TINY = 1e-12  # a standard deviation below this is a rounding of 0


class Interval(NamedTuple):
    """Both ends, in the figure's own unit."""

    low: float
    high: float


class Difference(NamedTuple):
    """How much more one has than the other, and both ends of its interval."""

    estimate: float
    low: float
    high: float


def quantile(level: float) -> float:
    """How many standard deviations an interval of this level reaches to either side: 1.96 at 0.95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(hits: float, n: int, level: float = LEVEL) -> Interval | None:
    """The interval of the rate hits / n; None where n is 0 and there is no rate.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference". `hits` may be a sum of
    values in 0..1: their variance is at most that of as many hits and misses with the same mean.
    """
    if n == 0:
        return None
    z = quantile(level)
    rate = hits / n
    middle = rate + z * z / (2 * n)
    reach = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The ends are exact by the formula, and a rounding away from it by the machine.
    low = 0.0 if hits == 0 else (middle - reach) / scale
    high = 1.0 if hits == n else (middle + reach) / scale
    return Interval(low, high)


def exact(hits: float, n: int, level: float = LEVEL) -> Interval | None:
    """The interval of Clopper and Pearson (1934) for hits / n, never too narrow; None where n is 0.

    For n of n its lower end is the n-th root of (1 - level) / 2.
    """
    from scipy.stats import beta

    if n == 0:
        return None
    tail = (1 - level) / 2
    low = 0.0 if hits <= 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits >= n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return Interval(low, high)


def tango(one_only: float, other_only: float, n: int, level: float = LEVEL) -> Difference | None:
    """The score interval of the paired difference of two rates over the same n images; None where n is 0.

    Tango (1998), "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17. Where both got the same images right it is z^2 / (n + z^2) to either side.

    Args:
        one_only: images that one got right and the other did not.
        other_only: the reverse.
        n: all images.
        level: of the interval.
    """
    from scipy.optimize import brentq

    if n == 0:
        return None
    z = quantile(level)
    estimate = (one_only - other_only) / n

    def beyond(difference: float) -> float:
        """How many standard errors the estimate lies above this difference, less than none being negative."""
        b = (2 * n - one_only + other_only) * difference - one_only - other_only
        c = -other_only * difference * (1 - difference)
        # The likeliest rate of images that the other alone gets right, if this were the true difference.
        rate = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * rate + difference * (1 - difference))
        if variance <= 0:
            return math.copysign(math.inf, estimate - difference) if estimate != difference else 0.0
        return (one_only - other_only - n * difference) / math.sqrt(variance)

    low, high = -1.0, 1.0
    if estimate > -1:
        low = float(brentq(lambda d: max(-1e9, min(1e9, beyond(d))) - z, -1.0, estimate, xtol=1e-12))
    if estimate < 1:
        high = float(brentq(lambda d: max(-1e9, min(1e9, beyond(d))) + z, estimate, 1.0, xtol=1e-12))
    return Difference(estimate, low, high)


def mcnemar(one_only: int, other_only: int) -> float:
    """The chance of so uneven a split of the images that only one of two gets right, were they equally good.

    Two-sided and exact (binomial) for any number of images: McNemar (1947). 1 where there is no such image.
    """
    from scipy.stats import binomtest

    n = one_only + other_only
    return float(binomtest(one_only, n).pvalue) if n else 1.0


def delong(target: ArrayLike, probability: ArrayLike, level: float = LEVEL) -> Interval | None:
    """The interval of the area under the ROC curve; None where a class is missing and there is no area.

    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more correlated receiver operating
    characteristic curves", by the midranks of Sun and Xu (2014). Where it sees no variance (every positive image above
    every negative one, or a class of one image), an exact one: the area is the chance of a hit when a positive and a
    negative image are compared, and the test holds as many independent comparisons as the rarer class has images.
    """
    targets, probabilities = checked_arrays(target, probability)
    areas = _areas(targets, [probabilities])
    if areas is None:
        return None
    area = float(areas.area[0])
    deviation = math.sqrt(areas.covariance[0, 0])
    if areas.pairs < 2 or deviation < TINY:
        return exact(area * areas.pairs, areas.pairs, level)
    reach = quantile(level) * deviation
    return Interval(max(area - reach, 0.0), min(area + reach, 1.0))


def delong_difference(target: ArrayLike, one: ArrayLike, other: ArrayLike, level: float = LEVEL) -> Difference | None:
    """By how much the area of one exceeds that of the other on the same images; None where a class is missing.

    Each area's own interval by DeLong's variance on the logit scale, where areas near 1 are not skewed, put together
    with DeLong's correlation (Zou 2007, "Toward using confidence intervals to compare correlations", the method of
    variance estimates recovery). DeLong's own interval of the difference is too narrow where the two areas differ: of
    models that were worse by the margin it let 6.5 % pass at 5 % (`bench/studies/gate_error_rates.py`). Where the difference shows no
    variance (both rank every pair of images alike), Tango's
    interval over as many independent comparisons as the rarer class has images.
    """
    targets, probabilities = checked_arrays(target, one)
    areas = _areas(targets, [probabilities, checked_arrays(target, other)[1]])
    if areas is None:
        return None
    estimate = float(areas.area[0] - areas.area[1])
    turn = np.array([1.0, -1.0])
    deviation = math.sqrt(max(float(turn @ areas.covariance @ turn), 0.0))
    if areas.pairs < 2 or deviation < TINY:
        ahead, behind = max(estimate, 0.0) * areas.pairs, max(-estimate, 0.0) * areas.pairs
        found = tango(ahead, behind, areas.pairs, level)
        return found and Difference(estimate, found.low, found.high)
    spread = np.sqrt(np.diag(areas.covariance))
    (first, ours), (second, theirs) = (
        (area, _on_logits(area, own, areas.pairs, level))
        for area, own in zip(areas.area.tolist(), spread.tolist(), strict=True)
    )
    together = float(areas.covariance[0, 1] / spread.prod()) if spread.min() > TINY else 0.0

    def reach(here: float, there: float) -> float:
        return math.sqrt(max(here * here + there * there - 2 * together * here * there, 0.0))

    low = estimate - reach(first - ours.low, theirs.high - second)
    high = estimate + reach(ours.high - first, second - theirs.low)
    return Difference(estimate, max(low, -1.0), min(high, 1.0))


def _on_logits(area: float, deviation: float, pairs: int, level: float) -> Interval:
    """The interval of an area whose logit is taken to be normal; an exact one where that has no value."""
    if deviation < TINY or not 0 < area < 1:
        return exact(area * pairs, pairs, level) or Interval(0.0, 1.0)
    middle = math.log(area / (1 - area))
    reach = quantile(level) * deviation / (area * (1 - area))
    low, high = (max(min(middle + turn * reach, 700.0), -700.0) for turn in (-1, 1))  # beyond, exp has no value
    return Interval(1 / (1 + math.exp(-low)), 1 / (1 + math.exp(-high)))


class _Areas(NamedTuple):
    area: NDArray[np.float64]  # (K,)
    covariance: NDArray[np.float64]  # (K, K)
    pairs: int  # independent comparisons of a positive with a negative image


def _areas(target: NDArray[np.int64], probabilities: list[NDArray[np.float64]]) -> _Areas | None:
    """The areas of K models on the same images and their covariance."""
    from scipy.stats import rankdata

    scores = np.stack(probabilities)
    positive, negative = scores[:, target == 1], scores[:, target == 0]
    m, n = positive.shape[1], negative.shape[1]
    if not m or not n:
        return None
    together = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    # (K, m): the share of negative images below each positive one; (K, n): of positive ones above each negative one.
    above = (together[:, :m] - rankdata(positive, axis=1)) / n
    below = 1 - (together[:, m:] - rankdata(negative, axis=1)) / m
    covariance = np.zeros((len(scores), len(scores)))
    for shares, count in ((above, m), (below, n)):
        if count > 1:
            covariance += np.atleast_2d(np.cov(shares)) / count
    return _Areas(above.mean(axis=1), covariance, min(m, n))
