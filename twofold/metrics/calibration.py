"""How far probabilities can be taken at their word: in come targets and probabilities, out go the points of a
reliability diagram and the error in one number.

Of all images that were given about 0.7, seven in ten should be positive. The images are put into BINS equally wide
intervals of probability (each holds its lower end, the last one both); in each, the mean probability is held against
the share of positive images. The expected calibration error (ECE) is the distance between the two, averaged over the
images. It is measured on the probability of the positive class, as Naeini et al. 2015 do for two classes ("Obtaining
well calibrated probabilities using Bayesian binning"), and not on the certainty of the likelier class: the
probability is what is served, and the threshold need not be a half.

The interval. On few images the ECE of the best of models is above 0, since chance decides how many of a bin's images
are positive; a bootstrap adds that chance a second time, and its intervals miss the true value of a well calibrated
model nearly always. So the question is turned round: the bins' true shares are set anywhere between what the model
says and what was seen, and beyond, and the test is simulated; the interval holds the ECEs of those settings under
which what was measured is not unusual. 0 is in it exactly where the measured ECE is no more than chance.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.metrics.confidence_intervals import LEVEL, Difference, Interval
from twofold.metrics.curves import checked_arrays

BINS = 15
METHOD, PAIRED = "simulation", "mover"  # of one model's interval, and of the difference of two
_TESTS = 1000  # simulated at each setting
_SEED = 20170806
_BEYOND = 8.0  # times as far from the model's word as what was seen
_HALVINGS = 16


class Reliability(NamedTuple):
    """One entry a bin that holds an image, from the lowest."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n: NDArray[np.int64]
    positive: NDArray[np.int64]  # images of the positive class
    probability: NDArray[np.float64]  # the mean of what the model said

    @property
    def share(self) -> NDArray[np.float64]:
        """Of the bin's images, the share that is positive."""
        return self.positive / self.n


def reliability_bins(target: ArrayLike, probability: ArrayLike) -> Reliability:
    """The images by what the model said of them.

    Raises:
        DataError: no image, or values that cannot be scored.
    """
    targets, probabilities = checked_arrays(target, probability)
    place = bin_numbers(probabilities)
    n = np.bincount(place, minlength=BINS)
    positive = np.bincount(place, weights=targets, minlength=BINS).astype(np.int64)
    total = np.bincount(place, weights=probabilities, minlength=BINS)
    edges = np.arange(BINS + 1) / BINS
    some = np.flatnonzero(n)
    return Reliability(edges[some], edges[some + 1], n[some], positive[some], total[some] / n[some])


def expected_calibration_error(target: ArrayLike, probability: ArrayLike) -> float:
    """Expected calibration error, 0 (best) to 1.

    On few images it is above 0 for the best of models, since the share of positive ones in a bin is left to chance.
    """
    found = reliability_bins(target, probability)
    return float((found.n * np.abs(found.probability - found.share)).sum() / found.n.sum())


def ece_interval(target: ArrayLike, probability: ArrayLike, level: float = LEVEL) -> Interval:
    """The interval of the ECE; it holds the measured one.

    Args:
        target: (N,) 0 or 1.
        probability: (N,) of the positive class.
        level: share of such intervals that hold the true value.
    """
    found = reliability_bins(target, probability)
    total, n = found.probability * found.n, int(found.n.sum())
    measured = float(np.abs(total - found.positive).sum() / n)
    # Half an image is added to either side: a bin of three positive images does not prove a share of 1.
    seen = (found.positive + 0.5) / (found.n + 1)

    def shares(setting: float) -> NDArray[np.float64]:
        """The bins' true shares: what the model says at 0, about what was seen at 1."""
        return np.clip(found.probability + setting * (seen - found.probability), 0, 1)

    def measured_at(setting: float, quantile: float) -> float:
        draws = np.random.default_rng(_SEED).binomial(found.n, shares(setting), (_TESTS, len(found.n)))
        return float(np.quantile(np.abs(total - draws).sum(axis=1) / n, quantile))

    def true_at(setting: float) -> float:
        return float(np.abs(total - found.n * shares(setting)).sum() / n)

    tail = (1 - level) / 2
    low = _first(lambda setting: measured_at(setting, 1 - tail) >= measured, 1.0)
    high = _first(lambda setting: measured_at(setting, tail) >= measured, _BEYOND)
    return Interval(min(true_at(low), measured), max(true_at(high), measured))


def ece_difference(target: ArrayLike, one: ArrayLike, other: ArrayLike, level: float = LEVEL) -> Difference:
    """By how much the ECE of one exceeds that of the other on the same images.

    Put together from the two intervals (Zou and Donner 2008, "Construction of confidence limits about effect measures",
    the method of variance estimates recovery). It takes the two errors to be independent; on the same images they go
    together, and the interval is rather too wide than too narrow.
    """
    first, second = expected_calibration_error(target, one), expected_calibration_error(target, other)
    ours, theirs = ece_interval(target, one, level), ece_interval(target, other, level)
    estimate = first - second
    low = estimate - math.hypot(first - ours.low, theirs.high - second)
    high = estimate + math.hypot(ours.high - first, second - theirs.low)
    return Difference(estimate, max(low, -1.0), min(high, 1.0))


def _first(reached: Callable[[float], bool], most: float) -> float:
    """The lowest setting in 0..most that is reached, if the ones above it are too; `most` if none is."""
    if reached(0.0):
        return 0.0
    low, high = 0.0, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def bin_numbers(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each probability, 0 to BINS - 1."""
    edges = np.arange(BINS + 1) / BINS
    return np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, BINS - 1)
