"""explanations.json: answers of the model with their Grad-CAM maps; written by evaluate, read by the pages.

The file contains the pictures, so that a page can be rendered from it without the images and without the model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from twofold.core.artifacts import read_json, write_json
from twofold.core.errors import ArtifactError
from twofold.evaluation.error_analysis import ScoredImage

EXPLANATIONS, SCHEMA_VERSION = "explanations.json", 1


class Explanation(NamedTuple):
    """An answer with its map: the overlay as a data URL (None without a map), and a description in words."""

    answer: ScoredImage
    overlay: str | None
    words: str


@dataclass(frozen=True)
class Explanations:
    """Answers and their maps.

    Attributes:
        errors: the most confident errors.
        hits: some correct answers of each class.
        legend: the colours of the maps as a data URL; None if there are no maps.
        positions: height and width of a map; None if there are no maps.
        untrained: median rank correlation of these maps with those of the same network with random weights.
        missing: why there are no maps; empty if there are.
    """

    errors: list[Explanation]
    hits: list[Explanation]
    legend: str | None
    positions: tuple[int, int] | None
    untrained: float | None
    missing: str


def write(path: Path, explanations: Explanations) -> None:
    """Write the explanations as JSON."""
    cases = {
        name: [{**case.answer._asdict(), "overlay": case.overlay, "words": case.words} for case in values]
        for name, values in (("errors", explanations.errors), ("hits", explanations.hits))
    }
    write_json(path, {"schema_version": SCHEMA_VERSION, **vars(explanations), **cases})


def read(path: Path) -> Explanations:
    """Read the explanations back.

    Raises:
        ArtifactError: the file is missing or has another content.
    """
    values = read_json(path)
    try:
        if values["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {values['schema_version']}")
        return Explanations(
            errors=[_read_case(case) for case in values["errors"]],
            hits=[_read_case(case) for case in values["hits"]],
            legend=values["legend"],
            positions=None if values["positions"] is None else (values["positions"][0], values["positions"][1]),
            untrained=values["untrained"],
            missing=values["missing"],
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactError(
            f"{path}: not the explanations that evaluate writes ({error}); run evaluate again"
        ) from None


def _read_case(values: dict[str, Any]) -> Explanation:
    answer = ScoredImage(**{name: values[name] for name in ScoredImage._fields})
    return Explanation(answer, values["overlay"], values["words"])
