"""The errors worth a look: in come a test's predictions, out go the wrong answers of which the model was surest."""

import base64
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.predictions import Predictions

MOST = 10
Pixels = Callable[[str], NDArray[np.uint8]]  # an image's SHA-256 -> (S, S, C), C 1 or 3


class Mistake(NamedTuple):
    """One wrong answer.

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


def worst(test: Predictions, labels: tuple[str, str], pixels: Pixels | None, most: int = MOST) -> list[Mistake]:
    """At most `most` errors, the surest first, equally sure ones by SHA-256; `labels` is (negative, positive)."""
    sure = np.where(test.predicted == 1, test.probability, 1 - test.probability)
    wrong = np.flatnonzero(test.predicted != test.target).tolist()
    found = []
    for row in sorted(wrong, key=lambda row: (-sure[row], test.sha256[row]))[:most]:
        shown = None if pixels is None else pixels(test.sha256[row])
        found.append(
            Mistake(
                sha256=test.sha256[row],
                label=test.label[row],
                answer=labels[test.predicted[row]],
                sure=float(sure[row]),
                slices=[f"{name}: {values[row]}" for name, values in test.slices.items() if values[row] is not None],
                image=None if shown is None else address(shown),
                size=0 if shown is None else len(shown),
            )
        )
    return found


def address(pixels: NDArray[np.uint8]) -> str:
    """An (S, S, C) image, C 1 or 3, as a data address, so that a page holds it within itself."""
    stream = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
