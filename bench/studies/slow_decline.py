"""`python -m bench.studies.slow_decline [--histories N]`: where many small losses end, in simulated weeks on one test.

In each history a model is judged every week on the same 2,100 test images, of which 1,000 positive ones are in each of
two slices. The models answer alike: of the score of an image, within its slice, 80 % of the variance is shared by all.

- *slices*: the gate is `recall non_inferior_by: 0.08, slice: type`. In ten weeks the recall of one slice falls from .95
  by 3 points a week, that of the other rises by 6.
- *gate out*: the gate is `recall non_inferior_by: 0.05`. It is taken out for one week, in which the recall falls from
  .95 to .70, and is put back; six candidates have .68, the last one .95 again.

Each is replayed by the rule of twofold.promotion.best_champion, and by the rule of earlier versions: the best champion
before was kept by metric, only in weeks with a gate on it, and replaced by any higher estimate. The share of histories
in which the gate let a model pass that is truly worse than a champion before by more than the margin must be at most 5
%, less two standard errors. A thousand histories take about ten minutes on two cores.
"""

import argparse
import math
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.studies.tables import SEED, markdown, show
from twofold.evaluation.predictions import Predictions, build_predictions
from twofold.metrics.influence import ModelOutputs
from twofold.promotion.best_champion import as_tags, best_champions_before, inherited_best
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gates import Minimum, NonInferior
from twofold.promotion.paired_comparison import Opponent, PairedComparison, compare
from twofold.promotion.verdict import GateInputs

HISTORIES = 1_000
POSITIVE, NEGATIVE = 1000, 50  # images of each slice
SHARED, LIMIT = 0.8, 0.05
TYPES = ("falling", "rising")
TARGET = np.tile(np.repeat([1, 0], [POSITIVE, NEGATIVE]), len(TYPES))
IMAGES = [f"{number:04}" for number in range(len(TARGET))]
NO_GATE = Minimum(figure="recall", min=0.0)


class Week(NamedTuple):
    """The true recall of a candidate in both slices, and whether the non-inferiority gate is asked."""

    recall: tuple[float, float]
    gated: bool = True


class Case(NamedTuple):
    """A gate and its weeks; the first model has no champion before it."""

    gate: NonInferior
    weeks: list[Week]


CASES = {
    "slices": Case(
        NonInferior(figure="recall", non_inferior_by=0.08, slice="type"),
        [Week((0.95 - 0.03 * week, 0.41 + 0.06 * week)) for week in range(10)],
    ),
    "gate out": Case(
        NonInferior(figure="recall", non_inferior_by=0.05),
        [Week((0.95, 0.95)), Week((0.70, 0.70), gated=False), *[Week((0.68, 0.68))] * 6, Week((0.95, 0.95))],
    ),
}


class History(NamedTuple):
    """True values of one history.

    Attributes:
        lowest: the lowest recall of the first slice that passed the gate.
        last: that of the last champion.
        loss: the most that a model that passed the gate was worse than a champion before, in any slice.
    """

    lowest: float
    last: float
    loss: float


def replay(case: Case, seed: int, earlier_rule: bool = False) -> History:
    """Judge the candidates of all weeks, and promote each that passes.

    Args:
        earlier_rule: whether the best champion before is kept as in earlier versions.
    """
    draws = np.random.default_rng([SEED, seed])
    shared = math.sqrt(SHARED) * draws.normal(size=len(TARGET))
    tests = [_answer(week, shared, draws) for week in case.weeks]
    champions, tags = [0], dict[str, str]()
    lowest, loss = case.weeks[0].recall[0], 0.0
    for number, week in enumerate(case.weeks[1:], start=1):
        judge = _judge_by_estimate if earlier_rule else _judge
        passed, inherited = judge(case.gate if week.gated else NO_GATE, tests, number, champions[-1], tags)
        if not passed:
            continue
        if week.gated:
            lowest = min(lowest, week.recall[0])
            losses = [case.weeks[one].recall[part] - week.recall[part] for one in champions for part in (0, 1)]
            loss = max(loss, *losses)
        champions.append(number)
        tags = inherited
    return History(lowest, case.weeks[champions[-1]].recall[0], loss)


