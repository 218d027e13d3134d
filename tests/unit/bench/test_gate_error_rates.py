"""Error rates of the gates on a few simulated pairs of models; `python -m bench.studies.gate_error_rates` runs more."""

import numpy as np
import pytest

from bench.studies import gate_error_rates
from bench.studies.gate_error_rates import CLUSTERED, INDEPENDENT, boundary_cases, count, group_cases, power_cases
from bench.studies.simulated_models import THRESHOLD, Model, draw, group_numbers, targets, true_metrics
from twofold.metrics.classification import classification_metrics


def test_wrong_passes_are_rare_at_the_boundary():
    case = next(case for case in boundary_cases() if (case.n, case.share, case.champion) == (656, 0.03, 0.995))
    for found in count(case, ["accuracy", "roc_auc"], 100):
        assert found.given == 100
        assert not found.exceeds(INDEPENDENT), found
    clustered = next(case for case in group_cases() if case.group == 8)
    (found,) = count(clustered, ["accuracy"], 100)
    assert not found.exceeds(CLUSTERED), found
    assert count(clustered, ["accuracy"], 3) == count(clustered, ["accuracy"], 3), "seeded"


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc"])
def test_a_gain_of_three_points_is_detected_though_not_every_time(metric):
    case = next(case for case in power_cases(metric) if case.correlation == 0.8)
    better, champion = (true_metrics(Model.of_area(area), case.share)[metric] for area in (case.candidate, 0.95))
    assert better - champion == pytest.approx(0.03, abs=1e-4)
    (found,) = count(case, [metric], 60)
    assert found.rate > 0.6


@pytest.mark.parametrize("model", [Model.of_area(0.9), Model.of_area(0.9, 3.0), Model.of_area(0.9, 1.0, step=1.0)])
def test_simulated_models_have_the_stated_metrics(model):
    target = targets(60_000, 0.1)
    probability = draw(np.random.default_rng(0), [model], target)[0]
    measured = classification_metrics(target, probability, THRESHOLD)
    assert measured == pytest.approx(true_metrics(model, 0.1), abs=0.015)


def test_groups_are_of_one_class_and_of_the_stated_size():
    target = targets(100, 0.3)
    numbers = group_numbers(target, 8)
    assert np.bincount(numbers).tolist() == [8, 8, 8, 6, *[8] * 8, 6]
    assert all(len(set(target[numbers == number])) == 1 for number in range(13))


def test_two_models_correlate_within_a_class_as_stated():
    target = targets(40_000, 0.5)
    one, other = draw(np.random.default_rng(1), [Model.of_area(0.8)] * 2, target, correlation=0.5)
    scores = [np.log(each / (1 - each))[target == 0] for each in (one, other)]
    assert np.corrcoef(scores)[0, 1] == pytest.approx(0.5, abs=0.02)


def test_the_table_names_the_worst_case():
    case = boundary_cases()[0]
    results = [gate_error_rates.Passes(case._replace(n=n), "f1", 100, 100, passed) for n, passed in ((60, 3), (200, 9))]
    assert "0.090 | n 200" in gate_error_rates.boundary_table(results, INDEPENDENT)
