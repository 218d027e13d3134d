"""Intervals of figures that have no formula: in come targets and answers, out go BCa bootstrap intervals.

F1, precision, average precision, log loss and the Brier score, of one model or as the difference of two on the same
images. Efron (1987), "Better bootstrap confidence intervals"; drawn by scipy from a fixed seed, so that the same
answers have the same interval. Images are drawn anew within each class (the counts of both classes are taken as given,
as by DeLong), those of the two losses among all. Above PLENTY images of each class the correction (BC and a) is left
out: it shrinks with their number, and its cost grows with the square of it.

Where no draw differs from the others, as when every image was answered right, a bootstrap sees no uncertainty at all,
and from a handful of images it sees far too little. Then there is an interval by counts, as said at each figure, or
none: never one of width 0, never NaN.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.metrics.confidence_intervals import LEVEL, TINY, Difference, Interval, exact, tango, wilson
from twofold.metrics.curves import checked_arrays

RESAMPLES = 2000
FEWEST = 10  # images to draw from, of each class; draws from fewer lie far closer together than tests do
SEED = 20140901
PLENTY = 5000  # images of each class, above which the correction is smaller than the draws' own scatter, and slow
CELLS = 4_000_000  # of a matrix of draws held at once: 32 MB
LOSSES = ("log_loss", "brier")
METRICS = ("f1", "precision", "average_precision", *LOSSES)


class ModelOutputs(NamedTuple):
    """What one model said of the images: its probability of each, and the threshold at which it calls one positive."""

    probability: ArrayLike
    threshold: float


def bca_interval(figure: str, target: ArrayLike, answers: ModelOutputs, level: float = LEVEL) -> Interval | None:
    """The interval of a figure; None where the figure has no value or the images are too few to say anything.

    Where the draws say nothing: F1 by Wilson's interval of the share of hits among the images that are or are called
    positive, of which it is a function; precision by Wilson's; average precision by the exact interval over as many
    comparisons as the rarer class has images (see `delong`); the Brier score by Wilson's, as the mean of values in
    0..1; log loss, which has no bound, has none.
    """
    targets, probability = checked_arrays(target, answers.probability)
    value = _statistic(figure, targets, probability, answers.threshold)
    ends = _interval(figure, targets, [value], level)
    if ends is not None and ends.low < ends.high:
        return ends
    positive, called = targets == 1, probability >= answers.threshold
    hits = int((called & positive).sum())
    if figure == "f1":
        ends = wilson(hits, int((called | positive).sum()), level)
        return ends and Interval(_f1(ends.low), _f1(ends.high))
    if figure == "precision":
        return wilson(hits, int(called.sum()), level)
    if figure == "average_precision":
        pairs = int(min(positive.sum(), (~positive).sum()))
        return exact(_whole(value, len(targets)) * pairs, pairs, level)
    if figure == "brier":
        return wilson(float(np.square(probability - targets).sum()), len(targets), level)
    return None


def bca_difference(
    figure: str, target: ArrayLike, one: ModelOutputs, other: ModelOutputs, level: float = LEVEL
) -> Difference | None:
    """By how much the figure of one exceeds that of the other on the same images, each at its own threshold.

    None where a figure has no value or the images are too few to say anything. Where both answered every image alike:
    Tango's interval without a discordant image, over the images that the figure is about; for F1 carried over to it
    from the share of which it is a function; log loss, which has no bound, has none.
    """
    targets, first = checked_arrays(target, one.probability)
    second = checked_arrays(target, other.probability)[1]
    ours = _statistic(figure, targets, first, one.threshold)
    theirs = _statistic(figure, targets, second, other.threshold)
    whole = _whole(ours, len(targets))
    estimate = whole - _whole(theirs, len(targets))
    ends = _interval(figure, targets, [ours, theirs], level)
    if ends is None or not math.isfinite(estimate):
        return None
    if ends.low < ends.high:
        return Difference(estimate, ends.low, ends.high)
    if estimate != 0 or figure == "log_loss":
        return None
    positive, called = targets == 1, (first >= one.threshold) | (second >= other.threshold)
    about = {
        "f1": int((called | positive).sum()),
        "precision": int(called.sum()),
        "average_precision": int(min(positive.sum(), (~positive).sum())),
        "brier": len(targets),
    }[figure]
    spread = tango(0, 0, about, level)
    if spread is None or figure != "f1":
        return spread
    reach = whole - _f1(max(whole / (2 - whole) + spread.low, 0.0))
    return Difference(0.0, -reach, reach) if reach else None


Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]  # the images drawn (B, K) -> (B,)


def _statistic(figure: str, target: NDArray[np.int64], probability: NDArray[np.float64], threshold: float) -> Statistic:
    """The figure as a function of the images drawn, by their numbers; NaN where it has no value."""
    positive, called = (target == 1).astype(np.float64), (probability >= threshold).astype(np.float64)
    hit, either = positive * called, positive + called
    if figure == "f1":
        return lambda drawn: _divided(2 * hit[drawn].sum(-1), either[drawn].sum(-1))
    if figure == "precision":
        return lambda drawn: _divided(hit[drawn].sum(-1), called[drawn].sum(-1))
    if figure == "brier":
        square = np.square(probability - target)
        return lambda drawn: square[drawn].mean(-1)
    if figure == "log_loss":
        held = np.clip(probability, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
        loss = -np.log(np.where(target == 1, held, 1 - held))
        return lambda drawn: loss[drawn].mean(-1)
    if figure != "average_precision":
        raise ValueError(f"no bootstrap of {figure!r}; there is one of {', '.join(METRICS)}")
    n = len(target)
    order = np.argsort(-probability, kind="stable")
    place = np.argsort(order)
    ends = np.append(np.flatnonzero(np.diff(probability[order])), n - 1)  # the last image of each run of ties

    def average(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        cells = (place[drawn] + n * np.arange(len(drawn))[:, None]).ravel()
        counts = np.bincount(cells, minlength=len(drawn) * n).reshape(len(drawn), n)
        hits = np.cumsum(counts * target[order], axis=-1)[:, ends]
        total = np.cumsum(counts, axis=-1)[:, ends]
        gain = np.diff(hits, axis=-1, prepend=0)
        return _divided((gain * hits / np.maximum(total, 1)).sum(-1), hits[:, -1])

    return average


def _interval(figure: str, target: NDArray[np.int64], values: list[Statistic], level: float) -> Interval | None:
    """The BCa interval of a figure or, of two, of their difference.

    Of width 0 where every draw gave the same; None where a draw has no value, there are fewer than FEWEST images of a
    class, or the draws lie so that there is no BCa interval.
    """
    from scipy.stats import bootstrap

    n = len(target)
    # scipy draws rows of numbers: the images', by class.
    groups = [np.arange(n)] if figure in LOSSES else [np.flatnonzero(target == value) for value in (1, 0)]
    groups = [group for group in groups if len(group)]
    if any(len(group) < FEWEST for group in groups):
        return None

    def statistic(*drawn: NDArray[Any], axis: int) -> NDArray[np.float64]:
        rows = [np.atleast_2d(part).astype(np.int64) for part in drawn]
        count = max(len(part) for part in rows)
        numbers = np.concatenate([np.broadcast_to(part, (count, part.shape[-1])) for part in rows], axis=1)
        found = values[0](numbers) - (values[1](numbers) if len(values) > 1 else 0.0)
        return found if drawn[0].ndim > 1 else found[0]

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # scipy's words on a degenerate sample; it is told from the draws below
        found = bootstrap(
            groups,
            statistic,
            n_resamples=RESAMPLES,
            batch=max(1, min(RESAMPLES, CELLS // n)),
            vectorized=True,
            confidence_level=level,
            method="percentile" if min(map(len, groups)) > PLENTY else "BCa",
            rng=np.random.default_rng(SEED),
        )
    draws = found.bootstrap_distribution
    if not np.isfinite(draws).all():
        return None
    if np.ptp(draws) < TINY:
        return Interval(float(draws[0]), float(draws[0]))
    low, high = (float(end) for end in found.confidence_interval)
    return Interval(low, high) if low < high else None


def _whole(value: Statistic, n: int) -> float:
    """The figure of the images as they are."""
    return float(value(np.arange(n)[None, :])[0])


def _f1(share: float) -> float:
    """F1 from the share of hits among the images that are positive or called positive."""
    return 2 * share / (1 + share)


def _divided(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return result
