"""Fifty candidates on one test; `python -m bench.studies.weekly_candidates` replays a thousand such histories."""

import numpy as np

from bench.studies import weekly_candidates
from bench.studies.simulated_models import Model, draw


def test_a_clearly_better_model_is_promoted_and_clearly_worse_ones_are_not():
    case = weekly_candidates.cases()[0]._replace(worse=0.8, better=0.995)
    found = weekly_candidates.replay(0, case, 0.8)
    assert (found.worse, found.better) == (False, True)
    assert weekly_candidates.replay(0, case, 0.8) == found, "seeded"


def test_the_error_rate_decides():
    case = weekly_candidates.cases()[0]
    random = np.random.default_rng(0)
    one, other = draw(random, [Model.of_area(0.97), Model.of_area(0.95)], weekly_candidates.TARGET, 0.8)
    passed = [weekly_candidates.passes(case.gates, one, other, rate) for rate in (0.45, 1e-9, 0.0)]
    assert passed == [True, False, False]


def test_the_default_gates_are_those_of_params_yaml_without_the_one_on_lost_images():
    gates = weekly_candidates.cases()[-1].gates
    assert [gate.figure for gate in gates] == ["roc_auc", "accuracy", "f1"]
