"""What lies beside the report: every curve as a picture, every curve and table as CSV.

In: a test's predictions, calibrated and as the model gave them, and metrics.json. Out: pictures by name, and files for
`dvc plots` and for spreadsheets.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from twofold.evaluation import robustness
from twofold.evaluation.predictions import Predictions
from twofold.metrics import curves
from twofold.metrics.calibration import reliability_bins
from twofold.metrics.classification import METRICS, ConfusionMatrix, metrics_by_class
from twofold.metrics.confidence_intervals import wilson
from twofold.reporting import charts, reliability_diagram
from twofold.reporting.html_page import Picture

_COUNTED = ("n", "n_positive", *ConfusionMatrix._fields)


def draw_plots(
    test: Predictions, uncalibrated: ArrayLike, figures: Mapping[str, Any], labels: Sequence[str]
) -> dict[str, Picture]:
    """Every chart of a test, by its name.

    Args:
        test: the predictions, calibrated.
        uncalibrated: (N,) probabilities before the temperature, in the same order.
        figures: as in metrics.json.
        labels: (negative, positive).
    """
    names = (labels[0], labels[1])
    counts = ConfusionMatrix(*(figures[field] for field in ConfusionMatrix._fields))
    threshold = figures["threshold"]
    points = (test.target, test.probability)
    alarms = charts.Point(1 - figures["specificity"], figures["recall"], threshold)
    # Nothing called positive: there is no precision, and no place on that curve.
    trust = charts.Point(figures["recall"], figures["precision"], threshold) if counts.called else None
    return {
        "confusion": charts.draw_confusion_matrix(counts, names),
        "roc": charts.draw_roc_curve(curves.roc_curve(*points), figures["roc_auc"], alarms, names),
        "precision_recall": charts.draw_precision_recall_curve(
            curves.precision_recall_curve(*points),
            figures["average_precision"],
            counts.positive / counts.n,
            trust,
            names,
        ),
        "scores": charts.draw_scores(curves.score_histogram(*points), counts, threshold, names),
        "reliability": reliability_diagram.draw_reliability_diagram(
            reliability_bins(test.target, uncalibrated),
            reliability_bins(*points),
            (figures["ece_uncalibrated"], figures["ece"]),
            names[1],
        ),
    }


def write_tables(
    folder: Path, test: Predictions, uncalibrated: ArrayLike, figures: Mapping[str, Any], labels: Sequence[str]
) -> None:
    """Every curve and table as CSV; arguments as of `draw`."""
    points = (test.target, test.probability)
    roc, trade, bars = (
        curves.roc_curve(*points),
        curves.precision_recall_curve(*points),
        curves.score_histogram(*points),
    )
    _csv(folder / "roc.csv", ("fpr", "tpr", "threshold"), _columns(roc.x, roc.y, roc.threshold))
    _csv(
        folder / "precision_recall.csv",
        ("recall", "precision", "threshold"),
        _columns(trade.x, trade.y, trade.threshold),
    )
    _csv(folder / "scores.csv", ("low", "high", "negative", "positive"), _columns(*bars))
    for name, probability in (("reliability", test.probability), ("reliability_uncalibrated", uncalibrated)):
        found = reliability_bins(test.target, probability)
        ends = [wilson(hits, n) or (None, None) for hits, n in _columns(found.positive, found.n)]
        rows = (
            (*row, share, *interval)
            for row, share, interval in zip(_columns(*found), found.share.tolist(), ends, strict=True)
        )
        header = ("low", "high", "n", "positive", "probability", "share", "share_low", "share_high")
        _csv(folder / f"{name}.csv", header, rows)
    answers = ((label, labels[answer]) for label, answer in zip(test.label, test.predicted, strict=True))
    _csv(folder / "confusion.csv", ("actual", "predicted"), answers)
    classes = metrics_by_class(ConfusionMatrix(*(figures[field] for field in ConfusionMatrix._fields)), labels)
    shares = ("n", "called", "correct", "precision", "recall", "f1")
    _csv(
        folder / "classes.csv",
        ("class", *shares),
        ((label, *(own.get(field) for field in shares)) for label, own in classes.items()),
    )
    _csv(
        folder / "slices.csv",
        ("slice", "value", "judged", *_COUNTED, *(f"{figure}{end}" for figure in METRICS for end in _ENDS)),
        (
            (name, value, str(own["judged"]).lower(), *(own[field] for field in _COUNTED), *_figures(own))
            for name, values in figures["slices"].items()
            for value, own in values.items()
        ),
    )
    if "robustness" in figures:
        _csv(folder / "robustness.csv", *robustness.robustness_table(figures["robustness"]))


_ENDS = ("", "_low", "_high")


def _figures(own: Mapping[str, Any]) -> Iterator[float | None]:
    """Each figure of a slice and its interval's two ends."""
    for figure in METRICS:
        ends = own["intervals"].get(figure, {})
        yield from (own.get(figure), ends.get("low"), ends.get("high"))


def _columns(*arrays: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(array.tolist() for array in arrays), strict=True)


def _csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
