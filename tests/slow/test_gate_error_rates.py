"""Gates asked of a thousand simulated pairs of models at the size of the sample data's test (f1: of three hundred)."""

import pytest

from bench.studies import gate_error_rates

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("figure", "pairs"), [("accuracy", 1000), ("roc_auc", 1000), ("f1", 300)])
def test_equal_models_pass_as_better_ones_no_more_often_than_alpha_says(figure, pairs):
    row = gate_error_rates.run(figure, pairs)
    print(gate_error_rates.table([row]))
    assert row.false_better <= gate_error_rates.bound(pairs), row
    assert row.false_non_inferior <= gate_error_rates.bound(pairs), row
    assert row.power_better > pairs / 2, row
