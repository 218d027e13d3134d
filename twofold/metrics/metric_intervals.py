"""The confidence interval of every metric, from targets and a model's outputs.

This module alone maps each metric to its method, for one model and for two models on the same images, and says with how
few images or groups a method does not hold. The limits on images are those at which the intervals that are given cover
what they say in `bench/studies/interval_coverage.py`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.metrics import calibration
from twofold.metrics.confidence_intervals import (
    LEVEL,
    ROUNDING,
    Difference,
    Interval,
    mover,
    quantile,
    rate_interval,
    tango,
)
from twofold.metrics.curves import checked_arrays
from twofold.metrics.design_effect import MIN_GROUPS, Groups, design_effect, sampling_units, student_inflation
from twofold.metrics.influence import Influence, ModelOutputs, hits_and_counted, influence
from twofold.metrics.roc_auc_interval import roc_auc_interval


class Methods(NamedTuple):
    """The names of a metric's interval methods: for one model, and for the difference of two."""

    single: str
    paired: str


METHODS = {
    "accuracy": Methods("wilson_or_exact", "tango"),
    "precision": Methods("wilson_or_exact", "mover"),
    "recall": Methods("wilson_or_exact", "tango"),
    "f1": Methods("wilson_or_exact", "mover"),
    "specificity": Methods("wilson_or_exact", "tango"),
    "roc_auc": Methods("score", "mover"),
    "average_precision": Methods("logit", "mover"),
    "log_loss": Methods("log", "mover"),
    "brier": Methods("log", "mover"),
    "ece": Methods(calibration.METHOD, calibration.PAIRED),
}
LOSSES = ("log_loss", "brier")
# Images of each class below which a method does not hold; the others hold with one image.
MIN_IMAGES = {"average_precision": 30, "log_loss": 100, "brier": 100}
MIN_PAIRED = {"f1": 10}  # images of the positive class, for the difference of two models
_CLASSES = {
    "recall": (1,),
    "specificity": (0,),
    "roc_auc": (0, 1),
    "average_precision": (1,),
    **dict.fromkeys(LOSSES, (0, 1)),
}
_NAMES = ("negative", "positive")


def why_no_interval(
    metric: str,
    target: ArrayLike,
    outputs: ModelOutputs,
    groups: Sequence[object] | None = None,
    *,
    paired: bool = False,
) -> str:
    """Why a metric, or its difference of two models (`paired`), has no interval here, in words; "" if it has one."""
    targets, probability = checked_arrays(target, outputs.probability)
    n, least = int(targets.sum()), MIN_PAIRED.get(metric, 0) if paired else 0
    if n < least:
        return f"{n} images of the positive class are too few to compare the {metric} of two models: it needs {least}"
    return _refusal(metric, targets, outputs.threshold, probability, _units(groups, targets))


def metric_interval(
    metric: str,
    target: ArrayLike,
    outputs: ModelOutputs,
    level: float = LEVEL,
    groups: Sequence[object] | None = None,
) -> Interval | None:
    """The two-sided interval of a metric; None if it has no value, or too few images or groups (`why_no_interval`).

    Args:
        metric: a key of METHODS.
        target: (N,) 0 or 1.
        outputs: of the model on the same images.
        level: share of intervals that hold the true value.
        groups: (N,) name of each image's group, the sampling unit; None for an image without one. Without `groups`,
            images are independent.
    """
    targets, probability = checked_arrays(target, outputs.probability)
    units = _units(groups, targets)
    if _refusal(metric, targets, outputs.threshold, probability, units):
        return None
    of = influence(metric, targets, outputs)
    return _interval(
        metric, targets, probability, of, _inflation(metric, targets, of.images, of.counted, units, level), level
    )


def metric_difference(
    metric: str,
    target: ArrayLike,
    one: ModelOutputs,
    other: ModelOutputs,
    level: float = LEVEL,
    groups: Sequence[object] | None = None,
) -> Difference | None:
    """The metric of `one` minus that of `other` on the same images, each at its own threshold; or None, as above."""
    targets, first = checked_arrays(target, one.probability)
    second = checked_arrays(target, other.probability)[1]
    units = _units(groups, targets)
    if any(why_no_interval(metric, targets, each, groups, paired=True) for each in (one, other)):
        return None
    of_one, of_other = influence(metric, targets, one), influence(metric, targets, other)
    own, others = (_inflation(metric, targets, of.images, of.counted, units, level) for of in (of_one, of_other))
    change, counted = of_one.images - of_other.images, of_one.counted | of_other.counted
    both = _inflation(metric, targets, change, counted, units, level) if units.clustered else 1.0
    if METHODS[metric].paired == "tango":
        right, other_right = (
            hits_and_counted(metric, targets == 1, probability >= threshold)[0]
            for threshold, probability in ((one.threshold, first), (other.threshold, second))
        )
        one_only, other_only = (
            (each & of_one.counted).sum() / both for each in (right & ~other_right, other_right & ~right)
        )
        return tango(one_only, other_only, of_one.counted.sum() / both, level)
    sums = [np.bincount(units.number, weights=of.images) for of in (of_one, of_other)]
    value, other_value = (_as_metric(metric, of.value) for of in (of_one, of_other))
    if metric not in LOSSES and np.abs(sums[0] - sums[1]).max() < ROUNDING and value == other_value:
        # Both models rank or call all images alike; few images do not prove that they always do.
        alike = tango(0, 0, 1 / (max(of_one.error, of_other.error) * both), level) or Difference(0.0, -1.0, 1.0)
        ends = (_as_metric(metric, min(max(of_one.value + bound, 0.0), 1.0)) for bound in alike[1:])
        reach = max(abs(end - value) for end in ends)
        return Difference(0.0, -reach, reach)
    of_first = _interval(metric, targets, first, of_one, own, level)
    of_second = _interval(metric, targets, second, of_other, others, level)
    # How the errors of two calibrations are correlated is not known; on the same images they are positively, so that 0
    # errs towards a wider interval.
    spread = 0.0 if metric == "ece" else math.sqrt(float(np.square(sums[0]).sum() * np.square(sums[1]).sum()))
    correlation = float((sums[0] * sums[1]).sum()) / spread if spread > ROUNDING**2 else 0.0
    return mover(value, of_first, other_value, of_second, correlation)


