"""The influence of each image on a metric, from which variances, correlations and design effects are computed.

The influence of an image is the change of the metric when the image is weighted a little more, divided by the change
of weight. Its sum over all images is 0, and the sum of its squares estimates the variance of the metric (Hampel 1974,
"The influence curve and its role in robust estimation"). If images come in groups, the sum of squares of the groups'
sums does (Binder 1983, "On the variances of asymptotically normal estimators from complex surveys"); for the area under
the ROC curve that is the estimate of Obuchowski (1997), "Nonparametric analysis of clustered ROC curve data".
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.metrics import calibration
from twofold.metrics.classification import log_losses
from twofold.metrics.curves import bin_numbers


class ModelOutputs(NamedTuple):
    """A model's probability of the positive class for each image, and its decision threshold."""

    probability: ArrayLike
    threshold: float


class Influence(NamedTuple):
    """A metric, and how each image influences it.

    Attributes:
        value: the metric.
        images: (N,) the influence of each image.
        counted: (N,) whether the metric is about the image: for recall, whether it is positive.
        error: the size of the influence of one more image that the model gets entirely wrong.
    """

    value: float
    images: NDArray[np.float64]
    counted: NDArray[np.bool_]
    error: float


def influence(metric: str, target: NDArray[np.int64], outputs: ModelOutputs) -> Influence:
    """The influence of each image on a metric that has a value.

    For F1 it is the influence on the share of hits among the images that are positive or called positive, of which F1
    is a function.

    Args:
        metric: a key of `metric_intervals.METHODS`.
        target: (N,) 0 or 1.
        outputs: for the same images.
    """
    probability = np.asarray(outputs.probability, dtype=np.float64)
    positive, called = target == 1, probability >= outputs.threshold
    if metric == "roc_auc":
        return _of_roc_auc(positive, probability)
    if metric == "average_precision":
        return _of_average_precision(positive, probability)
    if metric == "ece":
        return _of_ece(target, probability)
    if metric in ("log_loss", "brier"):
        loss = np.square(probability - target) if metric == "brier" else log_losses(target, probability)
        # The class counts are taken as given, so each loss is compared with the mean of its own class.
        expected = np.where(positive, *(loss[rows].mean() if rows.any() else 0.0 for rows in (positive, ~positive)))
        return Influence(float(loss.mean()), (loss - expected) / len(loss), np.ones_like(positive), 1 / len(loss))
    hit, counted = hits_and_counted(metric, positive, called)
    n = counted.sum()
    share = (hit & counted).sum() / n
    return Influence(float(share), np.where(counted, hit - share, 0.0) / n, counted, 1 / n)


def hits_and_counted(
    metric: str, positive: NDArray[np.bool_], called: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which images are hits, and which of them a rate counts."""
    return {
        "accuracy": (positive == called, np.ones_like(positive)),
        "precision": (positive, called),
        "recall": (called, positive),
        "specificity": (~called, ~positive),
        "f1": (positive & called, positive | called),
    }[metric]


def _of_roc_auc(positive: NDArray[np.bool_], probability: NDArray[np.float64]) -> Influence:
    """DeLong, DeLong and Clarke-Pearson (1988)."""
    m, n = int(positive.sum()), int((~positive).sum())
    above = _share_below(probability[positive], probability[~positive])
    below = 1 - _share_below(probability[~positive], probability[positive])
    area = above.mean()
    images = np.empty(len(probability))
    images[positive] = (above - area) / np.sqrt(m * max(m - 1, 1))
    images[~positive] = (below - area) / np.sqrt(n * max(n - 1, 1))
    return Influence(float(area), images, np.ones_like(positive), 1 / min(m, n))


def _share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the others that lie below each value; those that equal it count half."""
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(others)))


def _of_average_precision(positive: NDArray[np.bool_], probability: NDArray[np.float64]) -> Influence:
    m = int(positive.sum())
    order = np.argsort(-probability, kind="stable")
    # The last place, by falling probability, of the images with the same probability as each.
    last = np.searchsorted(-probability[order], -probability, side="right") - 1
    precision = (np.cumsum(positive[order])[last]) / (last + 1)
    value = precision[positive].mean()
    # An image of weight w changes the precision at every positive image that is not above it, by (y - precision) / n.
    first = np.searchsorted(-probability[order], -probability, side="left")
    below = [np.cumsum((positive * part / (last + 1))[order][::-1])[::-1][first] for part in (1.0, precision)]
    images = (positive * (precision - value) + positive * below[0] - below[1]) / m
    return Influence(float(value), images, positive, 1 / m)


def _of_ece(target: NDArray[np.int64], probability: NDArray[np.float64]) -> Influence:
    number = bin_numbers(probability, calibration.BINS)
    gap = probability - target
    sign = np.sign(np.bincount(number, weights=gap, minlength=calibration.BINS))[number]
    value = calibration.expected_calibration_error(target, probability)
    return Influence(value, (sign * gap - value) / len(target), np.ones(len(target), bool), 1 / len(target))