def _answer(week: Week, shared: NDArray[np.float64], draws: np.random.Generator) -> Predictions:
    """The test with a model's answers, which are all right on negative images."""
    score = shared + math.sqrt(1 - SHARED) * draws.normal(size=len(shared))
    limit = np.repeat([NormalDist().inv_cdf(recall) for recall in week.recall], POSITIVE + NEGATIVE)
    called = (score < limit) & (TARGET == 1)
    columns: dict[str, Any] = {
        "sha256": IMAGES,
        "split": ["test"] * len(TARGET),
        "label": np.where(TARGET == 1, "bad", "good"),
        "target": TARGET,
        "probability": np.where(called, 0.9, 0.1),
        "predicted": called,
        "group": [None] * len(TARGET),
    }
    return build_predictions(columns, {"type": np.repeat(TYPES, POSITIVE + NEGATIVE)})


def _compare(tests: list[Predictions], number: int, other: int) -> PairedComparison:
    opponent = Opponent(str(other + 1), ModelOutputs(tests[other].probability, 0.5), {})
    return compare(tests[number], 0.5, {}, opponent)


def _judge(
    gate: NonInferior | Minimum, tests: list[Predictions], number: int, champion: int, tags: Mapping[str, str]
) -> tuple[bool, dict[str, str]]:
    before = best_champions_before(tags, [gate], 1, tests[number])
    scored = {str(champion + 1): _compare(tests, number, champion)}
    scored |= {one: _compare(tests, number, int(one) - 1) for one in set(before.values()) - scored.keys()}
    beside = scored[str(champion + 1)]
    best = {key: scored[one] for key, one in before.items() if scored[one] is not beside}
    passed = evaluate_gates([gate], GateInputs(beside.own, tests[number], 0.5), beside, best).passed
    return passed, as_tags(inherited_best(tags, 1, beside, best, ["recall"]), {}) if passed else {}


def _judge_by_estimate(
    gate: NonInferior | Minimum, tests: list[Predictions], number: int, champion: int, tags: Mapping[str, str]
) -> tuple[bool, dict[str, str]]:
    beside = _compare(tests, number, champion)
    inputs = GateInputs(beside.own, tests[number], 0.5)
    passed = evaluate_gates([gate], inputs, beside).passed
    if not passed or isinstance(gate, Minimum):
        return passed, dict(tags)
    best = _compare(tests, number, int(tags["recall"]) - 1) if "recall" in tags else beside
    passed = evaluate_gates([gate], inputs, best).passed
    return passed, {"recall": best.version} if best.own["recall"] < best.metrics["recall"] else {}


def main() -> None:
    """Print the table; exit with 1 if too many models passed that are beyond the margin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=HISTORIES)
    histories = parser.parse_args().histories
    rows, held = [], True
    for name, case in CASES.items():
        for earlier in (True, False):
            with ProcessPoolExecutor() as pool:
                found = list(pool.map(replay, *zip(*((case, seed, earlier) for seed in range(histories)), strict=True)))
            share = sum(one.loss > case.gate.non_inferior_by + 1e-9 for one in found) / histories
            lowest, last = (sum(values) / histories for values in list(zip(*found, strict=True))[:2])
            rule = "by estimate, as before" if earlier else "by proof"
            rows.append([name, rule, f"{share:.1%}", f"{lowest:.3f}", f"{last:.3f}"])
            held &= earlier or share - 2 * math.sqrt(share * (1 - share) / histories) <= LIMIT
    header = ["case", "best champion before", "passed beyond the margin", "lowest recall that passed", "last champion"]
    show("slow_decline", f"{histories} histories:", markdown(header, rows))
    sys.exit(int(not held))


if __name__ == "__main__":
    main()
