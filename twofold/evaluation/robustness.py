"""Robustness: how the metrics change when the test images are perturbed slightly, with confidence intervals.

A person would give the same answer for an image and for its perturbed copy; a model that does not relies on something
other than the image's content. Both answers come from one model on the same images at one threshold, so the difference
is paired and has an interval. Nothing is random.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.data.resizing import to_image
from twofold.metrics.classification import classification_metrics, confusion_matrix
from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import METHODS, metric_difference

Pixels = NDArray[np.uint8]  # (N, S, S, C), C 1 or 3
Predict = Callable[[str, Iterable[Pixels]], NDArray[np.float64]]

QUALITY = 50  # of the JPEG; Pillow's scale, with chroma at half the resolution
SIGMA = 1.0  # pixels, of the Gaussian blur
REACH = 3  # pixels to each side that the blur takes in
LIGHT = 0.2  # share by which brightness and contrast change
SHIFT = 2  # pixels

METRICS = ("accuracy", "recall", "specificity", "roc_auc")
PLAIN = "unaltered"
CHANGE = "_change"


class Perturbation(NamedTuple):
    """A way to change images, and its description in words."""

    words: str
    apply: Callable[[Pixels], Pixels]


def jpeg(pixels: Pixels) -> Pixels:
    """Save each image as JPEG of QUALITY and read it again."""
    changed = np.empty_like(pixels)
    for number, image in enumerate(pixels):
        stream = io.BytesIO()
        to_image(image).save(stream, "JPEG", quality=QUALITY)
        with Image.open(stream) as decoded:
            changed[number] = np.asarray(decoded).reshape(image.shape)
    return changed


def blur(pixels: Pixels) -> Pixels:
    """Blur with a Gaussian of SIGMA, cut at REACH; edge pixels are repeated beyond the edge."""
    weights = np.exp(-0.5 * np.square(np.arange(-REACH, REACH + 1) / SIGMA))
    weights /= weights.sum()
    blurred = pixels.astype(np.float64)
    for axis in (1, 2):
        margin = [(0, 0)] * 4
        margin[axis] = (REACH, REACH)
        padded, length = np.pad(blurred, margin, mode="edge"), blurred.shape[axis]
        blurred = sum(
            weight * np.take(padded, range(offset, offset + length), axis=axis) for offset, weight in enumerate(weights)
        )
    return _to_uint8(blurred)


def brighter(pixels: Pixels) -> Pixels:
    """Multiply every level by 1 + LIGHT."""
    return _to_uint8(pixels * (1 + LIGHT))


def darker(pixels: Pixels) -> Pixels:
    """Multiply every level by 1 - LIGHT."""
    return _to_uint8(pixels * (1 - LIGHT))


def flatter(pixels: Pixels) -> Pixels:
    """Multiply every level's distance from the image's mean by 1 - LIGHT."""
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    return _to_uint8(mean + (1 - LIGHT) * (pixels - mean))


def shifted(pixels: Pixels) -> Pixels:
    """Move SHIFT pixels right and down; the first row and column fill the gap."""
    side = pixels.shape[1]
    padded = np.pad(pixels, ((0, 0), (SHIFT, 0), (SHIFT, 0), (0, 0)), mode="edge")
    return padded[:, :side, :side]


def _to_uint8(values: NDArray[np.floating]) -> Pixels:
    levels: Pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return levels


PERTURBATIONS = {
    "jpeg": Perturbation(f"saved as JPEG of quality {QUALITY}", jpeg),
    "blur": Perturbation(f"blurred, by a Gaussian of {SIGMA:g} pixel", blur),
    "brighter": Perturbation(f"{100 * LIGHT:g} % brighter", brighter),
    "darker": Perturbation(f"{100 * LIGHT:g} % darker", darker),
    "flatter": Perturbation(f"{100 * LIGHT:g} % less contrast", flatter),
    "shifted": Perturbation(f"moved by {SHIFT} pixels right and down", shifted),
}


def describe_perturbation(name: str) -> str:
    """A perturbation in words, or "as they are" for PLAIN."""
    return PERTURBATIONS[name].words if name in PERTURBATIONS else "as they are"


def evenly_spaced(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the numbers below n, evenly spaced."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(np.int64)


def measure_robustness(
    pixels: Callable[[NDArray[np.int64]], Pixels],
    target: NDArray[np.int64],
    probability: NDArray[np.float64],
    threshold: float,
    units: Sequence[object],
    predict: Predict,
    batch: int,
) -> dict[str, dict[str, Any]]:
    """Measure the metrics on the unperturbed images and under every perturbation.

    Args:
        pixels: returns the images (k, S, S, C) with these numbers, 0 to N - 1; called for one batch at a time.
        target: (N,) 0 or 1.
        probability: (N,) of the positive class, for the unperturbed images.
        threshold: an image is called positive when its probability is at or above it.
        units: (N,) name of the sample that each image belongs to, or None.
        predict: the function that made `probability` from batches of images; it also receives the perturbation's name.
        batch: images perturbed and predicted at once.

    Returns:
        By PLAIN and by the name of each perturbation: `n`, `n_positive`, and those of METRICS that have a value; for a
        perturbation also `changed`, the number of images with another answer, `<metric>_change` (perturbed minus
        unperturbed) and `intervals`: the 95 % interval of each change, with its method.
    """
    batches = [np.arange(start, min(start + batch, len(target))) for start in range(0, len(target), batch)]
    measured = {PLAIN: _metrics(target, probability, threshold)}
    for name, perturbation in PERTURBATIONS.items():
        perturbed = predict(name, (perturbation.apply(pixels(numbers)) for numbers in batches))
        result = _metrics(target, perturbed, threshold)
        result["changed"] = int(((perturbed >= threshold) != (probability >= threshold)).sum())
        result["intervals"] = {}
        for metric in METRICS:
            outputs = (ModelOutputs(perturbed, threshold), ModelOutputs(probability, threshold))
            if (change := metric_difference(metric, target, *outputs, groups=units)) is not None:
                interval = {"low": change.low, "high": change.high, "method": METHODS[metric].paired}
                result[metric + CHANGE] = change.estimate
                result["intervals"][metric + CHANGE] = interval
        measured[name] = result
    return measured


def robustness_table(measured: Mapping[str, Mapping[str, Any]]) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Header and rows of robustness.csv; a metric without a value is empty."""
    changes = [metric + CHANGE for metric in METRICS]
    fields = ["n", "n_positive", "changed", *METRICS, *changes]
    bounds = [(change, bound) for change in changes for bound in ("low", "high")]
    rows = [
        [
            name,
            describe_perturbation(name),
            *(result.get(field) for field in fields),
            *(result.get("intervals", {}).get(change, {}).get(bound) for change, bound in bounds),
        ]
        for name, result in measured.items()
    ]
    return ["alteration", "words", *fields, *(f"{change}_{bound}" for change, bound in bounds)], rows


def _metrics(target: NDArray[np.int64], probability: NDArray[np.float64], threshold: float) -> dict[str, Any]:
    counts = confusion_matrix(target, probability, threshold)
    values = classification_metrics(target, probability, threshold)
    return {"n": counts.n, "n_positive": counts.positive} | {name: values[name] for name in METRICS if name in values}
