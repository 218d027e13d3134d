"""`python -m bench.studies.gate_error_rates`: error rates and power of the gates, from simulated pairs of models.

Each pair answers 656 test images, a third of them positive. The score of an image is the sum of its class, a part that
both models share, and a part of each model's own, so that the answers are as similar as those of two trainings of one
network. Every pair is judged by the gates. Of equally good models, at most the share alpha may pass `better_by: 0`; so
may models that are worse by exactly the margin pass `non_inferior_by`. The power is how often a gain of three points
passes.
"""

import math
import sys
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.predictions import Predictions, build_predictions
from twofold.metrics.bootstrap import ModelOutputs
from twofold.metrics.classification import classification_metrics
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gates import Better, NonInferior
from twofold.promotion.paired_comparison import Opponent, compare
from twofold.promotion.verdict import GateInputs

N, PREVALENCE, PAIRS = 656, 1 / 3, 1000
ALPHA, MARGIN = 0.05, 0.03  # the margin is also the gain of which the power is measured
SHARED = 0.8  # of the score's variance within a class, the share that both models have in common
QUALITY = {"accuracy": 0.885, "roc_auc": 0.94, "f1": 0.82}  # of the better model of a pair


class Row(NamedTuple):
    """Number of pairs that passed each gate.

    Attributes:
        false_better: equally good ones that passed `better_by: 0`.
        false_non_inferior: ones worse by the margin that passed `non_inferior_by`.
        power_better: ones better by the margin that passed `better_by: 0`.
        power_non_inferior: equally good ones that passed `non_inferior_by`.
    """

    metric: str
    pairs: int
    false_better: int
    false_non_inferior: int
    power_better: int
    power_non_inferior: int


def bound(pairs: int) -> int:
    """The largest number of false passes that chance explains: the 99.9 % quantile of the binomial distribution."""
    from scipy.stats import binom

    return int(binom.ppf(0.999, pairs, ALPHA))


def run(metric: str, pairs: int = PAIRS, seed: int = 0) -> Row:
    """Evaluate the gates on simulated pairs and count the passes."""
    high = separation(metric, QUALITY[metric])
    low = separation(metric, QUALITY[metric] - MARGIN)
    better = Better(figure=metric, better_by=0.0)
    not_worse = NonInferior(figure=metric, non_inferior_by=MARGIN)
    counts = np.zeros(4, int)
    for number in range(pairs):
        draws = np.random.default_rng([seed, number])
        equal, worse, gain = (_pair(draws, one, other) for one, other in ((high, high), (low, high), (high, low)))
        counts += [_passes(better, equal), _passes(not_worse, worse), _passes(better, gain), _passes(not_worse, equal)]
    return Row(metric, pairs, *counts.tolist())


def separation(metric: str, value: float) -> float:
    """The distance of the classes, in standard deviations of a score, at which the metric has this value."""
    low, high = 0.1, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_value(metric, middle) < value else (low, middle)
    return low


def expected_value(metric: str, separation: float) -> float:
    """The metric over infinitely many images, with the decision threshold halfway between the classes."""
    if metric == "roc_auc":
        return NormalDist().cdf(separation / math.sqrt(2))
    hit = NormalDist().cdf(separation / 2)
    found, alarms = PREVALENCE * hit, (1 - PREVALENCE) * (1 - hit)
    return hit if metric == "accuracy" else 2 * found / (PREVALENCE + found + alarms)


def _pair(draws: np.random.Generator, one: float, other: float) -> tuple[Predictions, NDArray[np.float64]]:
    """A test with the answers of a candidate and those of a champion, at these separations."""
    target = (draws.random(N) < PREVALENCE).astype(int)
    shared = math.sqrt(SHARED) * draws.normal(size=N)
    scores = [
        separation * (target - 0.5) + shared + math.sqrt(1 - SHARED) * draws.normal(size=N)
        for separation in (one, other)
    ]
    candidate, champion = (1 / (1 + np.exp(-score)) for score in scores)
    columns: dict[str, Any] = {
        "sha256": [f"{number:03}" for number in range(N)],
        "split": ["test"] * N,
        "label": ["bad" if value else "good" for value in target],
        "target": target,
        "probability": candidate,
        "predicted": (candidate >= 0.5).astype(int),
        "group": [None] * N,
    }
    return build_predictions(columns, {}), champion


def _passes(gate: Better | NonInferior, pair: tuple[Predictions, NDArray[np.float64]]) -> bool:
    test, champion = pair
    comparison = compare(test, 0.5, {}, Opponent("1", ModelOutputs(champion, 0.5), {}))
    inputs = GateInputs(classification_metrics(test.target, test.probability, 0.5), test, 0.5)
    return evaluate_gates([gate], inputs, comparison).passed


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    header = [
        f"{rows[0].pairs} pairs, {N} images, one-sided alpha {ALPHA}: chance explains at most {bound(rows[0].pairs)} "
        "false passes",
        "",
        "| metric | equal, passed `better_by: 0` | worse by 0.03, passed `non_inferior_by: 0.03` | better by 0.03, "
        "passed `better_by: 0` | equal, passed `non_inferior_by: 0.03` |",
        "|---|---|---|---|---|",
    ]
    lines = [
        f"| {row.metric} | {row.false_better} | {row.false_non_inferior} | {row.power_better / row.pairs:.1%} | "
        f"{row.power_non_inferior / row.pairs:.1%} |"
        for row in rows
    ]
    return "\n".join(header + lines)


def main() -> None:
    """Print the table; exit with 1 if a gate has too many false passes."""
    rows = [run(metric) for metric in QUALITY]
    print(table(rows))
    sys.exit(int(any(max(row.false_better, row.false_non_inferior) > bound(row.pairs) for row in rows)))


if __name__ == "__main__":
    main()
