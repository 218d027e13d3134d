"""Simulated models for the studies of intervals and gates: draws of their answers, and their true metrics.

The score of an image is normal: mean 0 and standard deviation 1 in the negative class, mean `separation` and standard
deviation `ratio` in the positive one (binormal). Its probability is the logistic function of the score less half the
separation, so that the threshold 0.5 lies halfway between the classes. With `step`, scores are rounded down to its
multiples, so that many are tied. Models share the part `correlation` of the variance within a class; images of a group,
all of one class, share the part `icc` of the variance of each part.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from twofold.metrics.calibration import BINS
from twofold.metrics.curves import bin_numbers

THRESHOLD = 0.5
SIZES, SHARES, AREAS, RATIOS = (60, 200, 656), (0.03, 0.1, 0.3), (0.8, 0.95, 0.995), (0.5, 1.0, 2.0, 3.0)
CORRELATIONS = (0.0, 0.5, 0.8)


class Model(NamedTuple):
    """A model's distribution of scores."""

    separation: float
    ratio: float = 1.0
    step: float = 0.0

    @classmethod
    def of_area(cls, area: float, ratio: float = 1.0, step: float = 0.0) -> "Model":
        """The model whose area under the ROC curve is `area` before scores are rounded."""
        return cls(NormalDist().inv_cdf(area) * math.hypot(1, ratio), ratio, step)

    def probability(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probability of the positive class by scores of any shape."""
        rounded = np.floor(score / self.step) * self.step if self.step else score
        return np.asarray(1 / (1 + np.exp(self.separation / 2 - rounded)))


def targets(n: int, share: float) -> NDArray[np.int64]:
    """(n,) with the nearest number of positive images to the share, at least 1, first."""
    return (np.arange(n) < max(1, round(n * share))).astype(np.int64)


def group_numbers(target: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """(n,) number of each image's group: groups of `size` images of one class, the last one of a class smaller."""
    numbers = np.empty(len(target), dtype=np.int64)
    for value in (1, 0):
        rows = np.flatnonzero(target == value)
        numbers[rows] = np.arange(len(rows)) // size + (numbers[target == 1].max() + 1 if value == 0 else 0)
    return numbers


def draw(
    random: np.random.Generator,
    models: list[Model],
    target: NDArray[np.int64],
    correlation: float = 0.0,
    groups: NDArray[np.int64] | None = None,
    icc: float = 0.0,
) -> list[NDArray[np.float64]]:
    """The probabilities (n,) of each model for the same images."""

    def noise() -> NDArray[np.float64]:
        own = random.normal(size=len(target))
        if groups is None:
            return own
        return np.asarray(math.sqrt(icc) * random.normal(size=groups.max() + 1)[groups] + math.sqrt(1 - icc) * own)

    shared = math.sqrt(correlation) * noise()
    return [
        model.probability(
            target * model.separation
            + np.where(target == 1, model.ratio, 1.0) * (shared + math.sqrt(1 - correlation) * noise())
        )
        for model in models
    ]


def true_calibration_error(model: Model, share: float, probability: NDArray[np.float64]) -> float:
    """The expected calibration error if each image were positive with its true chance at its probability, (n,).

    This, and not the error over other images, is what an interval from n images can hold: the bins that images fall
    into are taken as given.
    """
    score = np.log(probability / (1 - probability)) + model.separation / 2
    # The mass between a rounded score and the next one; of scores that are not rounded, between close neighbours.
    low, width = (np.rint(score / model.step) * model.step, model.step) if model.step else (score, 1e-6)
    positive, negative = (
        part * np.diff(ndtr((np.stack([low, low + width]) - mean) / deviation), axis=0)[0]
        for part, mean, deviation in ((share, model.separation, model.ratio), (1 - share, 0.0, 1.0))
    )
    gaps = probability - positive / (positive + negative)
    return float(np.abs(np.bincount(bin_numbers(probability, BINS), weights=gaps, minlength=BINS)).sum() / len(gaps))


def true_metrics(model: Model, share: float) -> dict[str, float]:
    """The metrics over infinitely many images, of which the share is positive."""
    z = np.linspace(-8, 8, 20_001)
    mass = np.exp(-z * z / 2)
    mass /= mass.sum()
    scores = np.concatenate([model.separation + model.ratio * z, z])
    weight = np.concatenate([share * mass, (1 - share) * mass])
    target = np.repeat([1, 0], len(z))
    probability = model.probability(scores)
    order = np.argsort(-probability, kind="stable")
    last = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    found, alarms = (np.cumsum(np.where(target == value, weight, 0.0)[order])[last] for value in (1, 0))
    new, new_alarms = np.diff(found, prepend=0.0), np.diff(alarms, prepend=0.0)
    hit = float(weight[(target == 1) & (probability >= THRESHOLD)].sum())
    alarm = float(weight[(target == 0) & (probability >= THRESHOLD)].sum())
    gaps = np.bincount(bin_numbers(probability, BINS), weights=weight * (probability - target), minlength=BINS)
    loss = -np.log(np.where(target == 1, probability, 1 - probability))
    return {
        "accuracy": hit + 1 - share - alarm,
        "precision": hit / (hit + alarm),
        "recall": hit / share,
        "f1": 2 * hit / (share + hit + alarm),
        "specificity": 1 - alarm / (1 - share),
        "roc_auc": float((new_alarms * (found - new / 2)).sum() / (share * (1 - share))),
        "average_precision": float((new * found / np.maximum(found + alarms, 1e-300)).sum() / share),
        "log_loss": float((weight * loss).sum()),
        "brier": float((weight * np.square(probability - target)).sum()),
        "ece": float(np.abs(gaps).sum()),
    }
