"""Gates asked of simulated pairs of models: how often they are wrong. `python -m bench.studies.gate_error_rates` asks more of them."""

import pytest

from bench.studies import gate_error_rates


@pytest.mark.parametrize(("figure", "pairs"), [("accuracy", 100), ("roc_auc", 100), ("f1", 30)])
def test_equal_models_seldom_pass_as_better_ones(figure, pairs):
    row = gate_error_rates.run(figure, pairs)
    assert max(row.false_better, row.false_non_inferior) <= gate_error_rates.bound(pairs), row
    # Three points more are seen, if not every time.
    assert row.power_better > pairs / 3, row
    assert row.power_non_inferior > pairs / 3, row


def test_the_bound_is_what_chance_explains_of_a_thousand():
    assert gate_error_rates.bound(1000) == 73


def test_the_simulated_models_are_as_good_as_they_are_said_to_be():
    for figure, value in gate_error_rates.QUALITY.items():
        assert gate_error_rates.truly(figure, gate_error_rates.separation(figure, value)) == pytest.approx(value)
    assert gate_error_rates.run("accuracy", 3) == gate_error_rates.run("accuracy", 3), "seeded"
