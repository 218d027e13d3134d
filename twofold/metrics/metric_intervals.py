"""The interval of every figure: in come a test's targets and a model's answers, out go the ends by the figure's method.

The one place that says which method belongs to which figure, for a single model and for two on the same images.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from twofold.metrics import calibration
from twofold.metrics.bootstrap import ModelOutputs, bca_difference, bca_interval
from twofold.metrics.confidence_intervals import LEVEL, Difference, Interval, delong, delong_difference, tango, wilson
from twofold.metrics.curves import checked_arrays


class Methods(NamedTuple):
    """The names of a figure's methods: for one model, and for the difference of two."""

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


def metric_interval(figure: str, target: ArrayLike, answers: ModelOutputs, level: float = LEVEL) -> Interval | None:
    """A figure's interval; None where it has no value or the images are too few to say anything.

    Args:
        figure: a key of METHODS.
        target: (N,) 0 or 1.
        answers: probabilities (N,) and the threshold.
        level: of the two-sided interval.
    """
    targets, probability = checked_arrays(target, answers.probability)
    if figure == "roc_auc":
        return delong(targets, probability, level)
    if figure == "ece":
        return calibration.ece_interval(targets, probability, level)
    if METHODS[figure].single == "bca":
        return bca_interval(figure, targets, answers, level)
    positive, called = targets == 1, probability >= answers.threshold
    right = positive == called
    # (whether it is a hit, whether it counts) of each image.
    hit, of = {
        "accuracy": (right, np.ones_like(positive)),
        "precision": (positive, called),
        "recall": (called, positive),
        "specificity": (~called, ~positive),
    }[figure]
    return wilson(int((hit & of).sum()), int(of.sum()), level)


def metric_difference(
    figure: str, target: ArrayLike, one: ModelOutputs, other: ModelOutputs, level: float = LEVEL
) -> Difference | None:
    """By how much the figure of one exceeds that of the other on the same images, each at its own threshold.

    None where a figure has no value or the images are too few to say anything. Arguments as of `interval`.
    """
    targets, first = checked_arrays(target, one.probability)
    second = checked_arrays(target, other.probability)[1]
    if figure == "roc_auc":
        return delong_difference(targets, first, second, level)
    if figure == "ece":
        return calibration.ece_difference(targets, first, second, level)
    if METHODS[figure].paired == "bca":
        return bca_difference(figure, targets, one, other, level)
    positive = targets == 1
    of = {"accuracy": np.ones_like(positive), "recall": positive, "specificity": ~positive}[figure]
    ours, theirs = ((answers >= line) == positive for answers, line in ((first, one.threshold), (second, other[1])))
    return tango(int((ours & ~theirs & of).sum()), int((theirs & ~ours & of).sum()), int(of.sum()), level)


def metric_intervals(target: ArrayLike, probability: ArrayLike, threshold: float) -> dict[str, dict[str, Any]]:
    """The 95 % interval of every figure that has one: {figure: {"low": …, "high": …, "method": …}}."""
    found = {figure: metric_interval(figure, target, ModelOutputs(probability, threshold)) for figure in METHODS}
    return {
        figure: {**ends._asdict(), "method": METHODS[figure].single}
        for figure, ends in found.items()
        if ends is not None
    }
