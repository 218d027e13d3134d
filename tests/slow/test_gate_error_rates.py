"""Error rates of the gates at their boundary on more simulated pairs than in the unit tests, also in groups."""

import pytest

from bench.studies.gate_error_rates import CLUSTERED, INDEPENDENT, boundary_cases, count, group_cases

pytestmark = pytest.mark.slow

RARE = [case for case in boundary_cases() if (case.n, case.share, case.correlation) == (656, 0.03, 0.8)]
GROUPED = [case for case in group_cases() if case.correlation == 0.8]


@pytest.mark.parametrize(
    ("case", "limit"), [*((case, INDEPENDENT) for case in RARE), *((c, CLUSTERED) for c in GROUPED)]
)
def test_no_more_candidates_pass_at_the_boundary_than_the_level_says(case, limit):
    for found in count(case, ["accuracy", "recall", "f1", "roc_auc"], 1000):
        assert not found.exceeds(limit), found
