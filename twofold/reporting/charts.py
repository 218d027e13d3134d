"""Charts as SVG and PNG from curves, counts and class names; the same input gives the same bytes.

The colours are those of `twofold.reporting.html_page`, which replaces them by CSS variables, so that a chart follows
the reader's light or dark mode.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from twofold.metrics.classification import ConfusionMatrix
from twofold.metrics.curves import Curve, Histogram
from twofold.reporting.html_page import GRID, INK, MUTED, PAPER, RIGHT, WRONG, Picture

SIZE = (4.9, 4.1)  # inches
DPI = 144  # of the PNG
Values = Sequence[float | None]

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "twofold",
    "svg.fonttype": "none",
    # A label is a folder's name and may contain "$".
    "text.parse_math": False,
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "lines.linewidth": 2.0,
    "legend.frameon": False,
}


class Point(NamedTuple):
    """The point of a curve at the model's threshold; x and y in 0..1."""

    x: float
    y: float
    threshold: float


def draw_confusion_matrix(counts: ConfusionMatrix, labels: tuple[str, str]) -> Picture:
    """Draw the confusion matrix, the positive class first; `labels` is (negative, positive)."""
    negative, positive = (shorten_label(label) for label in labels)
    cells = [
        [(counts.true_positive, "found", RIGHT), (counts.false_negative, "missed", WRONG)],
        [(counts.false_positive, "false alarms", WRONG), (counts.true_negative, "correctly passed", RIGHT)],
    ]
    with new_figure() as figure:
        axes = figure.add_subplot()
        axes.set(xlim=(0, 2), ylim=(2, 0), xticks=[0.5, 1.5], yticks=[0.5, 1.5])
        axes.set_xticklabels([positive, negative])
        axes.set_yticklabels([positive, negative], rotation=90, va="center")
        axes.set_xlabel("the model's answer", labelpad=8)
        axes.set_ylabel("true class", labelpad=8)
        axes.xaxis.set_label_position("top")
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        for row, total in enumerate((counts.positive, counts.negative)):
            for column, (count, name, colour) in enumerate(cells[row]):
                share = count / total if total else 0.0
                corner, alpha = (column + 0.02, row + 0.02), 0.08 + 0.3 * share
                axes.add_patch(Rectangle(corner, 0.96, 0.96, facecolor=colour, alpha=alpha, linewidth=0))
                axes.text(column + 0.5, row + 0.42, f"{count:,}", fontsize=24, ha="center", va="center")
                words = f"{100 * share:.1f} % of {total:,}" if total else "none in the test"
                axes.text(column + 0.5, row + 0.66, f"{name}\n{words}", fontsize=10.5, ha="center", va="center")
        alt = (
            f"Confusion matrix. Of {counts.positive:,} {labels[1]} images, {counts.true_positive:,} were found and "
            f"{counts.false_negative:,} missed. Of {counts.negative:,} {labels[0]} images, "
            f"{counts.true_negative:,} were correctly passed and {counts.false_positive:,} were false alarms."
        )
        return render_figure(figure, alt)


def draw_roc_curve(curve: Curve, auc: float, point: Point, labels: tuple[str, str]) -> Picture:
    """Draw the false-positive rate against the true-positive rate, with the point at the model's threshold."""
    negative, positive = (shorten_label(label) for label in labels)
    with new_figure() as figure:
        axes = figure.add_subplot()
        set_percent_axes(axes, xlabel=f"false alarms (% of {negative})", ylabel=f"recall (% of {positive} found)")
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="guessing")
        axes.plot(curve.x, curve.y, color=RIGHT, label=f"this model, ROC-AUC {auc:.3f}")
        _draw_point(axes, point)
        axes.legend(loc="lower right")
        alt = (
            f"ROC curve, area under it {auc:.3f}. At the threshold {point.threshold:.3f} the model finds "
            f"{point.y:.1%} of the {labels[1]} images and raises a false alarm on {point.x:.1%} of the "
            f"{labels[0]} images."
        )
        return render_figure(figure, alt)


def draw_precision_recall_curve(
    curve: Curve, average_precision: float, prevalence: float, point: Point | None, labels: tuple[str, str]
) -> Picture:
    """Draw recall against precision, with the point at the model's threshold if the curve has one."""
    positive = shorten_label(labels[1])
    with new_figure() as figure:
        axes = figure.add_subplot()
        set_percent_axes(axes, xlabel=f"recall (% of {positive} found)", ylabel="precision (% of such answers correct)")
        axes.axhline(prevalence, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="guessing")
        label = f"this model, average precision {average_precision:.3f}"
        axes.step(curve.x, curve.y, where="pre", color=RIGHT, label=label)
        alt = f"Precision-recall curve, average precision {average_precision:.3f}. "
        if point is None:
            alt += "At the threshold the model calls no image positive, so it has no point on the curve."
        else:
            _draw_point(axes, point)
            alt += (
                f"At the threshold {point.threshold:.3f} the model finds {point.x:.1%} of the {labels[1]} images, "
                f"and {point.y:.1%} of its “{labels[1]}” answers are correct."
            )
        axes.legend(loc="lower left")
        return render_figure(figure, alt)


