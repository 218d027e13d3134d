"""Error rates of the gates on 1,000 simulated pairs of models (f1: 300), with as many images as the sample data."""

import pytest

from bench.studies import gate_error_rates

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("metric", "pairs"), [("accuracy", 1000), ("roc_auc", 1000), ("f1", 300)])
def test_equal_models_pass_as_better_no_more_often_than_alpha(metric, pairs):
    row = gate_error_rates.run(metric, pairs)
    print(gate_error_rates.table([row]))
    assert row.false_better <= gate_error_rates.bound(pairs), row
    assert row.false_non_inferior <= gate_error_rates.bound(pairs), row
    assert row.power_better > pairs / 2, row
