"""What Kubeflow's pages show of a step: numbers, an ROC curve, a confusion matrix, the verdict as Markdown.

In: the files that a step has written. Out: plain values, all of them finite; a NaN or an infinity is an error here
and not on the server, which would lose the task's result over it.
"""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from twofold.core.artifacts import read_json
from twofold.core.errors import ArtifactError
from twofold.orchestration.task import exit_with_message

MOST_POINTS = 200  # of a curve; more make the page slow and show nothing new


class Roc(NamedTuple):
    """A curve's points in order of falling threshold, all in 0..1."""

    fpr: list[float]
    tpr: list[float]
    threshold: list[float]


class Confusion(NamedTuple):
    """Images by true class (row) and the model's answer (column), both in the order of `categories`."""

    categories: list[str]
    matrix: list[list[int]]


def numbers_of(metrics: str) -> dict[str, float]:
    """Every number of a metrics file, nested ones as `a.b`; slices, intervals and robustness stay in the report.

    Raises:
        SystemExit: a number is NaN or infinite, or there is none.
    """
    with exit_with_message("display"):
        found = dict(_numbers(Path(metrics), read_json(Path(metrics)), ""))
        if not found:
            raise ArtifactError(f"{metrics}: holds no number")
        return found


def _numbers(path: Path, values: Mapping[str, Any], prefix: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += [] if key in ("slices", "intervals", "robustness") else _numbers(path, value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise ArtifactError(f"{path}: {prefix}{key} is {value}; NaN and infinity are not allowed in a result")
            found.append((prefix + key, float(value)))
    return found


def roc_points(evaluation: str) -> Roc:
    """The ROC curve that evaluate has written, thinned to MOST_POINTS with its ends kept.

    A threshold outside 0..1 (scikit-learn's first one is infinite) becomes the nearer end.

    Raises:
        SystemExit: a rate is no number in 0..1, a threshold is NaN, or there are fewer than two points.
    """
    with exit_with_message("display"):
        path = Path(evaluation) / "roc.csv"
        points = [_point(path, row) for row in _rows(path)]
        if len(points) < 2:
            raise ArtifactError(f"{path}: a curve needs two points, found {len(points)}")
        last = len(points) - 1
        count = min(len(points), MOST_POINTS)
        kept = [points[round(i * last / (count - 1))] for i in range(count)]
        return Roc(*(list(column) for column in zip(*kept, strict=True)))


def _point(path: Path, row: Mapping[str, str]) -> tuple[float, float, float]:
    try:
        fpr, tpr, threshold = (float(row[name]) for name in Roc._fields)
    except (KeyError, TypeError, ValueError):
        raise ArtifactError(f"{path}: needs the numbers {', '.join(Roc._fields)}, found {dict(row)}") from None
    if not (0 <= fpr <= 1 and 0 <= tpr <= 1) or math.isnan(threshold):
        raise ArtifactError(f"{path}: found {dict(row)}; rates lie in 0..1, and NaN is no threshold")
    return fpr, tpr, min(max(threshold, 0.0), 1.0)


def confusion_counts(evaluation: str) -> Confusion:
    """The confusion matrix of the test images.

    Raises:
        SystemExit: evaluate's files are missing, or name a class that the decision does not know.
    """
    with exit_with_message("display"):
        folder = Path(evaluation)
        labels = list(read_json(folder / "decision.json")["labels"])
        matrix = [[0] * len(labels) for _ in labels]
        for row in _rows(folder / "confusion.csv"):
            try:
                matrix[labels.index(row["actual"])][labels.index(row["predicted"])] += 1
            except (KeyError, ValueError):
                raise ArtifactError(f"{folder / 'confusion.csv'}: found {row}; classes are {labels}") from None
        return Confusion(labels, matrix)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; has evaluate run?") from None


def verdict_markdown(registration: str) -> str:
    """The verdict of register as Markdown, with every gate.

    Args:
        registration: the verdict as JSON.
    """
    with exit_with_message("display"):
        found = read_json(Path(registration))
        lines = [f"# {_cell(found['headline'])}", ""]
        lines += ["| gate | on this model | |", "|---|---|---|"]
        for gate in found["gates"]:
            word = ("passed" if gate["passed"] else "**failed**") if gate["applies"] else "does not apply"
            lines.append(f"| {_cell(gate['name'])} | {_cell(gate['detail'])} | {word} |")
        lines += ["", *(f"- {_cell(reason)}" for reason in found["reasons"])]
        champion = found["champion"]
        facts = {
            "model": found["name"],
            "version": "none was registered" if found["version"] is None else found["version"],
            "champion": "none" if champion is None else f"version {champion}",
            "judged against": "no champion"
            if found["judged_against"] is None
            else f"version {found['judged_against']}",
        }
        lines += ["", "| | |", "|---|---|", *(f"| {key} | {_cell(str(value))} |" for key, value in facts.items())]
        where = found["open"]
        lines += ["", f"[The run in MLflow](<{where}>)" if where.startswith("http") else f"In MLflow: `{where}`", ""]
        return "\n".join(lines)


def _cell(text: str) -> str:
    """A text that Markdown takes as it is."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
