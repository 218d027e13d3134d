"""Coverage of the intervals on a few simulated tests; `python -m bench.studies.interval_coverage` runs the grid."""

from bench.studies.interval_coverage import Cell, Result, measure, table

CELL = Cell(656, 0.03, 0.995, 1.0, tied=False)


def test_intervals_hold_the_true_value_where_a_class_is_rare():
    for result in measure(CELL, ["roc_auc", "recall", "f1"], 200):
        assert result.held, result
        assert result.given == 200


def test_what_is_refused_is_counted_and_a_missed_limit_is_seen():
    (refused,) = measure(CELL, ["brier"], 5)
    assert (refused.given, refused.held) == (0, True)
    missed = Result(CELL, "recall", 1000, 1000, 900, 40)
    assert not missed.held
    assert Result(CELL, "recall", 1000, 1000, 925, 40).held, "within two standard errors"
    shown = table([missed, Result(CELL._replace(ratio=2.0), "recall", 1000, 1000, 950, 20)])
    assert (
        "| recall | wilson_or_exact | equal | 0% | 0.900 (at least 0.935) | 0.040 (at most 0.035) | 1 of 1 |" in shown
    )
