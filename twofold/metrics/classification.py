"""Classification metrics under their usual names, from targets, probabilities and a threshold.

A metric without a value (precision if no image is called positive, ROC-AUC if a class is missing) is absent, never NaN
or 0; `undefined` gives the reason.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.metrics.calibration import expected_calibration_error
from twofold.metrics.curves import checked_arrays, threshold_sweep

RATES = ("accuracy", "precision", "recall", "f1", "specificity")
RANKING = ("roc_auc", "average_precision")
LOSSES = ("log_loss", "brier", "ece")  # lower is better
METRICS = RATES + RANKING + LOSSES
METRICS_FILE = "metrics.json"  # every metric, in the folder of an evaluation
# What DVC and the Kubeflow UI show of it; DVC drops the last columns of a table that is wider than the terminal.
HEADLINE: tuple[str, ...] = ("accuracy", "roc_auc", "f1", "precision", "recall", "ece", "brier", "n")
HEADLINE += ("log_loss", "threshold", "average_precision")

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


def confusion_matrix(target: ArrayLike, probability: ArrayLike, threshold: float) -> ConfusionMatrix:
    """Count hits and errors; an image is called positive if its probability is at or above the threshold."""
    targets, probabilities = checked_arrays(target, probability)
    actual, called = targets == 1, probabilities >= threshold
    cells = ((actual & called), (~actual & called), (~actual & ~called), (actual & ~called))
    return ConfusionMatrix(*(int(np.count_nonzero(cell)) for cell in cells))


def rates(counts: ConfusionMatrix) -> dict[str, float]:
    """Accuracy, precision, recall, F1 and specificity, each in 0..1; absent if undefined."""
    ratios = {
        "accuracy": (counts.correct, counts.n),
        "precision": (counts.true_positive, counts.called),
        "recall": (counts.true_positive, counts.positive),
        "f1": (2 * counts.true_positive, counts.positive + counts.called),
        "specificity": (counts.true_negative, counts.negative),
    }
    return {name: part / whole for name, (part, whole) in ratios.items() if whole}


def log_losses(targets: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each image's log loss in nats, with probabilities clipped to 2^-52 from 0 and 1."""
    clipped = np.clip(probabilities, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    return -np.log(np.where(targets == 1, clipped, 1 - clipped))


def classification_metrics(target: ArrayLike, probability: ArrayLike, threshold: float) -> dict[str, float]:
    """Every metric that has a value, in the order of METRICS.

    ROC-AUC is the chance that a positive image gets a higher probability than a negative one, ties counted half
    (Mann and Whitney 1947). Average precision is the sum over falling thresholds of precision times the gain in
    recall. The Brier score is the mean squared distance between probability and target.

    Raises:
        DataError: no image, or values that cannot be scored.
    """
    targets, probabilities = checked_arrays(target, probability)
    metrics = rates(confusion_matrix(targets, probabilities, threshold))
    counts = threshold_sweep(targets, probabilities)
    positives, negatives = int(counts.true_positive[-1]), int(counts.false_positive[-1])
    new_hits = np.diff(counts.true_positive, prepend=0)
    if positives and negatives:
        # Twice the area in whole numbers: exact, and a tie counts half by construction.
        doubled = np.diff(counts.false_positive, prepend=0) * (2 * counts.true_positive - new_hits)
        metrics["roc_auc"] = int(doubled.sum()) / (2 * positives * negatives)
    if positives:
        precision = counts.true_positive / (counts.true_positive + counts.false_positive)
        metrics["average_precision"] = float((new_hits * precision).sum() / positives)
    metrics["log_loss"] = float(log_losses(targets, probabilities).mean())
    metrics["brier"] = float(np.square(probabilities - targets).mean())
    metrics["ece"] = expected_calibration_error(targets, probabilities)
    return metrics


def metrics_summary(target: ArrayLike, probability: ArrayLike, threshold: float) -> dict[str, object]:
    """The metrics and their counts as a JSON object; `undefined` is present only if a metric is absent."""
    counts = confusion_matrix(target, probability, threshold)
    result: dict[str, object] = {
        **classification_metrics(target, probability, threshold),
        "n": counts.n,
        "n_positive": counts.positive,
        "n_negative": counts.negative,
        **counts._asdict(),
    }
    if reasons := _undefined_metrics(counts):
        result["undefined"] = reasons
    return result


def _undefined_metrics(counts: ConfusionMatrix) -> dict[str, str]:
    """Why each absent metric has no value."""
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


def metrics_by_class(counts: ConfusionMatrix, labels: Iterable[str]) -> dict[str, dict[str, float]]:
    """Precision, recall and F1 with each class in turn as the positive one; `labels` is (negative, positive)."""
    tp, fp, tn, fn = counts
    return {
        label: {"n": own.positive, "called": own.called, "correct": own.true_positive}
        | {name: value for name, value in rates(own).items() if name in ("precision", "recall", "f1")}
        for label, own in zip(labels, (ConfusionMatrix(tn, fn, tp, fp), counts), strict=True)
    }
