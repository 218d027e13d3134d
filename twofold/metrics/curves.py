"""The points of curves: in come targets (0 or 1) and probabilities, out go ROC, precision-recall and a histogram.

An image is called positive when its probability is at or above the threshold, here and everywhere else. Every number
that leaves this module is finite.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.core.errors import DataError

MOST_POINTS = 1000  # of a curve that is kept; more cannot be told apart in a picture


class Sweep(NamedTuple):
    """Counts at every threshold that matters: one entry a distinct probability, from the highest to the lowest.

    Entry i holds the images with a probability of `probability[i]` or more: so many positive, so many negative.
    """

    probability: NDArray[np.float64]  # (K,) strictly falling
    true_positive: NDArray[np.int64]  # (K,) rising
    false_positive: NDArray[np.int64]  # (K,) rising


class Curve(NamedTuple):
    """A curve's points in order of falling threshold; x and y in 0..1."""

    x: NDArray[np.float64]  # (K,)
    y: NDArray[np.float64]  # (K,)
    threshold: NDArray[np.float64]  # (K,) finite


class Histogram(NamedTuple):
    """Images per interval of probability: [low, high), the last one closed."""

    low: NDArray[np.float64]  # (B,)
    high: NDArray[np.float64]  # (B,)
    negative: NDArray[np.int64]  # (B,)
    positive: NDArray[np.int64]  # (B,)


def checked_arrays(target: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The same as arrays of one length, known to be fit for scoring.

    Raises:
        DataError: no image, different lengths, a target other than 0 and 1, a probability outside 0..1 or NaN.
    """
    targets, probabilities = np.asarray(target), np.asarray(probability, dtype=np.float64)
    if targets.ndim != 1 or targets.shape != probabilities.shape or not len(targets):
        raise DataError(
            f"targets {targets.shape} and probabilities {probabilities.shape}: must be two lists of one length, >= 1"
        )
    strange = sorted({value.item() for value in targets if value not in (0, 1)})
    if strange:
        raise DataError(f"targets: found {strange[:5]}; allowed are 0 (negative) and 1 (positive)")
    wrong = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"probabilities: {len(wrong)} of {len(probabilities)} lie outside 0..1, the first is "
            f"{probabilities[first]} at position {first}; a model that predicts this cannot be scored"
        )
    return targets.astype(np.int64), probabilities


def threshold_sweep(target: ArrayLike, probability: ArrayLike) -> Sweep:
    """Count positives and negatives at or above every distinct probability; equal ones are taken together."""
    targets, probabilities = checked_arrays(target, probability)
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # the last image of each run of ties
    true_positive = np.cumsum(targets[order])[last]
    return Sweep(ranked[last], true_positive, last + 1 - true_positive)


def roc_curve(target: ArrayLike, probability: ArrayLike) -> Curve:
    """False-positive rate (x) against true-positive rate (y), from (0, 0) to (1, 1), without points on a straight line.

    The threshold of (0, 0) is the smallest number above the highest probability.

    Raises:
        DataError: only one class, for which there is no such curve.
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
    """Recall (x) against precision (y), from the strictest threshold that calls an image positive to the loosest.

    No point is made up at recall 0, where precision has no value.

    Raises:
        DataError: no positive image, for which there is no such curve.
    """
    counts = threshold_sweep(target, probability)
    if not counts.true_positive[-1]:
        raise DataError("precision-recall curve: needs at least one positive image, found none")
    recall = counts.true_positive / counts.true_positive[-1]
    precision = counts.true_positive / (counts.true_positive + counts.false_positive)
    kept = _thin(np.arange(len(recall)))
    return Curve(recall[kept], precision[kept], counts.probability[kept])


def score_histogram(target: ArrayLike, probability: ArrayLike, bins: int = 20) -> Histogram:
    """Images of each class in `bins` equally wide intervals of probability."""
    targets, probabilities = checked_arrays(target, probability)
    edges = np.arange(bins + 1) / bins
    place = np.clip(np.searchsorted(edges, probabilities, side="right") - 1, 0, bins - 1)
    negative, positive = (np.bincount(place[targets == value], minlength=bins) for value in (0, 1))
    return Histogram(edges[:-1], edges[1:], negative, positive)


def _thin(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most MOST_POINTS of them, evenly spaced, with the first and the last."""
    if len(points) <= MOST_POINTS:
        return points
    return points[np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(np.int64)]
