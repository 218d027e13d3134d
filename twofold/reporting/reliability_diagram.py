"""The reliability diagram: the calibration of a test before and after Platt scaling, as one picture."""

import numpy as np
from matplotlib.axes import Axes

from twofold.metrics.calibration import Reliability
from twofold.metrics.confidence_intervals import rate_interval
from twofold.reporting.charts import new_figure, render_figure, set_percent_axes, shorten_label
from twofold.reporting.html_page import INK, MUTED, RIGHT, WRONG, Picture

SMALLEST, LARGEST = 4.0, 12.0  # points; the size of a dot grows with its number of images


def draw_reliability_diagram(
    before: Reliability, after: Reliability, ece: tuple[float, float], positive: str
) -> Picture:
    """Draw predicted probability against the true share, a dot with its 95 % interval per bin that has images.

    Args:
        before: the bins of the uncalibrated probabilities.
        after: the bins of the calibrated probabilities.
        ece: the expected calibration error before and after.
        positive: name of the positive class.
    """
    with new_figure() as figure:
        panels = figure.subplots(2, 1, sharex=True)
        _draw_panel(panels[0], before, WRONG, f"uncalibrated: ECE {ece[0]:.3f}")
        _draw_panel(panels[1], after, RIGHT, f"calibrated: ECE {ece[1]:.3f}")
        panels[1].set_xlabel(f"the model's probability of {shorten_label(positive)}")
        figure.supylabel(f"truly {shorten_label(positive)}", fontsize=10.5, color=INK)
        alt = (
            f"Reliability diagram: the share of images that truly are {positive}, for images with about the same "
            f"probability. On the dashed line the two agree. The expected calibration error is {ece[0]:.3f} before "
            f"calibration and {ece[1]:.3f} after it."
        )
        return render_figure(figure, alt)


def _draw_panel(axes: Axes, bins: Reliability, colour: str, title: str) -> None:
    set_percent_axes(axes)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    bounds = np.array([rate_interval(int(hits), int(n)) for hits, n in zip(bins.positive, bins.n, strict=True)])
    axes.vlines(bins.probability, bounds[:, 0], bounds[:, 1], color=colour, linewidth=1.2, alpha=0.55)
    size = np.clip(LARGEST * np.sqrt(bins.n / bins.n.max()), SMALLEST, LARGEST)
    axes.scatter(bins.probability, bins.share, s=size**2, color=colour, clip_on=False, zorder=3)
    axes.set_title(title, loc="left", fontsize=10.5)
