"""Calibration: the points of a reliability diagram, and the expected calibration error (ECE) with its interval.

The images are put into BINS bins of equal width by their probability; each bin holds its lower edge, and the last one
both. The ECE is the distance between a bin's mean probability and its share of positive images, averaged over the
images. It uses the probability of the positive class, as Naeini et al. 2015 do for two classes ("Obtaining well
calibrated probabilities using Bayesian binning"), and not that of the likelier class: the probability is what is
served, and the threshold need not be 0.5.

A bootstrap interval of the ECE nearly always misses the true value of a well calibrated model: on few images the ECE
is above 0 by chance, and resampling adds that chance a second time. So true shares of positive images are supposed,
from the model's probabilities to the observed shares and beyond, under which the gap of a bin is a normal variable. The
interval holds the ECEs of those settings under which the measured ECE is not unusual; it holds 0 exactly if the
measured ECE may be chance alone.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.metrics.confidence_intervals import LEVEL, Interval, quantile
from twofold.metrics.curves import bin_numbers, checked_arrays

BINS = 15
METHOD, PAIRED = "binned_score", "mover"  # of one model's interval, and of the difference of two
# 0: the true shares are the model's probabilities; 1: about the observed shares. The steps are smaller near 0.
_SETTINGS = 8 * np.linspace(0, 1, 401) ** 2
_ROUNDING = 1e-4  # of a deviation


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
    weight, effective = bins.n / bins.n.sum(), bins.n / inflation
    measured = float((weight * np.abs(bins.share - bins.probability)).sum())
    # An image of either class is added (Laplace): a bin of three positive images does not prove a share of 1.
    share = (bins.share * effective + 1) / (effective + 2)
    gap, error = share - bins.probability, np.sqrt(share * (1 - share) / effective)
    # Nor does a bin without a gap prove that its true share is the probability.
    gap = np.where(np.abs(gap) < error, np.copysign(error, gap), gap)
    true = np.clip(bins.probability + _SETTINGS[:, None] * gap, 0, 1)  # a row for each setting
    deviation = np.sqrt(true * (1 - true) / effective) + _ROUNDING
    mean, variance = _folded_normal(true - bins.probability, deviation)
    usual, reach = mean @ weight, quantile(level) * np.sqrt(variance @ weight**2)
    # Not rejected with half an image more or less, as in a correction for continuity; and the neighbours of those, so
    # that the steps between settings do not narrow the interval.
    slack = inflation / (2 * bins.n.sum()) + _ROUNDING
    first = max(int(np.argmax(usual + reach >= measured - slack)) - 1, 0)
    last = len(true) - max(int(np.argmax((usual - reach <= measured + slack)[::-1])), 1)
    low, high = np.abs(true[[first, last]] - bins.probability) @ weight
    return Interval(min(float(low), measured), max(float(high), measured))


def _folded_normal(
    mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean and the variance of the absolute value of normal variables."""
    from scipy.special import erf

    ratio = mean / deviation
    density = math.sqrt(2 / math.pi) * np.exp(-np.square(ratio) / 2)
    folded = deviation * density + mean * erf(ratio / math.sqrt(2))
    return folded, np.square(mean) + np.square(deviation) - np.square(folded)
