"""`python -m bench.studies.gate_error_rates`: how often the gates are wrong, and how often they see a better model.

Simulated pairs of models on 656 test images, a third of them positive. An image's score is its class, plus what both
models see in it, plus what each of them alone sees; so the answers of a pair are as alike as those of two trainings of
one network are. Each gate is asked of every pair: models that are equally good must pass `better_by: 0` at most as
often as alpha says, and so must models that are worse by exactly the margin pass `non_inferior_by`. Then the power: how
often a gain of three points passes.
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
ALPHA, MARGIN, GAIN = 0.05, 0.03, 0.03
SHARED = 0.8  # of what is seen in an image beside its class, as a variance
QUALITY = {"accuracy": 0.885, "roc_auc": 0.94, "f1": 0.82}  # of the better model of a pair
FIGURES = tuple(QUALITY)


class Row(NamedTuple):
    """How many of so many pairs passed each gate.

    Attributes:
        false_better: equally good ones that passed `better_by: 0`.
        false_non_inferior: ones that are worse by the margin that passed `non_inferior_by`.
        power_better: ones that are better by GAIN that passed `better_by: 0`.
        power_non_inferior: equally good ones that passed `non_inferior_by`.
    """

    figure: str
    pairs: int
    false_better: int
    false_non_inferior: int
    power_better: int
    power_non_inferior: int


def bound(pairs: int) -> int:
    """The most false passes of so many pairs that chance explains: the binomial distribution's 99.9 % point."""
    from scipy.stats import binom

    return int(binom.ppf(0.999, pairs, ALPHA))


def run(figure: str, pairs: int = PAIRS, seed: int = 0) -> Row:
    """Ask the gates of simulated pairs, and count."""
    high = separation(figure, QUALITY[figure])
    low = separation(figure, QUALITY[figure] - MARGIN)
    better = Better(figure=figure, better_by=0.0)
    not_worse = NonInferior(figure=figure, non_inferior_by=MARGIN)
    assert MARGIN == GAIN
    counts = np.zeros(4, int)
    for number in range(pairs):
        draws = np.random.default_rng([seed, number])
        equal, worse, gain = (_pair(draws, one, other) for one, other in ((high, high), (low, high), (high, low)))
        counts += [_passes(better, equal), _passes(not_worse, worse), _passes(better, gain), _passes(not_worse, equal)]
    return Row(figure, pairs, *counts.tolist())


def separation(figure: str, value: float) -> float:
    """How far apart the classes lie, in standard deviations of a score, for a model of this quality."""
    low, high = 0.1, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if truly(figure, middle) < value else (low, middle)
    return low


def truly(figure: str, separation: float) -> float:
    """A figure over endlessly many images, the line drawn half-way between the classes."""
    if figure == "roc_auc":
        return NormalDist().cdf(separation / math.sqrt(2))
    hit = NormalDist().cdf(separation / 2)
    found, alarms = PREVALENCE * hit, (1 - PREVALENCE) * (1 - hit)
    return hit if figure == "accuracy" else 2 * found / (PREVALENCE + found + alarms)


def _pair(draws: np.random.Generator, one: float, other: float) -> tuple[Predictions, NDArray[np.float64]]:
    """A test with the answers of a candidate, and those of a champion, of these separations."""
    target = (draws.random(N) < PREVALENCE).astype(int)
    shared = math.sqrt(SHARED) * draws.normal(size=N)
    scores = [
        separation * (target - 0.5) + shared + math.sqrt(1 - SHARED) * draws.normal(size=N)
        for separation in (one, other)
    ]
    ours, theirs = (1 / (1 + np.exp(-score)) for score in scores)
    columns: dict[str, Any] = {
        "sha256": [f"{number:03}" for number in range(N)],
        "split": ["test"] * N,
        "label": ["bad" if value else "good" for value in target],
        "target": target,
        "probability": ours,
        "predicted": (ours >= 0.5).astype(int),
        "group": [None] * N,
    }
    return build_predictions(columns, {}), theirs


def _passes(gate: Better | NonInferior, pair: tuple[Predictions, NDArray[np.float64]]) -> bool:
    test, theirs = pair
    beside = compare(test, 0.5, {}, Opponent("1", ModelOutputs(theirs, 0.5), {}))
    return evaluate_gates(
        [gate], GateInputs(classification_metrics(test.target, test.probability, 0.5), test, 0.5), beside
    ).passed


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    share = [
        f"| {row.figure} | {row.false_better} | {row.false_non_inferior} | {row.power_better / row.pairs:.1%} | "
        f"{row.power_non_inferior / row.pairs:.1%} |"
        for row in rows
    ]
    return "\n".join(
        [
            f"{rows[0].pairs} pairs, {N} images, one-sided alpha {ALPHA}: chance explains at most "
            f"{bound(rows[0].pairs)} false passes",
            "",
            "| figure | equal, passed `better_by: 0` | worse by 0.03, passed `non_inferior_by: 0.03` | better by 0.03, "
            "passed `better_by: 0` | equal, passed `non_inferior_by: 0.03` |",
            "|---|---|---|---|---|",
            *share,
        ]
    )


def main() -> None:
    """Print the table; exit with 1 if a gate passes too many."""
    rows = [run(figure) for figure in FIGURES]
    print(table(rows))
    sys.exit(int(any(max(row.false_better, row.false_non_inferior) > bound(row.pairs) for row in rows)))


if __name__ == "__main__":
    main()
