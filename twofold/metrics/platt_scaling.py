"""Platt scaling: fit two numbers on validation that calibrate a model's probabilities, and apply them.

    calibrated = sigmoid(slope * logit(probability) + intercept)

where `probability` is the mean over an image's test-time augmentation views (Platt 1999, "Probabilistic outputs for
support vector machines"). A slope above 1 makes the model more confident; with the intercept 0 it is the inverse of a
temperature (Guo et al. 2017, "On calibration of modern neural networks"). The intercept undoes what class weights, or
another share of positives, add to every logit, which no temperature can. The order of the images stays.

A sealed model carries a copy of this file.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST, MOST = 0.1, 10.0  # of a slope; at 0 or below, probabilities would lose or reverse their order
WHY = {
    LEAST: "the model's probabilities carry almost no information about the validation images",
    MOST: "the model's probabilities differ too little from each other",
}
DIGITS = 4  # of both numbers; further ones depend on the processor
_BISECTIONS = 40


class PlattScaling(NamedTuple):
    """The line from a model's logit to a calibrated one; the slope is above 0."""

    slope: float
    intercept: float

    def calibrate(self, probability: ArrayLike) -> NDArray[np.float64]:
        """Calibrate probabilities; slope 1 and intercept 0 keep every bit, and 0 and 1 always stay 0 and 1."""
        copied = np.array(probability, np.float64)
        return copied if self == (1, 0) else _sigmoid(self.slope * _logit(copied) + self.intercept)

    def inverse(self) -> "PlattScaling":
        """The scaling from calibrated probabilities to the model's own."""
        return PlattScaling(1 / self.slope, -self.intercept / self.slope)


def recorded_scaling(decision: Mapping[str, Any]) -> PlattScaling:
    """The scaling of a decision.json; earlier ones have a temperature, or no calibration at all."""
    if "platt_slope" in decision:
        return PlattScaling(float(decision["platt_slope"]), float(decision["platt_intercept"]))
    return PlattScaling(1 / float(decision.get("temperature", 1.0)), 0.0)


def fit_platt_scaling(target: ArrayLike, probability: ArrayLike) -> PlattScaling:
    """The slope, LEAST to MOST, and the intercept with the lowest log loss, rounded to DIGITS.

    The targets are Platt's: (P + 1) / (P + 2) for P positive images, 1 / (N + 2) for N negative ones, as if one more
    image of each class had either label. They bound the slope if a threshold separates the images, where more
    confidence would always be better, and differ little from 1 and 0 otherwise.

    The log loss is convex: bisection finds the best intercept of a slope, and along these the best slope, always in the
    same steps. Probabilities are clipped to 2^-52 from 0 and 1, as in the log loss. If all are equal, the slope is 1.

    Args:
        target: (N,) 0 or 1.
        probability: (N,) of the positive class, 0..1.
    """
    smallest = np.finfo(np.float64).eps
    logit = _logit(np.clip(np.asarray(probability, np.float64), smallest, 1 - smallest))
    positive = np.asarray(target) == 1
    aim = np.where(positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2))
    reach = MOST * float(np.abs(logit).max()) + float(np.log(len(logit) + 2))

    def intercept(slope: float) -> float:
        return _zero(lambda value: float((_sigmoid(slope * logit + value) - aim).sum()), -reach, reach)

    def derivative(slope: float) -> float:
        return float(((_sigmoid(slope * logit + intercept(slope)) - aim) * logit).sum())

    slope = 1.0 if np.ptp(logit) == 0 else round(_zero(derivative, LEAST, MOST), DIGITS)
    return PlattScaling(slope, round(intercept(slope), DIGITS) + 0.0)  # never -0.0


def _zero(rising: Callable[[float], float], low: float, high: float) -> float:
    """The zero of a rising function between two bounds; the nearer bound if it has none there."""
    if rising(low) >= 0:
        return low
    if rising(high) <= 0:
        return high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(probability) - np.log1p(-probability)


def _sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logit)), np.float64)
