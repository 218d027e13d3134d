"""Charts of a test by name, and its curves and tables as CSV for `dvc plots` and for spreadsheets.

Takes the predictions on the test images, calibrated and uncalibrated, and the content of metrics.json.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from twofold.core.artifacts import write_csv
from twofold.evaluation.predictions import Predictions
from twofold.evaluation.robustness import robustness_table
from twofold.metrics import curves
from twofold.metrics.calibration import reliability_bins
from twofold.metrics.classification import METRICS, ConfusionMatrix, metrics_by_class
from twofold.metrics.confidence_intervals import rate_interval
from twofold.reporting import charts, reliability_diagram
from twofold.reporting.html_page import Picture


def draw_plots(
    test: Predictions, uncalibrated: ArrayLike, metrics: Mapping[str, Any], labels: Sequence[str]
) -> dict[str, Picture]:
    """Draw every chart of a test; returns them by name.

    Args:
        test: the predictions, calibrated.
        uncalibrated: (N,) probabilities before calibration, in the same order.
        metrics: as in metrics.json.
        labels: (negative, positive).
    """
    names = (labels[0], labels[1])
    counts = ConfusionMatrix(*(metrics[field] for field in ConfusionMatrix._fields))
    scored, recall, threshold = (test.target, test.probability), metrics["recall"], metrics["threshold"]
    on_roc = charts.Point(1 - metrics["specificity"], recall, threshold)
    # Without an image called positive there is no precision, and no point on that curve.
    on_trade = charts.Point(recall, metrics["precision"], threshold) if counts.called else None
    trade, prevalence = curves.precision_recall_curve(*scored), counts.positive / counts.n
    return {
        "confusion": charts.draw_confusion_matrix(counts, names),
        "roc": charts.draw_roc_curve(curves.roc_curve(*scored), metrics["roc_auc"], on_roc, names),
        "precision_recall": charts.draw_precision_recall_curve(
            trade, metrics["average_precision"], prevalence, on_trade, names
        ),
        "scores": charts.draw_scores(curves.score_histogram(*scored), counts, threshold, names),
        "reliability": reliability_diagram.draw_reliability_diagram(
            reliability_bins(test.target, uncalibrated),
            reliability_bins(*scored),
            (metrics["ece_uncalibrated"], metrics["ece"]),
            names[1],
        ),
    }


def write_tables(
    folder: Path, test: Predictions, uncalibrated: ArrayLike, metrics: Mapping[str, Any], labels: Sequence[str]
) -> None:
    """Write every curve and table as CSV; the arguments are those of `draw_plots`."""
    scored = (test.target, test.probability)
    roc, trade = curves.roc_curve(*scored), curves.precision_recall_curve(*scored)
    write_csv(folder / "roc.csv", ("fpr", "tpr", "threshold"), _rows(roc.x, roc.y, roc.threshold))
    points = _rows(trade.x, trade.y, trade.threshold)
    write_csv(folder / "precision_recall.csv", ("recall", "precision", "threshold"), points)
    bars = curves.score_histogram(*scored)
    write_csv(folder / "scores.csv", ("low", "high", "negative", "positive"), _rows(*bars))
    header = ("low", "high", "n", "positive", "probability", "share", "share_low", "share_high")
    for name, probability in (("reliability", test.probability), ("reliability_uncalibrated", uncalibrated)):
        bins = reliability_bins(test.target, probability)
        intervals = [rate_interval(hits, n) or (None, None) for hits, n in _rows(bins.positive, bins.n)]
        rows = (
            (*row, share, *interval)
            for row, share, interval in zip(_rows(*bins), bins.share.tolist(), intervals, strict=True)
        )
        write_csv(folder / f"{name}.csv", header, rows)
    answers = ((label, labels[answer]) for label, answer in zip(test.label, test.predicted, strict=True))
    write_csv(folder / "confusion.csv", ("actual", "predicted"), answers)
    classes = metrics_by_class(ConfusionMatrix(*(metrics[field] for field in ConfusionMatrix._fields)), labels)
    fields = ("n", "called", "correct", "precision", "recall", "f1")
    rows = ((label, *(own.get(field) for field in fields)) for label, own in classes.items())
    write_csv(folder / "classes.csv", ("class", *fields), rows)
    _write_slices(folder / "slices.csv", metrics["slices"])
    if "robustness" in metrics:
        write_csv(folder / "robustness.csv", *robustness_table(metrics["robustness"]))


def _write_slices(path: Path, slices: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    counts = ("n", "n_positive", *ConfusionMatrix._fields)
    columns = [f"{metric}{suffix}" for metric in METRICS for suffix in ("", "_low", "_high")]
    rows = []
    for name, values in slices.items():
        for value, own in values.items():
            row = [name, value, str(own["judged"]).lower(), *(own[field] for field in counts)]
            for metric in METRICS:
                interval = own["intervals"].get(metric, {})
                row += [own.get(metric), interval.get("low"), interval.get("high")]
            rows.append(row)
    write_csv(path, ("slice", "value", "judged", *counts, *columns), rows)


def _rows(*columns: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.tolist() for column in columns), strict=True)
