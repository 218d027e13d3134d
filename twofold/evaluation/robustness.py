"""How a model's figures change when its images change a little: in come test images, out go figures and differences.

A person would give the same answer for an image and for its altered copy (`alterations.py`); a model that does not
hangs on something else than what the image shows. Both answers are those of one model on the same images at one
threshold, so the difference is a paired one, with its interval. Nothing is drawn by chance.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.metrics.bootstrap import ModelOutputs
from twofold.metrics.classification import classification_metrics, confusion_matrix
from twofold.metrics.metric_intervals import METHODS, metric_difference

Pixels = NDArray[np.uint8]  # (N, S, S, C), C 1 or 3
QUALITY = 50  # of the JPEG; Pillow's scale, its chroma at half the resolution
SIGMA = 1.0  # pixels, of the Gaussian blur
LIGHT = 0.2  # share by which brightness and contrast change
SHIFT = 2  # pixels


class Perturbation(NamedTuple):
    """One way to change images, and what it does in words."""

    words: str
    apply: Callable[[Pixels], Pixels]


def jpeg(pixels: Pixels) -> Pixels:
    """Each image saved as JPEG of QUALITY and read again."""
    changed = np.empty_like(pixels)
    for number, image in enumerate(pixels):
        stream = io.BytesIO()
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(stream, "JPEG", quality=QUALITY)
        with Image.open(stream) as again:
            changed[number] = np.asarray(again).reshape(image.shape)
    return changed


def blur(pixels: Pixels) -> Pixels:
    """A Gaussian of SIGMA, cut at REACH; beyond the edge its last pixel goes on."""
    weights = np.exp(-0.5 * np.square(np.arange(-REACH, REACH + 1) / SIGMA))
    weights /= weights.sum()
    found = pixels.astype(np.float64)
    for axis in (1, 2):
        around = [(0, 0)] * 4
        around[axis] = (REACH, REACH)
        padded, length = np.pad(found, around, mode="edge"), found.shape[axis]
        found = sum(
            weight * np.take(padded, range(offset, offset + length), axis=axis) for offset, weight in enumerate(weights)
        )
    return _levels(found)


def brighter(pixels: Pixels) -> Pixels:
    """Every level times 1 + LIGHT."""
    return _levels(pixels * (1 + LIGHT))


def darker(pixels: Pixels) -> Pixels:
    """Every level times 1 - LIGHT."""
    return _levels(pixels * (1 - LIGHT))


def flatter(pixels: Pixels) -> Pixels:
    """Every level's distance from the image's mean times 1 - LIGHT."""
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    return _levels(mean + (1 - LIGHT) * (pixels - mean))


def shifted(pixels: Pixels) -> Pixels:
    """Moved SHIFT pixels to the right and down; the first row and column fill the gap."""
    side = pixels.shape[1]
    padded = np.pad(pixels, ((0, 0), (SHIFT, 0), (SHIFT, 0), (0, 0)), mode="edge")
    return padded[:, :side, :side]


PERTURBATIONS = {
    "jpeg": Perturbation(f"saved as JPEG of quality {QUALITY}", jpeg),
    "blur": Perturbation(f"blurred, by a Gaussian of {SIGMA:g} pixel", blur),
    "brighter": Perturbation(f"{100 * LIGHT:g} % brighter", brighter),
    "darker": Perturbation(f"{100 * LIGHT:g} % darker", darker),
    "flatter": Perturbation(f"{100 * LIGHT:g} % less contrast", flatter),
    "shifted": Perturbation(f"moved by {SHIFT} pixels right and down", shifted),
}

METRICS = ("accuracy", "recall", "specificity", "roc_auc")
PLAIN = "unaltered"
CHANGE = "_change"
Predict = Callable[[str, Iterable[Pixels]], NDArray[np.float64]]

REACH = 3  # pixels to each side that the blur takes in


def evenly_spaced(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the numbers below n, spread evenly over all."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(np.int64)


def measure_robustness(
    pixels: Callable[[NDArray[np.int64]], Pixels],
    target: NDArray[np.int64],
    probability: NDArray[np.float64],
    threshold: float,
    predict: Predict,
    batch: int,
) -> dict[str, dict[str, Any]]:
    """The figures on the images as they are, and under every alteration.

    Args:
        pixels: gives the images (k, S, S, C) with these numbers, 0 to N - 1; asked for one batch at a time.
        target: (N,) 0 or 1.
        probability: (N,) of the positive class, for the images as they are.
        threshold: an image is called positive when its probability is at or above it.
        predict: what made `probability` from batches of images; it is told the alteration's name.
        batch: images altered and predicted at once.

    Returns:
        By PLAIN and by the name of each alteration: `n`, `n_positive`, and those of FIGURES that have a value; for an
        alteration also `changed`, the images whose answer is another one, `<figure>_change` (altered minus unaltered)
        and `intervals`: the 95 % interval of each change, with its method.
    """
    before = _figures(target, probability, threshold)
    found: dict[str, dict[str, Any]] = {PLAIN: before}
    for name, alteration in PERTURBATIONS.items():
        altered = predict(name, (alteration.apply(images) for images in _batches(pixels, len(target), batch)))
        after = _figures(target, altered, threshold)
        after["changed"] = int(((altered >= threshold) != (probability >= threshold)).sum())
        after["intervals"] = {}
        for figure in METRICS:
            change = metric_difference(
                figure, target, ModelOutputs(altered, threshold), ModelOutputs(probability, threshold)
            )
            if change is not None:
                after[figure + CHANGE] = change.estimate
                after["intervals"][figure + CHANGE] = {
                    "low": change.low,
                    "high": change.high,
                    "method": METHODS[figure].paired,
                }
        found[name] = after
    return found


def robustness_table(measured: Mapping[str, Mapping[str, Any]]) -> tuple[Sequence[str], Iterator[Sequence[Any]]]:
    """Header and rows of robustness.csv; a figure without a value is empty."""
    changes = [figure + CHANGE for figure in METRICS]
    ends = [f"{change}_{end}" for change in changes for end in ("low", "high")]

    def rows() -> Iterator[Sequence[Any]]:
        for name, own in measured.items():
            words = PERTURBATIONS[name].words if name in PERTURBATIONS else "as they are"
            intervals = own.get("intervals", {})
            yield (
                name,
                words,
                *(own.get(field) for field in ("n", "n_positive", "changed", *METRICS, *changes)),
                *(intervals.get(change, {}).get(end) for change in changes for end in ("low", "high")),
            )

    return ("alteration", "words", "n", "n_positive", "changed", *METRICS, *changes, *ends), rows()


def _figures(target: NDArray[np.int64], probability: NDArray[np.float64], threshold: float) -> dict[str, Any]:
    counts, values = (
        confusion_matrix(target, probability, threshold),
        classification_metrics(target, probability, threshold),
    )
    return {
        "n": counts.n,
        "n_positive": counts.positive,
        **{name: values[name] for name in METRICS if name in values},
    }


def _batches(pixels: Callable[[NDArray[np.int64]], Pixels], n: int, size: int) -> Iterator[Pixels]:
    for start in range(0, n, size):
        yield pixels(np.arange(start, min(start + size, n)))


def _levels(values: NDArray[np.floating]) -> Pixels:
    held: Pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return held
