"""Test predictions and the outputs of two models on them, image by image."""

import numpy as np

from twofold.evaluation.predictions import Predictions, build_predictions
from twofold.metrics.classification import metrics_summary
from twofold.metrics.influence import ModelOutputs
from twofold.promotion.paired_comparison import Opponent, PairedComparison, compare
from twofold.promotion.verdict import GateInputs


def predictions(target, probability, slices=None, threshold=0.5) -> Predictions:
    """Predictions on test images named 000, 001, … in the given order."""
    n = len(target)
    columns = {
        "sha256": [f"{number:03}" for number in range(n)],
        "split": ["test"] * n,
        "label": ["bad" if value else "good" for value in target],
        "target": list(target),
        "probability": list(probability),
        "predicted": [int(value >= threshold) for value in probability],
        "group": [None] * n,
    }
    return build_predictions(columns, slices or {})


def subject(test: Predictions, threshold=0.5, **more) -> GateInputs:
    """The metrics of evaluate, and `more` of them."""
    return GateInputs({**metrics_summary(test.target, test.probability, threshold), **more}, test, threshold)


def beside(test: Predictions, other, *, version="4", threshold=0.5, splits=None) -> PairedComparison:
    """The test compared with an opponent's probabilities; the opponent learned from the images in `splits`."""
    opponent = Opponent(version, ModelOutputs(np.asarray(other, dtype=float), threshold), splits or {})
    return compare(test, threshold, {}, opponent)


def broken(test: Predictions, problem="its weights are gone; mend it", version="4") -> PairedComparison:
    """The comparison with a model that could not be scored."""
    return compare(test, 0.5, {}, Opponent(version, ModelOutputs(np.empty(0), 0.5), {}, problem))


def answered(right: list[bool], target) -> list[float]:
    """Probabilities of 0.9 or 0.1 that are correct where `right` is true."""
    return [0.9 if bool(value) == hit else 0.1 for value, hit in zip(target, right, strict=True)]
