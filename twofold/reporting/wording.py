"""Metrics and slices in words, for readers who know the images and not machine learning."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from twofold.evaluation.slice_names import BRIGHTNESS, SIZE, SOURCE
from twofold.metrics import number_format
from twofold.metrics.confidence_intervals import Interval

# Of each metric: its title, and what it says.
TITLES = {
    "accuracy": ("Accuracy", "The share of all images that got the correct answer."),
    "precision": ("Precision", "The share of the “{positive}” answers that are correct."),
    "recall": ("Recall (sensitivity)", "The share of the {positive} images that the model found."),
    "f1": ("F1", "Precision and recall in one number (their harmonic mean)."),
    "specificity": ("Specificity", "The share of the {negative} images that the model correctly passed."),
    "roc_auc": (
        "ROC-AUC",
        "Take one {positive} and one {negative} image at random: how often the model gives the {positive} one the "
        "higher probability. 0.5 is guessing. Does not depend on the threshold.",
    ),
    "average_precision": (
        "Average precision",
        "The precision averaged over all levels of recall. Guessing gives {prevalence}. Does not depend on the "
        "threshold.",
    ),
    "log_loss": (
        "Log loss",
        "How well the probabilities match the truth; a wrong answer given with certainty costs most. 0 is best; "
        "always saying 0.5 gives 0.693.",
    ),
    "brier": ("Brier score", "The mean squared error of the probabilities. 0 is best; always saying 0.5 gives 0.25."),
    "ece": (
        "Calibration error (ECE)",
        "How far, on average, the probabilities are from how often they prove true; see Calibration. 0 is best; on few "
        "images, chance alone makes it larger than 0. Does not depend on the threshold.",
    ),
}
ARITHMETIC = {
    "float32": "32-bit floating point (float32)",
    "bfloat16": "16-bit floating point (bfloat16), the last dense layers in 32 bits; the same when serving",
}
METHODS = (
    "95 %: Wilson, or Clopper-Pearson below 40 hits or misses, for rates and F1; a score interval for ROC-AUC and the "
    "calibration error; by the logit for average precision, by the logarithm for log loss and Brier score. "
    "Groups of images and near duplicates count as one sample each"
)
EXPLAINED = {
    SIZE: "The shorter side of the original image. The bands are thirds of the training images.",
    BRIGHTNESS: "The mean of the image's grey levels, where black is 0 and white is 100 %. The bands are thirds of the "
    "training images.",
    SOURCE: "The folder that the image came from.",
}


class Rate(NamedTuple):
    """A rate with its counts; value and interval are None where n is 0."""

    hits: int
    n: int
    value: float | None
    interval: str | None


def rate_with_interval(hits: int, n: int, interval: Interval | None) -> Rate:
    """A rate with its 95 % interval, "85.9 to 90.8 %"."""
    words = interval and f"{100 * interval.low:.1f} to {number_format.percent(interval.high)}"
    return Rate(hits, n, hits / n if n else None, words)


def recorded_interval(metrics: Mapping[str, Any], key: str, complement: bool = False) -> Interval | None:
    """The interval of a metric of metrics.json, or of 1 minus the metric; None if it has none."""
    interval = metrics["intervals"].get(key)
    if interval is None:
        return None
    low, high = interval["low"], interval["high"]
    return Interval(1 - high, 1 - low) if complement else Interval(low, high)


def count_images(n: int, kind: str = "") -> str:
    """A number of images in words: "1 image", "1,312 images", "181 defective images"."""
    return f"{n:,} {f'{kind} ' if kind else ''}image{'' if n == 1 else 's'}"