def draw_scores(bars: Histogram, counts: ConfusionMatrix, threshold: float, labels: tuple[str, str]) -> Picture:
    """Draw the probabilities of each class, one panel per class, split at the threshold."""
    width = float(bars.high[0] - bars.low[0])
    below, straddling = bars.high <= threshold, (bars.low < threshold) & (threshold < bars.high)
    with new_figure() as figure:
        panels = figure.subplots(2, 1, sharex=True)
        sides = (
            (labels[1], bars.positive, counts.false_negative, WRONG, RIGHT),
            (labels[0], bars.negative, counts.true_negative, RIGHT, WRONG),
        )
        for axes, (label, count, passed, left, right) in zip(panels, sides, strict=True):
            under = np.where(below, count, np.where(straddling, passed - count[below].sum(), 0))
            bar: dict[str, Any] = {"width": width, "align": "edge", "edgecolor": PAPER, "linewidth": 0.8}
            for height, bottom, colour in ((under, 0 * under, left), (count - under, under, right)):
                some = height > 0  # matplotlib draws the edge of an empty bar as a line
                axes.bar(bars.low[some], height[some], bottom=bottom[some], color=colour, **bar)
            axes.axvline(threshold, color=INK, linewidth=1.4)
            title = f"true class: {shorten_label(label)} ({int(count.sum()):,} images)"
            axes.set_title(title, loc="left", fontsize=10.5)
            axes.set(xlim=(0, 1), ylabel="images")
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            axes.grid(visible=False, axis="x")
        left_of_line = threshold > 0.6
        panels[0].annotate(
            f"threshold {threshold:.3f}",
            (threshold, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if left_of_line else 5, -3),
            textcoords="offset points",
            ha="right" if left_of_line else "left",
            va="top",
        )
        panels[1].set_xlabel(f"the model's probability of {shorten_label(labels[1])} (0 to 1)")
        alt = (
            f"Histogram of the model's probability of {labels[1]}, for each true class. "
            f"The threshold is {threshold:.3f}; the model calls images at or above it {labels[1]}."
        )
        return render_figure(figure, alt)


def draw_history(
    epochs: Sequence[int], series: Mapping[str, Values], measure: str, best: int | None = None, unit: str = "epoch"
) -> Picture:
    """Draw a history: at most three lines over the epochs of a training, or over versions.

    Args:
        epochs: their numbers.
        series: by name one value per epoch; None where it was not measured.
        measure: label of the axis: what the values are, with their unit.
        best: the epoch whose weights were kept.
        unit: what `epochs` counts.
    """
    with new_figure() as figure:
        axes = figure.add_subplot()
        for (name, values), colour in zip(series.items(), (RIGHT, WRONG, INK), strict=False):
            points = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
            marker = "o" if len(points) < 40 else ""
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=3.5, label=name)
        if best is not None:
            axes.axvline(best, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=f"kept: epoch {best}")
        axes.set(xlabel={"epoch": "epoch (passes over the training images)"}.get(unit, unit), ylabel=measure)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best")
        kept = "" if best is None else f" Epoch {best} was kept."
        return render_figure(figure, f"{measure} over {len(epochs)} {unit}s: {', '.join(series)}.{kept}")


@contextmanager
def new_figure() -> Iterator[Figure]:
    """An empty figure in STYLE."""
    # The user's matplotlibrc must not change an artifact's bytes.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield Figure(figsize=SIZE, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08))


def set_percent_axes(axes: Axes, **labels: str) -> None:
    """Let both axes run from 0 to 100 %; `labels` are `xlabel` and `ylabel`."""
    axes.set(xlim=(0, 1), ylim=(0, 1.01), **labels)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def _draw_point(axes: Axes, point: Point) -> None:
    style: dict[str, Any] = {"color": INK, "markersize": 8, "markeredgecolor": PAPER, "clip_on": False, "zorder": 5}
    axes.plot([point.x], [point.y], "o", label=f"at the threshold {point.threshold:.3f}", **style)


def shorten_label(label: str, most: int = 24) -> str:
    """The name of a class, cut to `most` characters for an axis."""
    return label if len(label) <= most else label[: most - 1] + "…"


def render_figure(figure: Figure, alt: str) -> Picture:
    """Render a figure as SVG and PNG, the same bytes every time; `alt` describes it in words."""
    svg, png = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        # matplotlib's font may lack the script of a label; a browser draws the SVG with the reader's own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return Picture(svg.getvalue(), png.getvalue(), alt)
