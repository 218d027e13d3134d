"""`python -m bench.studies.interval_coverage [--draws N] [--metrics M …]`: what the 95 % intervals of one model cover.

For every cell of a grid (60, 200 and 656 test images, 3, 10 and 30 % of them positive; a true area under the ROC curve
of .80, .95 and .995; the positive class 1/2, 1, 2 and 3 times as wide as the other; scores as they are and rounded to
steps of one standard deviation), draws test sets from a simulated model and counts how often the interval that
`metric_intervals` gives holds the true value, and how often that lies below it. Prints the worst cell for each metric
and writes `bench/results/studies/interval_coverage.md`. Exits with 1 if a limit is missed by more than two standard
errors.
"""

import argparse
import math
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product, starmap
from typing import NamedTuple

import numpy as np

from bench.studies.simulated_models import (
    AREAS,
    RATIOS,
    SHARES,
    SIZES,
    THRESHOLD,
    Model,
    draw,
    targets,
    true_calibration_error,
    true_metrics,
)
from bench.studies.tables import SEED, markdown, show
from twofold.metrics.classification import confusion_matrix
from twofold.metrics.confidence_intervals import Interval
from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import METHODS, metric_interval

DRAWS = 10_000
RANKED = ("roc_auc", "average_precision", "log_loss", "brier", "ece")  # the others depend on the confusion matrix alone
# By whether both classes are equally wide: the least coverage, and the largest share of truths below the lower bound.
LIMITS = {True: (0.935, 0.035), False: (0.92, 0.05)}


class Cell(NamedTuple):
    """One cell of the grid."""

    n: int
    share: float
    area: float
    ratio: float
    tied: bool


class Result(NamedTuple):
    """For one metric: how many draws had an interval, how many of those held the true value, how many lay above it."""

    cell: Cell
    metric: str
    draws: int
    given: int
    covered: int
    below: int

    @property
    def coverage(self) -> float:
        return self.covered / self.given

    @property
    def share_below(self) -> float:
        return self.below / self.given

    @property
    def held(self) -> bool:
        """Whether both limits are met, within two standard errors."""
        if not self.given:
            return True
        least, most = LIMITS[self.cell.ratio == 1]

        def error(share: float) -> float:
            return 2 * math.sqrt(share * (1 - share) / self.given)

        return self.coverage + error(self.coverage) >= least and self.share_below - error(self.share_below) <= most


def measure(cell: Cell, metrics: list[str], draws: int) -> list[Result]:
    """Draw test sets of a cell and count for each metric."""
    model = Model.of_area(cell.area, cell.ratio, step=float(cell.tied))
    target = targets(cell.n, cell.share)
    true = true_metrics(model, float(target.mean()))
    random = np.random.default_rng([SEED, cell.n, *(round(1000 * value) for value in cell[1:])])
    counts = {metric: np.zeros(4, int) for metric in metrics}
    known: dict[tuple[object, ...], Interval | None] = {}
    for number in range(draws):
        [probability] = draw(random, [model], target)
        outputs, confusion = ModelOutputs(probability, THRESHOLD), confusion_matrix(target, probability, THRESHOLD)
        for metric in metrics:
            key = (metric, number if metric in RANKED else confusion)
            if key not in known:
                known[key] = metric_interval(metric, target, outputs)
            found = known[key]
            value = true[metric]
            if metric == "ece":
                value = true_calibration_error(model, float(target.mean()), probability)
            held = found is not None and found.low <= value <= found.high
            counts[metric] += [1, found is not None, held, found is not None and value < found.low]
    return [Result(cell, metric, *counts[metric].tolist()) for metric in metrics]


def table(results: list[Result]) -> str:
    """The worst cells of each metric as Markdown, apart for equally and unequally wide classes."""
    rows = []
    for metric in dict.fromkeys(result.metric for result in results):
        for equal in (True, False):
            chosen = [each for each in results if each.metric == metric and (each.cell.ratio == 1) == equal]
            given = [each for each in chosen if each.given]
            drawn = sum(each.draws for each in chosen)
            refused = 1 - sum(each.given for each in chosen) / drawn
            worst = min(given, key=lambda each: each.coverage)
            lowest = max(given, key=lambda each: each.share_below)
            least, most = LIMITS[equal]
            rows.append(
                [
                    metric,
                    METHODS[metric].single,
                    "equal" if equal else "1/2, 2, 3",
                    f"{refused:.0%}",
                    f"{worst.coverage:.3f} (at least {least})",
                    f"{lowest.share_below:.3f} (at most {most})",
                    f"{sum(not each.held for each in chosen)} of {len(given)}",
                ]
            )
    header = ["metric", "method", "width of the classes", "refused", "least coverage", "most below", "cells missed"]
    return markdown(header, rows)


def main() -> None:
    """Print the table; exit with 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--metrics", nargs="+", default=list(METHODS), choices=list(METHODS))
    chosen = parser.parse_args()
    with ProcessPoolExecutor() as pool:
        cells = list(starmap(Cell, product(SIZES, SHARES, AREAS, RATIOS, (False, True))))
        parts = pool.map(partial(measure, metrics=chosen.metrics, draws=chosen.draws), cells)
        results = [result for part in parts for result in part]
    show("interval_coverage", table(results))
    for each in results:
        if not each.held:
            print(f"missed: {each}: coverage {each.coverage:.4f}, below {each.share_below:.4f}")
    sys.exit(int(not all(each.held for each in results)))


if __name__ == "__main__":
    main()
