"""What a page shows of why a model answered as it did: in come answers with their maps, out goes explanations.json.

One file, pictures and all, so that whoever makes a page of it needs neither the images nor the model.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from twofold.core.artifacts import read_json, write_json
from twofold.core.errors import ArtifactError
from twofold.evaluation.error_analysis import ScoredImage

EXPLANATIONS, SCHEMA_VERSION = "explanations.json", 1


class Explanation(NamedTuple):
    """An answer with its map: a data address, and the same in words."""

    answer: ScoredImage
    overlay: str | None
    words: str


@dataclass(frozen=True)
class Explanations:
    """Answers and their maps.

    Attributes:
        errors: the most confident ones.
        hits: some right answers of each class.
        legend: the colours, a data address; None if there are no maps.
        positions: of a map, height and width.
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
    """Write them as JSON."""
    lists = {
        name: [{**case.answer._asdict(), "overlay": case.overlay, "words": case.words} for case in cases]
        for name, cases in (("errors", explanations.errors), ("hits", explanations.hits))
    }
    write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(explanations), **lists})


def read(path: Path) -> Explanations:
    """Read them back.

    Raises:
        ArtifactError: no such file, or it holds something else.
    """
    values = read_json(path)
    try:
        if values["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {values['schema_version']}")
        return Explanations(
            errors=[_case(case) for case in values["errors"]],
            hits=[_case(case) for case in values["hits"]],
            legend=values["legend"],
            positions=None if values["positions"] is None else (values["positions"][0], values["positions"][1]),
            untrained=values["untrained"],
            missing=values["missing"],
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactError(
            f"{path}: not the explanations that evaluate writes ({error}); run evaluate again"
        ) from None


def _case(values: dict[str, Any]) -> Explanation:
    return Explanation(
        ScoredImage(**{name: values[name] for name in ScoredImage._fields}), values["overlay"], values["words"]
    )
