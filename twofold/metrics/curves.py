"""The points of ROC and precision-recall curves and of a histogram, from targets (0 or 1) and probabilities.

An image is called positive if its probability is at or above the threshold, here and everywhere else. Every number
that this module returns is finite.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.core.errors import DataError

MAX_POINTS = 1000  # of a curve; more cannot be distinguished in a chart


class Sweep(NamedTuple):
    """The number of positive and of negative images at or above each distinct probability, from the highest down."""

    probability: NDArray[np.float64]  # (K,) strictly falling
    true_positive: NDArray[np.int64]  # (K,) rising
    false_positive: NDArray[np.int64]  # (K,) rising


class Curve(NamedTuple):
    """A curve's points by falling threshold; x and y in 0..1."""

    x: NDArray[np.float64]  # (K,)
    y: NDArray[np.float64]  # (K,)
    threshold: NDArray[np.float64]  # (K,) finite


class Histogram(NamedTuple):
    """Images per bin of probability: [low, high), the last one closed."""

    low: NDArray[np.float64]  # (B,)
    high: NDArray[np.float64]  # (B,)
    negative: NDArray[np.int64]  # (B,)
    positive: NDArray[np.int64]  # (B,)


def checked_arrays(target: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Targets and probabilities as arrays of one length, checked for scoring.

    Raises:
        DataError: no image, different lengths, a target other than 0 and 1, a probability outside 0..1 or NaN.
    """
    targets, probabilities = np.asarray(target), np.asarray(probability, dtype=np.float64)
    if targets.ndim != 1 or targets.shape != probabilities.shape or not len(targets):
        raise DataError(
            f"targets {targets.shape} and probabilities {probabilities.shape}: must be two lists of one length, >= 1"
        )
    if unknown := sorted({value.item() for value in targets[(targets != 0) & (targets != 1)]}):
        raise DataError(f"targets: found {unknown[:5]}; allowed are 0 (negative) and 1 (positive)")
    invalid = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)))
    if len(invalid):
        raise DataError(
            f"probabilities: {len(invalid)} of {len(probabilities)} lie outside 0..1, the first is "
            f"{probabilities[invalid[0]]} at position {invalid[0]}; a model that predicts this cannot be scored"
        )
    return targets.astype(np.int64), probabilities


def threshold_sweep(target: ArrayLike, probability: ArrayLike) -> Sweep:
    """Count positives and negatives at or above every distinct probability."""
    targets, probabilities = checked_arrays(target, probability)
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    true_positive = np.cumsum(targets[order])[last_of_tie]
    return Sweep(ranked[last_of_tie], true_positive, last_of_tie + 1 - true_positive)


def roc_curve(target: ArrayLike, probability: ArrayLike) -> Curve:
    """False-positive rate (x) against true-positive rate (y), from (0, 0) to (1, 1), without points on a straight line.

    The threshold of (0, 0) is the smallest number above the highest probability.

    Raises:
        DataError: a class is missing.
    """
    counts = threshold_sweep(target, probability)
    positives, negatives = counts.true_positive[-1], counts.false_positive[-1]
    if not positives or not negatives:
        raise DataError(f"ROC curve: needs both classes, found {positives} positive and {negatives} negative images")
    hits = np.concatenate([[0], counts.true_positive])
    alarms = np.concatenate([[0], counts.false_positive])
    threshold = np.concatenate([[np.nextafter(counts.probability[0], 2.0)], counts.probability])
    bends = np.diff(alarms[:-1]) * np.diff(hits[1:]) != np.diff(alarms[1:]) * np.diff(hits[:-1])
    kept = _thin(np.flatnonzero(np.concatenate([[True], bends, [True]])))
    return Curve(alarms[kept] / negatives, hits[kept] / positives, threshold[kept])


def precision_recall_curve(target: ArrayLike, probability: ArrayLike) -> Curve:
    """Recall (x) against precision (y), from the highest probability down; no point at recall 0 is invented.

    Raises:
        DataError: there is no positive image.
    """
    counts = threshold_sweep(target, probability)
    if not counts.true_positive[-1]:
        raise DataError("precision-recall curve: needs at least one positive image, found none")
    recall = counts.true_positive / counts.true_positive[-1]
    precision = counts.true_positive / (counts.true_positive + counts.false_positive)
    kept = _thin(np.arange(len(recall)))
    return Curve(recall[kept], precision[kept], counts.probability[kept])


def score_histogram(target: ArrayLike, probability: ArrayLike, bins: int = 20) -> Histogram:
    """Images of each class in `bins` bins of probability of equal width."""
    targets, probabilities = checked_arrays(target, probability)
    edges = np.arange(bins + 1) / bins
    number = bin_numbers(probabilities, bins)
    negative, positive = (np.bincount(number[targets == value], minlength=bins) for value in (0, 1))
    return Histogram(edges[:-1], edges[1:], negative, positive)


def bin_numbers(probability: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The bin of each probability, 0 to `bins` - 1."""
    return np.clip(np.searchsorted(np.arange(bins + 1) / bins, probability, side="right") - 1, 0, bins - 1)


def _thin(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most MAX_POINTS of the points, evenly spaced, with the first and the last."""
    if len(points) <= MAX_POINTS:
        return points
    return points[np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(np.int64)]
