"""The images that only one of two models classifies correctly: reads a comparison, returns table rows and pictures."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from twofold.core.artifacts import write_csv
from twofold.evaluation.error_analysis import Pixels, data_url
from twofold.promotion.paired_comparison import PairedComparison

MOST = 10  # pictures of each side
COLUMNS = ("sha256", "label", "right", "candidate_probability", "champion_probability")
CANDIDATE, CHAMPION = "candidate", "champion"


class Disagreement(NamedTuple):
    """One image.

    Attributes:
        right: `candidate` or `champion`: the one that is correct.
        probability, other: the candidate's and the champion's, of the positive class.
        image, size: the picture as a data URL, or None; and its side in pixels.
    """

    sha256: str
    label: str
    right: str
    probability: float
    other: float
    image: str | None = None
    size: int = 0


def find_disagreements(comparison: PairedComparison) -> list[Disagreement]:
    """Return all disagreements: first those that the candidate gets right, then the champion, by falling confidence."""
    one, other = (np.asarray(model.probability) for model in (comparison.one, comparison.other))
    return [
        Disagreement(comparison.test.sha256[row], comparison.test.label[row], right, float(one[row]), float(other[row]))
        for right in (CANDIDATE, CHAMPION)
        for row in comparison.only_right(right == CANDIDATE).tolist()
    ]


def add_pictures(found: list[Disagreement], pixels: Pixels | None, most: int = MOST) -> list[Disagreement]:
    """Return at most `most` rows of each model, with pictures unless `pixels` is None."""
    kept = [row for right in (CANDIDATE, CHAMPION) for row in [each for each in found if each.right == right][:most]]
    if pixels is None:
        return kept
    images = [pixels(row.sha256) for row in kept]
    return [row._replace(image=data_url(image), size=len(image)) for row, image in zip(kept, images, strict=True)]


def write_disagreements(path: Path, found: list[Disagreement]) -> None:
    """Write all rows as CSV, without pictures."""
    write_csv(path, COLUMNS, (row[: len(COLUMNS)] for row in found))
