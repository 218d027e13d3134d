"""`python -m bench.studies.gate_error_rates [--draws N]`: error rates and power of the gates against another model.

Simulates pairs of models on test sets and asks the interval that a relative gate uses. At the boundary of a gate
(equally good models for `better_by: 0`; a candidate that is worse by exactly the margin for `non_inferior_by`), a pass
is an error, and 5 % may pass. The grid: 60, 200 and 656 test images, 3, 10 and 30 % of them positive, a true area under
the ROC curve of .80, .95 and .995 of the champion and .03 less of the worse candidate; the margin of every other metric
is the true difference of that metric (of the calibration error: on the images that were drawn). The scores of the two
models correlate by 0, .5 and .8 within a class. Further tables: images in groups, and the power. Exits with 1 if a
limit is missed by more than two standard errors.
"""

import argparse
import math
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np

from bench.studies.simulated_models import (
    AREAS,
    CORRELATIONS,
    SHARES,
    SIZES,
    THRESHOLD,
    Model,
    draw,
    group_numbers,
    targets,
    true_calibration_error,
    true_metrics,
)
from bench.studies.tables import SEED, markdown, show
from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import METHODS, metric_difference
from twofold.promotion.gates import LESS_IS_BETTER
from twofold.promotion.test_reuse import ERROR_RATE

DRAWS = 10_000
MARGIN = 0.03
INDEPENDENT, CLUSTERED = 0.060, 0.065  # the largest share of wrong passes
GROUPS = ((4, 0.3), (8, 0.7))  # images of a group, and the share of the variance that they have in common
N, PREVALENCE, AREA = 656, 1 / 3, 0.94  # of the tables of groups and power


class Case(NamedTuple):
    """A pair of models on a test, and the gate that is asked.

    Attributes:
        candidate, champion: their true areas under the ROC curve.
        gate: `better_by` (by 0) or `non_inferior_by` (by the true difference, or by `margin`).
        group, icc: images of a group, and the share of the variance that they have in common.
        margin: of `non_inferior_by`; None for the true difference.
    """

    n: int
    share: float
    candidate: float
    champion: float
    gate: str
    correlation: float
    group: int = 1
    icc: float = 0.0
    margin: float | None = None


class Passes(NamedTuple):
    """How many pairs were judged by a metric, how many had an interval, and how many passed."""

    case: Case
    metric: str
    pairs: int
    given: int
    passed: int

    @property
    def rate(self) -> float:
        return self.passed / self.pairs

    def exceeds(self, limit: float) -> bool:
        """Whether more passed than the limit allows, beyond two standard errors."""
        return self.rate - 2 * math.sqrt(self.rate * (1 - self.rate) / self.pairs) > limit


def count(case: Case, metrics: list[str], draws: int) -> list[Passes]:
    """Judge pairs by the gate and count the passes for each metric."""
    candidate, champion = Model.of_area(case.candidate), Model.of_area(case.champion)
    target = targets(case.n, case.share)
    groups = group_numbers(target, case.group) if case.group > 1 else None
    names = None if groups is None else groups.tolist()
    own, others = (true_metrics(model, float(target.mean())) for model in (candidate, champion))
    limit = dict.fromkeys(metrics, 0.0)
    if case.gate == "non_inferior_by":
        limit = {
            metric: -abs(own[metric] - others[metric]) if case.margin is None else -case.margin for metric in metrics
        }
    numbers = [
        SEED,
        case.n,
        *(round(1000 * value) for value in case[1:4]),
        len(case.gate),
        round(10 * case.correlation),
    ]
    random = np.random.default_rng([*numbers, case.group])
    counts = {metric: np.zeros(3, int) for metric in metrics}

    def true_error(model: Model, outputs: ModelOutputs) -> float:
        return true_calibration_error(model, float(target.mean()), np.asarray(outputs.probability))

    for _ in range(draws):
        one, other = (
            ModelOutputs(probability, THRESHOLD)
            for probability in draw(random, [candidate, champion], target, case.correlation, groups, case.icc)
        )
        for metric in metrics:
            found = metric_difference(metric, target, one, other, 1 - 2 * ERROR_RATE, names)
            low = found and (-found.high if metric in LESS_IS_BETTER else found.low)
            if metric == "ece":
                limit[metric] = true_error(champion, other) - true_error(candidate, one)
            counts[metric] += [1, low is not None, low is not None and low > limit[metric]]
    return [Passes(case, metric, *counts[metric].tolist()) for metric in metrics]


