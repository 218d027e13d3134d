"""The study of slow decline, in one history of each case; `python -m bench.studies.slow_decline` replays more."""

import pytest

from bench.studies import slow_decline


@pytest.mark.parametrize("name", slow_decline.CASES)
def test_many_small_losses_end_within_the_margin_of_the_best_champion(name):
    case = slow_decline.CASES[name]
    margin = case.gate.non_inferior_by
    found, earlier = slow_decline.replay(case, 0), slow_decline.replay(case, 0, earlier_rule=True)
    assert found.loss <= margin + 1e-9
    assert min(found.lowest, found.last) >= 0.95 - margin
    assert (earlier.loss > margin, earlier.lowest < 0.75) == (True, True), "as it was before"
