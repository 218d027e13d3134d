"""BCa bootstrap intervals of F1, precision, average precision, log loss and the Brier score.

Takes targets and one model's outputs, or two models' outputs on the same images, and returns the interval of the metric
or of its difference. Efron (1987), "Better bootstrap confidence intervals", computed by scipy from a fixed seed: the
same outputs always have the same interval. Images are resampled within each class, because the class counts are taken
as given (as in DeLong's method); for log loss and the Brier score, from all images.

If every resample gives the same value, for example because all images were classified correctly, the bootstrap shows
no uncertainty. The interval is then computed from counts, as each function describes, or it is None; it never has
width 0 and never holds NaN.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.metrics.classification import log_losses
from twofold.metrics.confidence_intervals import LEVEL, ROUNDING, Difference, Interval, clopper_pearson, tango, wilson
from twofold.metrics.curves import checked_arrays

RESAMPLES = 2000
MIN_IMAGES = 10  # of each class; resamples of fewer images vary far less than test sets do
SEED = 20140901
# Images of each class above which the correction (BC and a) is left out: its effect is below the resampling noise, and
# its cost grows with the square of their number.
MAX_CORRECTED = 5000
MAX_CELLS = 4_000_000  # of a matrix of resamples in memory: 32 MB
LOSSES = ("log_loss", "brier")
METRICS = ("f1", "precision", "average_precision", *LOSSES)

Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]  # indices of resampled images (B, K) -> values (B,)


class ModelOutputs(NamedTuple):
    """A model's probability of the positive class for each image, and its decision threshold."""

    probability: ArrayLike
    threshold: float


def bca_interval(metric: str, target: ArrayLike, outputs: ModelOutputs, level: float = LEVEL) -> Interval | None:
    """The interval of a metric; None if the metric has no value or there are too few images.

    Without a bootstrap interval or with width 0: F1 from Wilson's interval of the share of hits among the images
    that are positive or called positive, of which F1 is a function; precision by Wilson's interval; average precision
    by the exact interval over as many comparisons as the rarer class has images (see `delong`); the Brier score by
    Wilson's interval, as a mean of values in 0..1; log loss is unbounded and has no interval.
    """
    targets, probability = checked_arrays(target, outputs.probability)
    statistic = _statistic(metric, targets, probability, outputs.threshold)
    interval = _bootstrap_interval(metric, targets, statistic, level)
    if interval is not None and interval.low < interval.high:
        return interval
    if metric == "log_loss":
        return None
    positive, called = targets == 1, probability >= outputs.threshold
    n = _sample_size(metric, positive, called)
    if metric == "average_precision":
        return clopper_pearson(_observed(statistic, len(targets)) * n, n, level)
    if metric == "brier":
        return wilson(float(np.square(probability - targets).sum()), n, level)
    interval = wilson(int((called & positive).sum()), n, level)
    return interval and Interval(*map(_f1_of_share, interval)) if metric == "f1" else interval


def bca_difference(
    metric: str, target: ArrayLike, one: ModelOutputs, other: ModelOutputs, level: float = LEVEL
) -> Difference | None:
    """The metric of `one` minus that of `other` on the same images, each at its own threshold.

    None if a metric has no value or there are too few images. If all resamples agree on a difference of 0: Tango's
    interval without a discordant image, over the images that the metric counts, converted for F1 from the share of
    which F1 is a function; log loss is unbounded and has no interval.
    """
    targets, first = checked_arrays(target, one.probability)
    second = checked_arrays(target, other.probability)[1]
    statistic_one = _statistic(metric, targets, first, one.threshold)
    statistic_other = _statistic(metric, targets, second, other.threshold)
    value = _observed(statistic_one, len(targets))
    estimate = value - _observed(statistic_other, len(targets))
    interval = _bootstrap_interval(metric, targets, lambda rows: statistic_one(rows) - statistic_other(rows), level)
    if interval is None or not math.isfinite(estimate):
        return None
    if interval.low < interval.high:
        return Difference(estimate, interval.low, interval.high)
    if estimate != 0 or metric == "log_loss":
        return None
    called = (first >= one.threshold) | (second >= other.threshold)
    difference = tango(0, 0, _sample_size(metric, targets == 1, called), level)
    if difference is None or metric != "f1":
        return difference
    reach = value - _f1_of_share(max(value / (2 - value) + difference.low, 0.0))
    return Difference(0.0, -reach, reach) if reach else None


