"""The most confident errors of a model, and a sample of its correct answers, from its test predictions."""

import base64
import io
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.data.resizing import to_image
from twofold.evaluation.predictions import Predictions

MOST = 10
HITS = 8
Pixels = Callable[[str], NDArray[np.uint8]]  # an image's SHA-256 -> (S, S, C), C 1 or 3


class ScoredImage(NamedTuple):
    """One answer of the model.

    Attributes:
        sure: the model's probability of the answer it gave, 0..1.
        slices: one text, such as "type: mono", for each slice column that has a value for the image.
        image: the picture as a data URL, None if pictures are left out.
        size: the picture's side in pixels.
    """

    sha256: str
    label: str
    answer: str
    sure: float
    slices: list[str]
    image: str | None
    size: int


def most_confident_errors(
    test: Predictions, labels: tuple[str, str], pixels: Pixels | None, most: int = MOST
) -> list[ScoredImage]:
    """At most `most` errors, ordered by falling confidence, then by SHA-256; `labels` is (negative, positive)."""
    confidence = _confidence(test)
    wrong = np.flatnonzero(test.predicted != test.target).tolist()
    rows = sorted(wrong, key=lambda row: (-confidence[row], test.sha256[row]))[:most]
    return _scored_images(test, rows, labels, pixels)


def sample_correct(
    test: Predictions, labels: tuple[str, str], pixels: Pixels | None, most: int = HITS
) -> list[ScoredImage]:
    """At most `most` correct answers, half of each class, the positive class first.

    They are spread evenly over the class's correct answers in the order of the SHA-256, which is independent of the
    image's content.
    """
    rows: list[int] = []
    for target in (1, 0):
        correct = np.flatnonzero((test.target == target) & (test.predicted == target))
        correct = correct[np.argsort(test.sha256[correct].astype(str), kind="stable")]
        chosen = np.unique(np.linspace(0, max(len(correct) - 1, 0), most // 2).astype(int))
        rows += correct[chosen[: len(correct)]].tolist()
    return _scored_images(test, rows, labels, pixels)


def data_url(pixels: NDArray[np.uint8], jpeg_quality: int | None = None) -> str:
    """An (H, W, C) array, C 1 or 3, as a data URL, so that a page contains it: PNG, or JPEG of the given quality."""
    kind, options = ("png", {"optimize": True}) if jpeg_quality is None else ("jpeg", {"quality": jpeg_quality})
    stream = io.BytesIO()
    to_image(pixels).save(stream, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def _confidence(test: Predictions) -> NDArray[np.float64]:
    return np.where(test.predicted == 1, test.probability, 1 - test.probability)


def _scored_images(
    test: Predictions, rows: Iterable[int], labels: tuple[str, str], pixels: Pixels | None
) -> list[ScoredImage]:
    confidence = _confidence(test)
    images = []
    for row in rows:
        picture = None if pixels is None else pixels(test.sha256[row])
        images.append(
            ScoredImage(
                sha256=test.sha256[row],
                label=test.label[row],
                answer=labels[test.predicted[row]],
                sure=float(confidence[row]),
                slices=[f"{name}: {values[row]}" for name, values in test.slices.items() if values[row] is not None],
                image=None if picture is None else data_url(picture),
                size=0 if picture is None else len(picture),
            )
        )
    return images
