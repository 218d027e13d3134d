"""The answers worth a look: in come a test's predictions, out go the surest wrong ones, and some right ones."""

import base64
import io
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.evaluation.predictions import Predictions

MOST = 10
HITS = 8
Pixels = Callable[[str], NDArray[np.uint8]]  # an image's SHA-256 -> (S, S, C), C 1 or 3


class ScoredImage(NamedTuple):
    """One answer of the model's.

    Attributes:
        sure: the model's probability of the answer it gave, 0..1.
        slices: "type: mono", one text a slice column that has a value for the image.
        image: the picture as a data address, None if pictures are left out.
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
    """At most `most` errors, the surest first, equally sure ones by SHA-256; `labels` is (negative, positive)."""
    sure = _sure(test)
    wrong = np.flatnonzero(test.predicted != test.target).tolist()
    rows = sorted(wrong, key=lambda row: (-sure[row], test.sha256[row]))[:most]
    return _answers(test, rows, labels, pixels)


def sample_correct(
    test: Predictions, labels: tuple[str, str], pixels: Pixels | None, most: int = HITS
) -> list[ScoredImage]:
    """At most `most` right answers, half of each class, the positive one first; chosen without a look at them.

    They lie evenly among the class's right answers in the order of the SHA-256, which knows nothing of the image.
    """
    rows: list[int] = []
    for target in (1, 0):
        right = np.flatnonzero((test.target == target) & (test.predicted == target))
        right = right[np.argsort(test.sha256[right].astype(str), kind="stable")]
        chosen = np.unique(np.linspace(0, max(len(right) - 1, 0), most // 2).astype(int))
        rows += right[chosen[: len(right)]].tolist()
    return _answers(test, rows, labels, pixels)


def data_url(pixels: NDArray[np.uint8]) -> str:
    """An (S, S, C) image, C 1 or 3, as a data address, so that a page holds it within itself."""
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _sure(test: Predictions) -> NDArray[np.float64]:
    return np.where(test.predicted == 1, test.probability, 1 - test.probability)


def _answers(
    test: Predictions, rows: Iterable[int], labels: tuple[str, str], pixels: Pixels | None
) -> list[ScoredImage]:
    sure = _sure(test)
    found = []
    for row in rows:
        shown = None if pixels is None else pixels(test.sha256[row])
        found.append(
            ScoredImage(
                sha256=test.sha256[row],
                label=test.label[row],
                answer=labels[test.predicted[row]],
                sure=float(sure[row]),
                slices=[f"{name}: {values[row]}" for name, values in test.slices.items() if values[row] is not None],
                image=None if shown is None else data_url(shown),
                size=0 if shown is None else len(shown),
            )
        )
    return found