def _statistic(metric: str, target: NDArray[np.int64], probability: NDArray[np.float64], threshold: float) -> Statistic:
    """The metric as a function of resampled images; NaN where it has no value."""
    positive, called = (target == 1).astype(np.float64), (probability >= threshold).astype(np.float64)
    hit, either = positive * called, positive + called
    if metric == "f1":
        return lambda rows: _divide(2 * hit[rows].sum(-1), either[rows].sum(-1))
    if metric == "precision":
        return lambda rows: _divide(hit[rows].sum(-1), called[rows].sum(-1))
    if metric in LOSSES:
        loss = np.square(probability - target) if metric == "brier" else log_losses(target, probability)
        return lambda rows: loss[rows].mean(-1)
    if metric != "average_precision":
        raise ValueError(f"metric: found {metric!r}, allowed for a bootstrap are {', '.join(METRICS)}")
    n = len(target)
    order = np.argsort(-probability, kind="stable")
    rank = np.argsort(order)
    last_of_tie = np.append(np.flatnonzero(np.diff(probability[order])), n - 1)

    def average_precision(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        cells = (rank[rows] + n * np.arange(len(rows))[:, None]).ravel()
        counts = np.bincount(cells, minlength=len(rows) * n).reshape(len(rows), n)
        hits = np.cumsum(counts * target[order], axis=-1)[:, last_of_tie]
        total = np.cumsum(counts, axis=-1)[:, last_of_tie]
        gain = np.diff(hits, axis=-1, prepend=0)
        return _divide((gain * hits / np.maximum(total, 1)).sum(-1), hits[:, -1])

    return average_precision


def _bootstrap_interval(metric: str, target: NDArray[np.int64], statistic: Statistic, level: float) -> Interval | None:
    """The BCa interval of a statistic, of width 0 if every resample gave the same value.

    None if a resample has no value, a class has fewer than MIN_IMAGES images, or the resamples allow no BCa interval.
    """
    from scipy.stats import bootstrap

    n = len(target)
    groups = [np.arange(n)] if metric in LOSSES else [np.flatnonzero(target == value) for value in (1, 0)]
    groups = [group for group in groups if len(group)]
    if any(len(group) < MIN_IMAGES for group in groups):
        return None

    def of_groups(*samples: NDArray[Any], axis: int) -> NDArray[np.float64]:
        parts = [np.atleast_2d(sample).astype(np.int64) for sample in samples]
        count = max(len(part) for part in parts)
        rows = np.concatenate([np.broadcast_to(part, (count, part.shape[-1])) for part in parts], axis=1)
        values = statistic(rows)
        return values if samples[0].ndim > 1 else values[0]

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # scipy warns of degenerate samples, which are handled below
        result = bootstrap(
            groups,
            of_groups,
            n_resamples=RESAMPLES,
            batch=max(1, min(RESAMPLES, MAX_CELLS // n)),
            vectorized=True,
            confidence_level=level,
            method="percentile" if min(map(len, groups)) > MAX_CORRECTED else "BCa",
            rng=np.random.default_rng(SEED),
        )
    resampled = result.bootstrap_distribution
    if not np.isfinite(resampled).all():
        return None
    if np.ptp(resampled) < ROUNDING:
        return Interval(float(resampled[0]), float(resampled[0]))
    low, high = map(float, result.confidence_interval)
    return Interval(low, high) if low < high else None


def _observed(statistic: Statistic, n: int) -> float:
    """The metric of the n images without resampling."""
    return float(statistic(np.arange(n)[None, :])[0])


def _sample_size(metric: str, positive: NDArray[np.bool_], called: NDArray[np.bool_]) -> int:
    """How many images, or independent comparisons of two images, a metric counts."""
    if metric == "average_precision":
        return int(min(positive.sum(), (~positive).sum()))
    return len(positive) if metric == "brier" else int((called | positive if metric == "f1" else called).sum())


def _f1_of_share(share: float) -> float:
    """F1 from the share of hits among the images that are positive or called positive."""
    return 2 * share / (1 + share)


def _divide(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """The quotients; NaN where `whole` is 0."""
    result: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return result
