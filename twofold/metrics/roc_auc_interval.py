"""The confidence interval of the area under the ROC curve, which also holds for rare classes and areas near 1.

Wald's interval around the area by DeLong's variance is too narrow and too high near 1, where the variance itself is
estimated as almost 0. The score interval asks of every true area whether the observed one is usual under it, with the
variance that Hanley and McNeil (1982) derive for that true area. Newcombe (2006), "Confidence intervals for an effect
size measure based on the Mann-Whitney statistic, part 2", Statistics in Medicine 25, found this the best of eight.

Hanley and McNeil's variance is too small if one class varies more than the other. So it is multiplied by the ratio of
DeLong's variance to it where that is above 1, and Student's t takes the place of the normal distribution, with the
images of the rarer class less one as degrees of freedom. `bench/studies/interval_coverage.py` measures its coverage.
"""

import math

from twofold.metrics.confidence_intervals import Interval, clopper_pearson, quantile

_TINY = 1e-12


def hanley_mcneil(area: float, positive: int, negative: int) -> float:
    """The variance of the area of `positive` and `negative` images under a true area, for exponential scores."""
    # Their formula, rearranged: differences of nearly equal terms would round to a negative variance near 0 and 1.
    shared = 1 + (positive - 1) * (1 - area) / (2 - area) + (negative - 1) * area / (1 + area)
    return area * (1 - area) * shared / (positive * negative)


def roc_auc_interval(
    area: float, variance: float, positive: int, negative: int, inflation: float, level: float
) -> Interval:
    """The score interval of an area; with one image of a class, the exact one of a single comparison.

    Args:
        area, variance: the area, and its variance by DeLong's method.
        positive, negative: numbers of images, at least 1.
        inflation: of the variance by groups and by Student's t.
        level: two-sided.
    """
    from scipy.optimize import brentq

    if min(positive, negative) < 2:
        return clopper_pearson(area, 1, level) or Interval(0.0, 1.0)
    expected = hanley_mcneil(area, positive, negative)
    factor = inflation * max(1.0, variance / expected if expected > _TINY else 1.0)
    z = quantile(level)

    def excess(true: float) -> float:
        """How far the area is from a true one, beyond what is usual."""
        return abs(area - true) - z * math.sqrt(factor * hanley_mcneil(true, positive, negative))

    low = brentq(excess, 0.0, area - _TINY, xtol=_TINY) if area > _TINY else 0.0
    high = brentq(excess, area + _TINY, 1.0, xtol=_TINY) if area < 1 - _TINY else 1.0
    return Interval(float(low), float(high))
