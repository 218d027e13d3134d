"""The reliability diagram: in come the bins of a test before and after calibration, out goes one picture."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from twofold.metrics.calibration import Reliability
from twofold.metrics.confidence_intervals import wilson
from twofold.reporting.charts import new_figure, percent_axes, render_figure, shorten_label
from twofold.reporting.html_page import INK, MUTED, RIGHT, WRONG, Picture

SMALLEST, LARGEST = 4.0, 12.0  # points; a dot's size says how many images it stands for


def draw_reliability_diagram(
    before: Reliability, after: Reliability, ece: tuple[float, float], positive: str
) -> Picture:
    """What the model said against what was true, a dot for every bin with an image, with its 95 % interval.

    Args:
        before: the bins of the probabilities as the network gave them.
        after: of the calibrated ones.
        ece: the expected calibration error of either.
        positive: name of the positive class.
    """
    with new_figure() as figure:
        panels = figure.subplots(2, 1, sharex=True)
        sides = (
            (before, WRONG, f"as the network gave them: ECE {ece[0]:.3f}"),
            (after, RIGHT, f"calibrated: ECE {ece[1]:.3f}"),
        )
        for axes, (found, colour, title) in zip(panels, sides, strict=True):
            _panel(axes, found, colour, title)
        panels[1].set_xlabel(f"the model's probability of {shorten_label(positive)}")
        figure.supylabel(f"truly {shorten_label(positive)}", fontsize=10.5, color=INK)
        alt = (
            f"Reliability diagram: the share of images that are {positive}, for images of which the model said about "
            f"the same. On the dashed line it can be taken at its word. The expected calibration error is "
            f"{ece[0]:.3f} as the network gave the probabilities and {ece[1]:.3f} after calibration."
        )
        return render_figure(figure, alt)


def _panel(axes: Axes, found: Reliability, colour: str, title: str) -> None:
    percent_axes(axes)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    ends = np.array([wilson(int(hits), int(n)) for hits, n in zip(found.positive, found.n, strict=True)])
    bars: dict[str, Any] = {"color": colour, "linewidth": 1.2, "alpha": 0.55}
    axes.vlines(found.probability, ends[:, 0], ends[:, 1], **bars)
    size = np.clip(LARGEST * np.sqrt(found.n / found.n.max()), SMALLEST, LARGEST)
    axes.scatter(found.probability, found.share, s=size**2, color=colour, clip_on=False, zorder=3)
    axes.set_title(title, loc="left", fontsize=10.5)
