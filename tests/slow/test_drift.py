"""Drift on real photographs: rarely found without a change, always found if the brightness changed by 20 %.

A small version of `python -m bench.studies.drift_power`, which draws 200 times.
"""

import numpy as np
import pytest
from scipy.stats import binom

from bench.studies import drift_power

pytestmark = pytest.mark.slow
DRAWS, TRIES = 20, 5


def test_a_change_of_brightness_is_drift_and_no_change_is_not(monkeypatch):
    files, target = drift_power.cells()
    some = np.random.default_rng(7).permutation(len(files))[:900]
    monkeypatch.setattr(drift_power, "cells", lambda: ([files[i] for i in some], target[some]))
    monkeypatch.setattr(drift_power, "TAUGHT", 350)
    monkeypatch.setattr(drift_power, "OLD", 250)
    of = drift_power.samples((1.0, 0.8, 1.2))
    assert drift_power.NEW == 300
    assert drift_power.alarms(of[1.0], of[1.0], DRAWS) <= binom.ppf(drift_power.SURE, DRAWS, drift_power.ALPHA)
    assert [drift_power.alarms(of[1.0], of[factor], TRIES) for factor in (0.8, 1.2)] == [TRIES, TRIES]
