"""The confidence interval of every metric, from targets and a model's outputs.

This module alone maps each metric to its method, for one model and for two models on the same images.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from twofold.metrics import calibration
from twofold.metrics.bootstrap import ModelOutputs, bca_difference, bca_interval
from twofold.metrics.confidence_intervals import LEVEL, Difference, Interval, delong, delong_difference, tango, wilson
from twofold.metrics.curves import checked_arrays


class Methods(NamedTuple):
    """The names of a metric's interval methods: for one model, and for the difference of two."""

    single: str
    paired: str


METHODS = {
    "accuracy": Methods("wilson", "tango"),
    "precision": Methods("wilson", "bca"),
    "recall": Methods("wilson", "tango"),
    "f1": Methods("bca", "bca"),
    "specificity": Methods("wilson", "tango"),
    "roc_auc": Methods("delong", "delong"),
    "average_precision": Methods("bca", "bca"),
    "log_loss": Methods("bca", "bca"),
    "brier": Methods("bca", "bca"),
    "ece": Methods(calibration.METHOD, calibration.PAIRED),
}


def metric_interval(metric: str, target: ArrayLike, outputs: ModelOutputs, level: float = LEVEL) -> Interval | None:
    """The two-sided interval of a metric, a key of METHODS; None if it has no value or there are too few images."""
    targets, probability = checked_arrays(target, outputs.probability)
    if metric == "roc_auc":
        return delong(targets, probability, level)
    if metric == "ece":
        return calibration.ece_interval(targets, probability, level)
    if METHODS[metric].single == "bca":
        return bca_interval(metric, targets, outputs, level)
    positive, called = targets == 1, probability >= outputs.threshold
    # Which images are hits, and which of them count.
    hit, counted = {
        "accuracy": (positive == called, np.ones_like(positive)),
        "precision": (positive, called),
        "recall": (called, positive),
        "specificity": (~called, ~positive),
    }[metric]
    return wilson(int((hit & counted).sum()), int(counted.sum()), level)


def metric_difference(
    metric: str, target: ArrayLike, one: ModelOutputs, other: ModelOutputs, level: float = LEVEL
) -> Difference | None:
    """The metric of `one` minus that of `other` on the same images, each at its own threshold; or None, as above."""
    targets, first = checked_arrays(target, one.probability)
    second = checked_arrays(target, other.probability)[1]
    if metric == "roc_auc":
        return delong_difference(targets, first, second, level)
    if metric == "ece":
        return calibration.ece_difference(targets, first, second, level)
    if METHODS[metric].paired == "bca":
        return bca_difference(metric, targets, one, other, level)
    positive = targets == 1
    counted = {"accuracy": np.ones_like(positive), "recall": positive, "specificity": ~positive}[metric]
    one_right, other_right = (first >= one.threshold) == positive, (second >= other.threshold) == positive
    one_only, other_only = one_right & ~other_right & counted, other_right & ~one_right & counted
    return tango(int(one_only.sum()), int(other_only.sum()), int(counted.sum()), level)


def metric_intervals(target: ArrayLike, probability: ArrayLike, threshold: float) -> dict[str, dict[str, Any]]:
    """The 95 % interval of every metric that has one: {metric: {"low": …, "high": …, "method": …}}."""
    outputs = ModelOutputs(probability, threshold)
    return {
        metric: {**interval._asdict(), "method": methods.single}
        for metric, methods in METHODS.items()
        if (interval := metric_interval(metric, target, outputs)) is not None
    }
