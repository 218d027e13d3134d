"""What the Kubeflow UI shows of a step: metrics, an ROC curve, a confusion matrix, the verdict as Markdown.

Reads the files that a step has written and returns plain, finite values. NaN and infinity are errors here, because the
Kubeflow server would lose the task's result over them.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from twofold.core.artifacts import read_csv, read_json
from twofold.core.errors import ArtifactError, exit_with_message
from twofold.core.markdown import table, text
from twofold.tracking.store import flatten

MAX_POINTS = 200  # of a curve; more make the page slow and show nothing new


class RocCurve(NamedTuple):
    """Points in order of falling threshold; all values lie in 0..1."""

    fpr: list[float]
    tpr: list[float]
    threshold: list[float]


@exit_with_message("twofold display")
def read_metrics(metrics: str) -> dict[str, float]:
    """Return every number of a metrics file, nested ones as `a.b`.

    Raises:
        SystemExit: a number is NaN or infinite, or the file holds no number.
    """
    values = flatten(read_json(Path(metrics)))
    found = {key: float(value) for key, value in values.items() if type(value) in (int, float)}
    for key, value in found.items():
        if not math.isfinite(value):
            raise ArtifactError(f"{metrics}: {key} is {value}; NaN and infinity are not allowed in a result")
    if not found:
        raise ArtifactError(f"{metrics}: holds no number")
    return found


@exit_with_message("twofold display")
def read_roc_curve(evaluation: str) -> RocCurve:
    """Return the ROC curve in an evaluation folder, thinned to MAX_POINTS with its first and last point kept.

    Thresholds are clipped to 0..1, because the first one of scikit-learn is infinite.

    Raises:
        SystemExit: a rate is not a number in 0..1, a threshold is NaN, or there are fewer than two points.
    """
    path = Path(evaluation) / "roc.csv"
    points = [_roc_point(path, row) for row in read_csv(path)]
    if len(points) < 2:
        raise ArtifactError(f"{path}: an ROC curve needs at least 2 points, found {len(points)}")
    last, count = len(points) - 1, min(len(points), MAX_POINTS)
    kept = [points[round(i * last / (count - 1))] for i in range(count)]
    return RocCurve(*map(list, zip(*kept, strict=True)))


def _roc_point(path: Path, row: Mapping[str, str]) -> tuple[float, float, float]:
    try:
        fpr, tpr, threshold = (float(row[name]) for name in RocCurve._fields)
    except (KeyError, TypeError, ValueError):
        raise ArtifactError(f"{path}: needs the numbers {', '.join(RocCurve._fields)}, found {dict(row)}") from None
    if not (0 <= fpr <= 1 and 0 <= tpr <= 1) or math.isnan(threshold):
        raise ArtifactError(f"{path}: found {dict(row)}; fpr and tpr must lie in 0..1, and threshold must not be NaN")
    return fpr, tpr, min(max(threshold, 0.0), 1.0)


@exit_with_message("twofold display")
def read_confusion_matrix(evaluation: str) -> tuple[list[str], list[list[int]]]:
    """Return the classes, and the number of test images by true class (row) and predicted class (column).

    Raises:
        SystemExit: a file of evaluate is missing, or it names a class that decision.json does not list.
    """
    path = Path(evaluation) / "confusion.csv"
    labels = list(read_json(path.with_name("decision.json"))["labels"])
    matrix = [[0] * len(labels) for _ in labels]
    for row in read_csv(path):
        try:
            matrix[labels.index(row["actual"])][labels.index(row["predicted"])] += 1
        except (KeyError, ValueError):
            raise ArtifactError(f"{path}: found {row}; the classes are {labels}") from None
    return labels, matrix


@exit_with_message("twofold display")
def render_verdict(registration: str) -> str:
    """Return the verdict in registration.json as Markdown, with every gate."""
    verdict = read_json(Path(registration))
    gates = []
    for gate in verdict["gates"]:
        result = ("passed" if gate["passed"] else "**failed**") if gate["applies"] else "does not apply"
        gates.append((text(gate["name"]), text(gate["detail"]), result))
    lines = [f"# {text(verdict['headline'])}", "", *table(["gate", "on this model", ""], gates)]
    lines += [*(f"- {text(reason)}" for reason in verdict["reasons"]), ""]
    version, champion, opponent = (verdict[key] for key in ("version", "champion", "judged_against"))
    facts = {
        "model": verdict["name"],
        "version": "none was registered" if version is None else version,
        "champion": "none" if champion is None else f"version {champion}",
        "judged against": "no champion" if opponent is None else f"version {opponent}",
        "test reuse": verdict.get("test_reuse", {}).get("words", "not recorded"),
    }
    lines += table(["", ""], [(key, text(value)) for key, value in facts.items()])
    link = verdict["open"]
    lines += [f"[The run in MLflow](<{link}>)" if link.startswith("http") else f"In MLflow: `{link}`", ""]
    return "\n".join(lines)
