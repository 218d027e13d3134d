"""`python -m bench.studies.weekly_candidates [--histories N]`: fifty candidates judged on one test set, week by week.

Each history has one test of 656 images, 219 of them positive, a champion with a true area under the ROC curve of .95
(an accuracy of .878), and fifty candidates, which are judged by the gates at the error rates of `register.test_reuse`
in params.yaml. A candidate that passes is the champion of the next week. Counts the histories in which a worse
candidate is ever promoted, those in which one of four retrained tries of a truly better model is, and how often an
equal candidate passes in its week. The scores of any two models correlate by 0, .5 and .8 within a class. Exits with 1
if, at a correlation of .8, more than 10 % of the histories promote a worse candidate, or less than 70 % the better one,
beyond two standard errors.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.studies.gate_error_rates import area_of
from bench.studies.simulated_models import CORRELATIONS, THRESHOLD, Model, targets
from bench.studies.tables import SEED, markdown, show
from twofold.evaluation.predictions import build_predictions
from twofold.metrics.classification import classification_metrics
from twofold.metrics.influence import ModelOutputs
from twofold.orchestration.params_file import load_yaml
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gates import Better, Gate, NonInferior
from twofold.promotion.paired_comparison import PairedComparison
from twofold.promotion.test_reuse import error_rate
from twofold.promotion.verdict import GateInputs
from twofold.steps.register import Register

HISTORIES, CANDIDATES, TRIES = 1_000, 50, 4
EVER, FOUND = 0.10, 0.70  # the largest share of histories with a worse champion, the least with the better one
TARGET = targets(656, 1 / 3)
TEST = build_predictions(
    {
        "sha256": [f"{number:03}" for number in range(len(TARGET))],
        "split": ["test"] * len(TARGET),
        "label": ["bad" if value else "good" for value in TARGET],
        "target": TARGET,
        **dict.fromkeys(("probability", "predicted"), np.zeros(len(TARGET))),
        "group": [None] * len(TARGET),
    },
    {},
)
REGISTER = Register(**load_yaml(Path("params.yaml"))["register"])


class Case(NamedTuple):
    """Gates, and the true areas of the models that are judged by them.

    Attributes:
        limited: whether the limits apply to the case.
    """

    words: str
    gates: Sequence[Gate]
    worse: float
    better: float | None
    limited: bool = True


class History(NamedTuple):
    """Whether a worse candidate was promoted, whether a better one was, and the share of equal ones that passed."""

    worse: bool
    better: bool
    equal: float


def cases() -> list[Case]:
    """The gates of which the table has rows."""
    accuracy, f1 = ({"accuracy": 0.8776, "f1": 0.8248}[metric] for metric in ("accuracy", "f1"))
    better = area_of("accuracy", accuracy + 0.03)
    default = [gate for gate in REGISTER.gates if gate.figure != "vanished_test_images"]
    return [
        Case(
            "accuracy `better_by: 0`, worse by 0.005",
            [Better(figure="accuracy", better_by=0.0)],
            area_of("accuracy", accuracy - 0.005),
            better,
        ),
        Case("accuracy `better_by: 0`, equal", [Better(figure="accuracy", better_by=0.0)], 0.95, better, limited=False),
        Case(
            "ROC-AUC `non_inferior_by: 0.03`, worse by 0.03",
            [NonInferior(figure="roc_auc", non_inferior_by=0.03)],
            0.92,
            None,
        ),
        Case("the gates of params.yaml, worse by their margin (F1 0.05)", default, area_of("f1", f1 - 0.05), None),
    ]


def replay(seed: int, case: Case, correlation: float) -> History:
    """Judge fifty candidates, and promote each that passes."""
    random = np.random.default_rng([SEED, seed])
    shared = math.sqrt(correlation) * random.normal(size=len(TARGET))

    def answer(area: float) -> NDArray[np.float64]:
        model = Model.of_area(area)
        own = math.sqrt(1 - correlation) * random.normal(size=len(TARGET))
        return model.probability(TARGET * model.separation + shared + own)

    champion, equal = answer(0.95), 0
    tries = set(random.choice(CANDIDATES, TRIES, replace=False).tolist()) if case.better else set()
    worse = better = False
    first = champion
    for week in range(CANDIDATES):
        rate = error_rate(REGISTER.test_reuse, week + 2)  # the first candidate is the first champion
        equal += week % 5 == 0 and passes(case.gates, answer(0.95), first, rate)
        candidate = answer(case.better if case.better and week in tries else case.worse)
        if passes(case.gates, candidate, champion, rate):
            worse, better = worse or week not in tries, better or week in tries
            champion = candidate
    return History(worse, better, equal / len(range(0, CANDIDATES, 5)))


def passes(gates: Sequence[Gate], candidate: NDArray[np.float64], champion: NDArray[np.float64], rate: float) -> bool:
    """Whether a candidate passes every gate beside a champion."""
    test = replace(TEST, probability=candidate)
    one, other = (ModelOutputs(probability, THRESHOLD) for probability in (candidate, champion))
    comparison = PairedComparison("1", test, one, other, {}, ())
    subject = GateInputs(classification_metrics(TARGET, candidate, THRESHOLD), test, THRESHOLD)
    return evaluate_gates(gates, subject, comparison, error_rate=rate).passed


def main() -> None:
    """Print the table; exit with 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=HISTORIES)
    count = parser.parse_args().histories
    rows, failed = [], False
    with ProcessPoolExecutor() as pool:
        for case in cases():
            for correlation in CORRELATIONS:
                found = list(pool.map(partial(replay, case=case, correlation=correlation), range(count), chunksize=10))
                worse, better = (float(np.mean([getattr(one, name) for one in found])) for name in ("worse", "better"))
                ever, tried = (2 * math.sqrt(share * (1 - share) / count) for share in (worse, better))
                if correlation == CORRELATIONS[-1] and case.limited:
                    failed |= worse - ever > EVER or (case.better is not None and better + tried < FOUND)
                equal = float(np.mean([one.equal for one in found]))
                shown = f"{better:.1%}" if case.better else ""
                rows.append([case.words, f"{correlation:g}", f"{worse:.1%}", shown, f"{equal:.1%}"])
    header = [
        "gate and candidates",
        "correlation",
        "a worse or equal one ever promoted",
        "the better one promoted in four tries",
        "an equal one passes, per judgement",
    ]
    show("weekly_candidates", markdown(header, rows))
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