def metric_intervals(
    target: ArrayLike, probability: ArrayLike, threshold: float, groups: Sequence[object] | None = None
) -> dict[str, dict[str, Any]]:
    """The 95 % interval of every metric that has one: {metric: {"low": …, "high": …, "method": …}}."""
    outputs = ModelOutputs(probability, threshold)
    return {
        metric: {**interval._asdict(), "method": methods.single}
        for metric, methods in METHODS.items()
        if (interval := metric_interval(metric, target, outputs, groups=groups)) is not None
    }


def effective_images(target: ArrayLike, outputs: ModelOutputs, groups: Sequence[object]) -> tuple[int, float]:
    """The number of sampling units, and of the independent images that would tell as much about the accuracy."""
    targets = checked_arrays(target, outputs.probability)[0]
    units = sampling_units(groups)
    of = influence("accuracy", targets, outputs)
    return units.count(of.counted), len(targets) / design_effect(of.images, of.counted, units)


def _interval(
    metric: str,
    target: NDArray[np.int64],
    probability: NDArray[np.float64],
    of: Influence,
    inflation: float,
    level: float,
) -> Interval:
    """The interval of a metric whose variance is inflated by groups or by a small number of them."""
    positive = int(target.sum())
    variance = float(np.square(of.images).sum())
    if metric == "roc_auc":
        return roc_auc_interval(of.value, variance, positive, len(target) - positive, inflation, level)
    if metric == "ece":
        return calibration.ece_interval(target, probability, level, inflation)
    if metric in LOSSES:
        # The logarithm of a mean of losses is less skewed than the mean.
        reach = quantile(level) * math.sqrt(variance * inflation) / of.value
        return Interval(of.value * math.exp(-reach), of.value * math.exp(reach))
    if metric == "average_precision" and 1 - of.value > ROUNDING:
        # Boyd, Eng and Page (2013), "Area under the precision-recall curve: point estimates and confidence intervals":
        # the logit with the binomial variance of as many trials as positive images, or with its own if that is larger.
        uncertain = of.value * (1 - of.value)
        reach = quantile(level) * math.sqrt(max(variance, uncertain / positive) * inflation) / uncertain
        middle = math.log(of.value / (1 - of.value))
        return Interval(*(1 / (1 + math.exp(-min(max(middle + side * reach, -700), 700))) for side in (-1, 1)))
    n = positive if metric == "average_precision" else int(of.counted.sum())
    rate = rate_interval(round(of.value * n) / inflation, n / inflation, level) or Interval(0.0, 1.0)
    return Interval(*(_as_metric(metric, bound) for bound in rate))


def _inflation(
    metric: str,
    target: NDArray[np.int64],
    images: NDArray[np.float64],
    counted: NDArray[np.bool_],
    units: Groups,
    level: float,
) -> float:
    """By how much groups, and a small number of them, inflate the variance of a metric or of a difference."""
    effect = design_effect(images, counted, units)
    if not units.clustered and METHODS[metric].single not in ("score", "logit", "log"):
        return effect
    return effect * student_inflation(min(_unit_counts(metric, target, counted, units)), level)


def _unit_counts(metric: str, target: NDArray[np.int64], counted: NDArray[np.bool_], units: Groups) -> list[int]:
    """The number of sampling units of each class that a metric is about, or of all images that it counts."""
    classes = _CLASSES.get(metric, ())
    return [units.count(target == value) for value in classes] or [units.count(counted)]


def _refusal(
    metric: str, target: NDArray[np.int64], threshold: float, probability: NDArray[np.float64], units: Groups
) -> str:
    for value in _CLASSES.get(metric, ()):
        n, least = int((target == value).sum()), MIN_IMAGES.get(metric, 1)
        if n < least:
            return f"{n} images of the {_NAMES[value]} class are too few for an interval of {metric}: it needs {least}"
    if metric in LOSSES:
        images = influence(metric, target, ModelOutputs(probability, threshold)).images
        if np.abs(images).max() * len(target) < ROUNDING:
            return f"{metric} is the same on all images of a class, and how it varies cannot be told from them"
    counted = np.ones_like(target, dtype=bool)
    if metric in ("precision", "f1"):
        counted = hits_and_counted(metric, target == 1, probability >= threshold)[1]
        if not counted.any():
            return f"no image counts for {metric}: none was called positive at this threshold"
    n = min(_unit_counts(metric, target, counted, units))
    if units.clustered and n < MIN_GROUPS:
        return f"the images come from {n} groups, too few for an interval of {metric}: it needs {MIN_GROUPS}"
    return ""


def _as_metric(metric: str, value: float) -> float:
    """F1 from the share of hits among the images that are positive or called positive; other metrics as they are."""
    return 2 * value / (1 + value) if metric == "f1" else value


def _units(groups: Sequence[object] | None, target: NDArray[np.int64]) -> Groups:
    return Groups(np.arange(len(target)), False) if groups is None else sampling_units(groups)
