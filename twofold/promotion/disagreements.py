"""The images that only one of two models gets right: in comes a comparison, out go rows of a table and pictures."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from twofold.evaluation.error_analysis import Pixels, data_url
from twofold.promotion.paired_comparison import PairedComparison

MOST = 10  # pictures of each side
COLUMNS = ("sha256", "label", "right", "candidate_probability", "champion_probability")
CANDIDATE, CHAMPION = "candidate", "champion"


class Disagreement(NamedTuple):
    """One image.

    Attributes:
        right: `candidate` or `champion`, whichever alone got it right.
        probability: the candidate's, of the positive class; `other`: the champion's.
        image: the picture as a data address, None if pictures are left out.
        size: the picture's side in pixels.
    """

    sha256: str
    label: str
    right: str
    probability: float
    other: float
    image: str | None = None
    size: int = 0


def find_disagreements(comparison: PairedComparison) -> list[Disagreement]:
    """All of them: first those that the candidate alone gets right, the one that it is surest of before the others."""
    one, other = (np.asarray(who.probability) for who in (comparison.one, comparison.other))
    return [
        Disagreement(comparison.test.sha256[row], comparison.test.label[row], right, float(one[row]), float(other[row]))
        for right in (CANDIDATE, CHAMPION)
        for row in comparison.only_right(right == CANDIDATE).tolist()
    ]


def add_pictures(found: list[Disagreement], pixels: Pixels | None, most: int = MOST) -> list[Disagreement]:
    """At most `most` of each side, with their pictures unless these are left out."""
    kept = [own for right in (CANDIDATE, CHAMPION) for own in [row for row in found if row.right == right][:most]]
    if pixels is None:
        return kept
    shown = [pixels(row.sha256) for row in kept]
    return [row._replace(image=data_url(image), size=len(image)) for row, image in zip(kept, shown, strict=True)]


def write_disagreements(path: Path, found: list[Disagreement]) -> None:
    """Write all of them as CSV, without pictures."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row[: len(COLUMNS)] for row in found)
