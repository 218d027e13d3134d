"""Charts: equal bytes, correct numbers, labels of any kind."""

import io
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from twofold.metrics import curves
from twofold.metrics.calibration import reliability_bins
from twofold.metrics.classification import ConfusionMatrix, classification_metrics, confusion_matrix
from twofold.reporting import charts, reliability_diagram

TARGET = [1, 1, 0, 1, 0, 1, 0, 0]
PROBABILITY = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]
LABELS = ("good", "bad")


def draw(labels=LABELS):
    counts = confusion_matrix(TARGET, PROBABILITY, 0.47)
    found = classification_metrics(TARGET, PROBABILITY, 0.47)
    trade = curves.precision_recall_curve(TARGET, PROBABILITY)
    on_roc = charts.Point(1 - found["specificity"], found["recall"], 0.47)
    on_trade = charts.Point(found["recall"], found["precision"], 0.47)
    return {
        "confusion": charts.draw_confusion_matrix(counts, labels),
        "roc": charts.draw_roc_curve(curves.roc_curve(TARGET, PROBABILITY), found["roc_auc"], on_roc, labels),
        "precision_recall": charts.draw_precision_recall_curve(
            trade, found["average_precision"], 0.5, on_trade, labels
        ),
        "scores": charts.draw_scores(curves.score_histogram(TARGET, PROBABILITY), counts, 0.47, labels),
        "reliability": reliability_diagram.draw_reliability_diagram(
            reliability_bins(TARGET, PROBABILITY), reliability_bins(TARGET, PROBABILITY), (0.375, 0.1), labels[1]
        ),
        "history": charts.draw_history(
            [1, 2, 3], {"training": [3, 2, 1], "validation": [3, None, 2]}, "loss (nats)", 2
        ),
    }


def texts(picture):
    tree = ElementTree.fromstring(picture.svg)  # noqa: S314
    return ["".join(element.itertext()).strip() for element in tree.iter("{http://www.w3.org/2000/svg}text")]


def test_the_same_figures_give_the_same_bytes_whatever_the_users_settings():
    first = draw()
    with matplotlib.rc_context(
        {"lines.linewidth": 9, "axes.linewidth": 5, "font.family": "serif", "legend.fontsize": 20}
    ):
        second = draw()
    assert first == second
    for picture in first.values():
        assert b"<dc:date>" not in picture.svg
        with Image.open(io.BytesIO(picture.png)) as image:
            assert set(image.info) <= {"dpi"}


def test_the_users_settings_are_left_as_they_were():
    before = dict(matplotlib.rcParams)
    draw()
    assert dict(matplotlib.rcParams) == before


def test_the_confusion_matrix_shows_counts_and_shares_of_its_rows():
    picture = charts.draw_confusion_matrix(ConfusionMatrix(87, 5, 1195, 13), LABELS)
    shown = texts(picture)
    for text in ("87", "13", "5", "1,195", "87.0 % of 100", "0.4 % of 1,200", "missed", "false alarms"):
        assert text in shown
    assert "Of 100 bad images, 87 were found and 13 missed" in re.sub(r"\s+", " ", picture.alt)


def test_curves_have_labelled_axes_and_the_point_where_the_model_works():
    pictures = draw()
    roc, trade = texts(pictures["roc"]), texts(pictures["precision_recall"])
    assert {"false alarms (% of good)", "recall (% of bad found)", "at the threshold 0.470"} <= set(roc)
    assert "this model, ROC-AUC 0.812" in roc
    assert {"recall (% of bad found)", "precision (% of such answers correct)", "at the threshold 0.470"} <= set(trade)
    assert {"100 %", "0 %"} <= set(roc)
    none = charts.draw_precision_recall_curve(
        curves.precision_recall_curve(TARGET, PROBABILITY), 0.8, 0.5, None, LABELS
    )
    assert not any(text.startswith("at the threshold") for text in texts(none))
    assert "no point on the curve" in none.alt


def test_a_bar_across_the_threshold_is_split_into_right_and_wrong(monkeypatch):
    drawn = []
    bar = matplotlib.axes.Axes.bar
    monkeypatch.setattr(
        matplotlib.axes.Axes,
        "bar",
        lambda self, x, height, **how: (drawn.append((how["color"], height)), bar(self, x, height, **how))[1],
    )
    # Five positives share the bar .45 to .5; the threshold .47 parts them 2 to 3.
    target, probability = [1] * 5 + [0], [0.46, 0.465, 0.48, 0.48, 0.49, 0.1]
    counts = confusion_matrix(target, probability, 0.47)
    charts.draw_scores(curves.score_histogram(target, probability), counts, 0.47, LABELS)
    heights = {(panel // 2, colour): int(np.sum(height)) for panel, (colour, height) in enumerate(drawn)}
    assert heights == {(0, charts.WRONG): 2, (0, charts.RIGHT): 3, (1, charts.RIGHT): 1, (1, charts.WRONG): 0}


@pytest.mark.parametrize("label", ["$x_5$", "<b>&", "缺陷", "a" * 200, "{}%s"])
def test_any_label_can_be_drawn(label):
    for name, picture in draw(("good", label)).items():
        assert picture.png.startswith(b"\x89PNG")
        if name != "history":
            assert any(label[:20] in text for text in texts(picture)), name


def test_the_reliability_diagram_shows_both_errors_and_a_dot_a_bin(monkeypatch):
    drawn = []
    scatter = matplotlib.axes.Axes.scatter
    monkeypatch.setattr(
        matplotlib.axes.Axes,
        "scatter",
        lambda self, x, y, **how: (drawn.append((x, y, how["s"])), scatter(self, x, y, **how))[1],
    )
    # A bin of nine images at .5, three of them positive; one of one image at 1.
    before, after = reliability_bins([1] * 3 + [0] * 6 + [1], [0.5] * 9 + [1.0]), reliability_bins([1], [1.0])
    picture = reliability_diagram.draw_reliability_diagram(before, after, (0.15, 0.0), "bad")
    assert {"uncalibrated: ECE 0.150", "calibrated: ECE 0.000", "truly bad"} <= set(texts(picture))
    x, y, size = drawn[0]
    assert (x.tolist(), y.tolist()) == ([0.5, 1.0], [1 / 3, 1.0])
    assert size[0] == pytest.approx(9 * size[1])
    assert "0.150 before calibration and 0.000 after it" in picture.alt


def test_an_empty_class_is_drawn_without_a_division():
    picture = charts.draw_confusion_matrix(ConfusionMatrix(0, 1, 2, 0), LABELS)
    assert texts(picture).count("none in the test") == 2


def test_history_marks_the_epoch_that_was_kept():
    picture = draw()["history"]
    assert {"training", "validation", "kept: epoch 2", "loss (nats)"} <= set(texts(picture))
    assert picture.alt.endswith("Epoch 2 was kept.")
