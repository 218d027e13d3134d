"""Error rates of the gates on a few simulated pairs of models; `python -m bench.studies.gate_error_rates` runs more."""

import pytest

from bench.studies import gate_error_rates


@pytest.mark.parametrize(("metric", "pairs"), [("accuracy", 100), ("roc_auc", 100), ("f1", 30)])
def test_equal_models_rarely_pass_as_better(metric, pairs):
    row = gate_error_rates.run(metric, pairs)
    assert max(row.false_better, row.false_non_inferior) <= gate_error_rates.bound(pairs), row
    # A gain of three points is detected, though not every time.
    assert row.power_better > pairs / 3, row
    assert row.power_non_inferior > pairs / 3, row


def test_the_bound_for_a_thousand_pairs():
    assert gate_error_rates.bound(1000) == 73


def test_simulated_models_have_the_stated_quality():
    for metric, value in gate_error_rates.QUALITY.items():
        separation = gate_error_rates.separation(metric, value)
        assert gate_error_rates.expected_value(metric, separation) == pytest.approx(value)
    assert gate_error_rates.run("accuracy", 3) == gate_error_rates.run("accuracy", 3), "seeded"
