"""The figures of a test: in come targets, probabilities and a threshold, out go numbers under their usual names.

A figure that has no value (precision where nothing was called positive, ROC-AUC where a class is missing) is absent,
never NaN and never 0 in its place; `undefined` says why.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from twofold.metrics.calibration import expected_calibration_error
from twofold.metrics.curves import checked_arrays, threshold_sweep

RATES = ("accuracy", "precision", "recall", "f1", "specificity")
RANKING = ("roc_auc", "average_precision")
LOSSES = ("log_loss", "brier", "ece")  # of these, less is better
METRICS = RATES + RANKING + LOSSES

NO_POSITIVE = "no image of the positive class"
NO_NEGATIVE = "no image of the negative class"
NONE_CALLED = "no image was called positive at this threshold"


class ConfusionMatrix(NamedTuple):
    """The confusion matrix at one threshold, in images."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int

    @property
    def n(self) -> int:
        return sum(self)

    @property
    def positive(self) -> int:
        return self.true_positive + self.false_negative

    @property
    def negative(self) -> int:
        return self.true_negative + self.false_positive

    @property
    def called(self) -> int:
        """Images called positive."""
        return self.true_positive + self.false_positive

    @property
    def correct(self) -> int:
        return self.true_positive + self.true_negative

    def turned(self) -> "ConfusionMatrix":
        """The same with the negative class in the place of the positive one."""
        return ConfusionMatrix(self.true_negative, self.false_negative, self.true_positive, self.false_positive)


def confusion_matrix(target: ArrayLike, probability: ArrayLike, threshold: float) -> ConfusionMatrix:
    """Count hits and errors; an image is called positive when its probability is at or above the threshold."""
    targets, probabilities = checked_arrays(target, probability)
    actual, called = targets == 1, probabilities >= threshold
    pairs = ((actual & called), (~actual & called), (~actual & ~called), (actual & ~called))
    return ConfusionMatrix(*(int(np.count_nonzero(pair)) for pair in pairs))


def rates(counts: ConfusionMatrix) -> dict[str, float]:
    """Accuracy, precision, recall, F1 and specificity of a confusion matrix, each in 0..1; absent if undefined."""
    ratios = {
        "accuracy": (counts.correct, counts.n),
        "precision": (counts.true_positive, counts.called),
        "recall": (counts.true_positive, counts.positive),
        "f1": (2 * counts.true_positive, counts.positive + counts.called),
        "specificity": (counts.true_negative, counts.negative),
    }
    return {name: part / whole for name, (part, whole) in ratios.items() if whole}


def classification_metrics(target: ArrayLike, probability: ArrayLike, threshold: float) -> dict[str, float]:
    """Every figure that has a value, in the order of FIGURES.

    ROC-AUC is the chance that a positive image gets a higher probability than a negative one, ties counted half
    (Mann and Whitney 1947). Average precision is the sum over falling thresholds of precision times the gain in
    recall. Log loss is in nats, with probabilities held 2^-52 away from 0 and 1; Brier is the mean squared distance
    between probability and target; ECE is that of `twofold.metrics.calibration`.

    Raises:
        DataError: no image, or values that cannot be scored.
    """
    targets, probabilities = checked_arrays(target, probability)
    found = rates(confusion_matrix(targets, probabilities, threshold))
    counts = threshold_sweep(targets, probabilities)
    positives, negatives = int(counts.true_positive[-1]), int(counts.false_positive[-1])
    new_hits = np.diff(counts.true_positive, prepend=0)
    if positives and negatives:
        # Twice the area in whole numbers: exact, and a tie is worth half by construction.
        doubled = np.diff(counts.false_positive, prepend=0) * (2 * counts.true_positive - new_hits)
        found["roc_auc"] = int(doubled.sum()) / (2 * positives * negatives)
    if positives:
        precision = counts.true_positive / (counts.true_positive + counts.false_positive)
        found["average_precision"] = float((new_hits * precision).sum() / positives)
    held = np.clip(probabilities, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    found["log_loss"] = float(-np.log(np.where(targets == 1, held, 1 - held)).mean())
    found["brier"] = float(np.square(probabilities - targets).mean())
    found["ece"] = expected_calibration_error(targets, probabilities)
    return found


def undefined_metrics(counts: ConfusionMatrix) -> dict[str, str]:
    """Why a figure is absent, by its name; empty if every figure has a value."""
    reasons: dict[str, str] = {}
    if not counts.called:
        reasons["precision"] = NONE_CALLED
    if not counts.positive:
        reasons |= dict.fromkeys(("recall", "roc_auc", "average_precision"), NO_POSITIVE)
        if not counts.called:
            reasons["f1"] = f"{NO_POSITIVE}, and {NONE_CALLED}"
    if not counts.negative:
        reasons |= dict.fromkeys(("specificity", "roc_auc"), NO_NEGATIVE)
    return {name: reasons[name] for name in METRICS if name in reasons}


def metrics_summary(target: ArrayLike, probability: ArrayLike, threshold: float) -> dict[str, object]:
    """The figures with their counts, as a JSON object: `undefined` is there only where a figure is absent."""
    counts = confusion_matrix(target, probability, threshold)
    result: dict[str, object] = {
        **classification_metrics(target, probability, threshold),
        "n": counts.n,
        "n_positive": counts.positive,
        "n_negative": counts.negative,
        **counts._asdict(),
    }
    if missing := undefined_metrics(counts):
        result["undefined"] = missing
    return result


def metrics_by_class(counts: ConfusionMatrix, labels: Iterable[str]) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 with each class in turn as the one looked for; `labels` is (negative, positive)."""
    negative, positive = labels
    return {
        label: {"n": own.positive, "called": own.called, "correct": own.true_positive}
        | {name: value for name, value in rates(own).items() if name in ("precision", "recall", "f1")}
        for label, own in ((negative, counts.turned()), (positive, counts))
    }
