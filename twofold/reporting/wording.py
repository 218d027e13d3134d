"""What evaluation.html says of its figures and slices, for a reader who knows the images and not machine learning."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from twofold.evaluation.slice_names import BRIGHTNESS, SIZE, SOURCE
from twofold.metrics import number_format
from twofold.metrics.confidence_intervals import wilson

TITLES = {
    "accuracy": ("Accuracy", "The share of all images that got the right answer."),
    "precision": ("Precision", "Of the “{positive}” answers, the share that is right."),
    "recall": ("Recall (sensitivity)", "Of the {positive} images, the share that was found."),
    "f1": ("F1", "Precision and recall in one figure (their harmonic mean)."),
    "specificity": ("Specificity", "Of the {negative} images, the share that was rightly passed."),
    "roc_auc": (
        "ROC-AUC",
        "Take one {positive} and one {negative} image by chance: how often the model gives the {positive} one the "
        "higher probability. 0.5 is guessing. Does not depend on the threshold.",
    ),
    "average_precision": (
        "Average precision",
        "The precision averaged over all levels of recall. Guessing gives {prevalence}. Does not depend on the "
        "threshold.",
    ),
    "log_loss": (
        "Log loss",
        "How far the probabilities can be taken at their word; a wrong answer given with certainty costs most. "
        "0 is best; always saying 0.5 gives 0.693.",
    ),
    "brier": ("Brier score", "The mean squared error of the probabilities. 0 is best; always saying 0.5 gives 0.25."),
    "ece": (
        "Calibration error (ECE)",
        "How far the probabilities lie from what is true of the images, on average; see above. 0 is best, and on few "
        "images chance alone puts it above 0. Does not depend on the threshold.",
    ),
}
ARITHMETIC = {
    "float32": "32-bit floating point (float32)",
    "bfloat16": "16-bit floating point (bfloat16), the last dense layers in 32 bits; it is served so too",
}
METHODS = (
    "95 %: Wilson for shares, DeLong for ROC-AUC, BCa bootstrap for F1, average precision, log loss and Brier score, "
    "simulation for the calibration error; images taken as independent"
)
EXPLAINED = {
    SIZE: "The shorter side of the image as it came. The bands are thirds of the training images.",
    BRIGHTNESS: "The mean of the image's grey levels, black being 0 and white 100 %. The bands are thirds of the "
    "training images.",
    SOURCE: "The folder that the image came from.",
}


class Rate(NamedTuple):
    """A share with the counts behind it; value and interval are None where there is nothing to take a share of."""

    hits: int
    n: int
    value: float | None
    interval: str | None


def rate_with_interval(hits: int, n: int) -> Rate:
    """A share with its 95 % interval, "85.9 to 90.8 %"."""
    interval = wilson(hits, n)
    if interval is None:
        return Rate(hits, n, None, None)
    text = f"{100 * interval.low:.1f} to {number_format.percent(interval.high)}"
    return Rate(hits, n, hits / n, text)


def interval_text(figures: Mapping[str, Any], key: str) -> str | None:
    """The interval of one of the figures of metrics.json, "0.851 to 0.912"; None where it has none."""
    found = figures["intervals"].get(key)
    return None if found is None else f"{found['low']:.3f} to {found['high']:.3f}"
