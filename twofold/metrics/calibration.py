"""Calibration: the points of a reliability diagram, and the expected calibration error (ECE) with its interval.

The images are put into BINS bins of equal width by their probability; each bin holds its lower edge, and the last one
both. The ECE is the distance between a bin's mean probability and its share of positive images, averaged over the
images. It uses the probability of the positive class, as Naeini et al. 2015 do for two classes ("Obtaining well
calibrated probabilities using Bayesian binning"), and not that of the likelier class: the probability is what is
served, and the threshold need not be 0.5.

A bootstrap interval of the ECE nearly always misses the true value of a well calibrated model: on few images the ECE
is above 0 by chance, and resampling adds that chance a second time. So the test is simulated under true shares of
positive images from the model's probabilities to the observed shares and beyond; the interval holds the ECEs of those
settings under which the measured ECE is not unusual. It holds 0 exactly if the measured ECE may be chance alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.metrics.confidence_intervals import LEVEL, ROUNDING, Interval
from twofold.metrics.curves import bin_numbers, checked_arrays

BINS = 15
METHOD, PAIRED = "test_inversion", "mover"  # of one model's interval, and of the difference of two
_SIMULATIONS = 1000  # of the test at each setting
_SEED = 20170806
_MAX_SETTING = 8.0  # 0: the true shares are the model's probabilities; 1: about the observed shares
_BISECTIONS = 16


class Reliability(NamedTuple):
    """One entry per bin that holds an image, from the lowest."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n: NDArray[np.int64]
    positive: NDArray[np.int64]  # images of the positive class
    probability: NDArray[np.float64]  # mean of the bin

    @property
    def share(self) -> NDArray[np.float64]:
        """Each bin's share of positive images."""
        return self.positive / self.n


def reliability_bins(target: ArrayLike, probability: ArrayLike) -> Reliability:
    """Count the images in each bin of probability.

    Raises:
        DataError: no image, or values that cannot be scored.
    """
    targets, probabilities = checked_arrays(target, probability)
    number = bin_numbers(probabilities, BINS)
    n = np.bincount(number, minlength=BINS)
    positive = np.bincount(number, weights=targets, minlength=BINS).astype(np.int64)
    total = np.bincount(number, weights=probabilities, minlength=BINS)
    edges = np.arange(BINS + 1) / BINS
    used = np.flatnonzero(n)
    return Reliability(edges[used], edges[used + 1], n[used], positive[used], total[used] / n[used])


def expected_calibration_error(target: ArrayLike, probability: ArrayLike) -> float:
    """The ECE, 0 (best) to 1; on few images chance keeps it above 0 even for a perfectly calibrated model."""
    bins = reliability_bins(target, probability)
    return float((bins.n * np.abs(bins.probability - bins.share)).sum() / bins.n.sum())


def ece_interval(target: ArrayLike, probability: ArrayLike, level: float = LEVEL, inflation: float = 1.0) -> Interval:
    """The interval of the ECE, which always holds the measured one; `inflation` is of the variance by groups."""
    bins = reliability_bins(target, probability)
    total, n = bins.probability * bins.n, int(bins.n.sum())
    measured = float(np.abs(total - bins.positive).sum() / n)
    effective = np.maximum(np.rint(bins.n / inflation), 1).astype(np.int64)  # images of each bin
    # Half an image is added to either class: a bin of three positive images does not prove a share of 1.
    half = 0.5 / (effective + 1)
    gap = bins.share + half * (1 - 2 * bins.share) - bins.probability
    # Nor does a bin without a gap prove that its true share is the probability.
    gap = np.where(np.abs(gap) < half, np.copysign(half, 0.5 - bins.probability), gap)

    def true_shares(setting: float) -> NDArray[np.float64]:
        return np.clip(bins.probability + setting * gap, 0, 1)

    def simulated_ece(setting: float, quantile: float) -> float:
        share = true_shares(setting)
        drawn = np.random.default_rng(_SEED).binomial(effective, share, (_SIMULATIONS, len(bins.n)))
        positive = bins.n * (drawn / effective)
        return float(np.quantile(np.abs(total - positive).sum(axis=1) / n, quantile))

    def true_ece(setting: float) -> float:
        return float(np.abs(total - bins.n * true_shares(setting)).sum() / n)

    tail = (1 - level) / 2
    # Simulations that equal the measured ECE are no evidence against a setting, at either end.
    low = _lowest_setting(lambda setting: simulated_ece(setting, 1 - tail) > measured - ROUNDING, 1.0)
    high = _lowest_setting(lambda setting: simulated_ece(setting, tail) > measured + ROUNDING, _MAX_SETTING)
    return Interval(min(true_ece(low), measured), max(true_ece(high), measured))


def _lowest_setting(holds: Callable[[float], bool], most: float) -> float:
    """The lowest setting in 0..most from which the condition holds; `most` if it never does."""
    if holds(0.0):
        return 0.0
    low, high = 0.0, most
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