def boundary_cases() -> list[Case]:
    """Both gates at their boundary over the grid."""
    return [
        Case(n, share, area - (MARGIN if gate == "non_inferior_by" else 0), area, gate, correlation)
        for n, share, area, gate, correlation in product(
            SIZES, SHARES, AREAS, ("better_by", "non_inferior_by"), CORRELATIONS
        )
    ]


def group_cases() -> list[Case]:
    """Both gates at their boundary with images in groups."""
    return [
        case._replace(correlation=correlation, group=group, icc=icc)
        for case in (
            Case(N, PREVALENCE, AREA, AREA, "better_by", 0),
            Case(N, PREVALENCE, AREA - MARGIN, AREA, "non_inferior_by", 0),
        )
        for correlation, (group, icc) in product(CORRELATIONS, GROUPS)
    ]


def power_cases(metric: str) -> list[Case]:
    """Models that are truly better by the margin than a champion of AUC .95, and equal ones, for `non_inferior_by`."""
    champion = 0.95
    better = area_of(metric, true_metrics(Model.of_area(champion), PREVALENCE)[metric] + MARGIN)
    return [
        Case(N, PREVALENCE, better if gate == "better_by" else champion, champion, gate, correlation, margin=MARGIN)
        for gate, correlation in product(("better_by", "non_inferior_by"), CORRELATIONS)
    ]


def area_of(metric: str, value: float) -> float:
    """The area under the ROC curve of the model whose metric has this value."""
    low, high = 0.5, 0.9999
    for _ in range(30):
        middle = (low + high) / 2
        found = true_metrics(Model.of_area(middle), PREVALENCE)[metric]
        low, high = (middle, high) if found < value else (low, middle)
    return low


def boundary_table(results: list[Passes], limit: float) -> str:
    """The largest share of wrong passes of each gate over the cases, as Markdown."""
    rows = []
    for metric, gate in product(METHODS, ("better_by", "non_inferior_by")):
        chosen = [each for each in results if each.metric == metric and each.case.gate == gate]
        if chosen:
            worst = max(chosen, key=lambda each: each.rate)
            case = worst.case
            where = f"n {case.n}, {case.share:.0%}, AUC {case.champion:g}, correlation {case.correlation:g}"
            where += f", groups of {case.group}" if case.group > 1 else ""
            refused = 1 - sum(each.given for each in chosen) / sum(each.pairs for each in chosen)
            missed = sum(each.exceeds(limit) for each in chosen)
            rows.append(
                [
                    metric,
                    METHODS[metric].paired,
                    f"`{gate}`",
                    f"{refused:.0%}",
                    f"{worst.rate:.3f}",
                    where,
                    f"{missed} of {len(chosen)}",
                ]
            )
    return markdown(
        ["metric", "method", "gate", "refused", f"most wrong passes (at most {limit:.3f})", "where", "cells missed"],
        rows,
    )


def power_table(results: list[Passes]) -> str:
    """The share that passed, as Markdown."""
    rows = [
        [
            each.metric,
            "better by 0.03, `better_by: 0`" if each.case.gate == "better_by" else "equal, `non_inferior_by: 0.03`",
            f"{each.case.correlation:g}",
            f"{each.rate:.3f}",
        ]
        for each in results
    ]
    return markdown(["metric", "candidate and gate", "correlation", "passed"], rows)


def main() -> None:
    """Print the tables; exit with 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--metrics", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--only", choices=("grid", "groups", "power"))
    chosen = parser.parse_args()
    texts, failed = [], False
    with ProcessPoolExecutor() as pool:
        for name, cases, limit in (("grid", boundary_cases(), INDEPENDENT), ("groups", group_cases(), CLUSTERED)):
            if chosen.only in (None, name):
                found = pool.map(partial(count, metrics=chosen.metrics, draws=chosen.draws), cases)
                results = [each for part in found for each in part]
                texts.append(boundary_table(results, limit))
                for each in results:
                    if each.exceeds(limit):
                        print(f"missed: {each}")
                failed |= any(each.exceeds(limit) for each in results)
        if chosen.only in (None, "power"):
            tasks = [(case, [metric]) for metric in ("accuracy", "roc_auc") for case in power_cases(metric)]
            found = pool.map(partial(count, draws=chosen.draws), *zip(*tasks, strict=True))
            texts.append(power_table([each for part in found for each in part]))
    show("gate_error_rates", *texts)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
