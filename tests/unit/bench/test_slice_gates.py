"""The study of gates over several slices: what it counts is what the gates decide."""

import numpy as np
import pytest

from bench.studies import slice_gates
from tests.support import judging_case as case
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gates import Minimum, NonInferior

GATES = (
    Minimum(figure="accuracy", min=0.85, bound="lower", slice="line"),
    NonInferior(figure="accuracy", non_inferior_by=0.08, slice="line"),
)


@pytest.mark.parametrize(("rule", "gate"), list(zip(slice_gates.RULES, GATES, strict=True)))
@pytest.mark.parametrize(
    "counts", [((78, 2, 0, 0), (70, 4, 2, 4)), ((74, 3, 0, 3), (74, 3, 0, 3)), ((60, 9, 6, 5),) * 2]
)
def test_a_rule_decides_as_the_gate_does(rule, gate, counts):
    right = np.concatenate([np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], one, axis=0) for one in counts]) == 1
    target = np.arange(len(right)) % 2
    candidate, champion = (case.answered(list(column), target) for column in right.T)
    test = case.predictions(target, candidate, {"line": np.repeat(["a", "b"], [sum(one) for one in counts])})
    verdict = evaluate_gates([gate], case.subject(test), case.beside(test, champion))
    assert slice_gates.passes(rule, counts, holm=False) == verdict.passed


@pytest.mark.parametrize("rule", slice_gates.RULES)
def test_the_full_level_passes_more_good_models_and_no_more_bad_ones(rule):
    cell = slice_gates.run(rule, 4, 80, draws=400)
    assert cell.power > cell.power_before
    assert cell.error <= 1.5 * rule.allowed
    assert cell == slice_gates.run(rule, 4, 80, draws=400), "seeded"
