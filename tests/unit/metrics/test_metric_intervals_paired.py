"""The interval of the difference between two models."""

import numpy as np

from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import metric_difference


def test_models_that_are_always_right_and_always_wrong_are_not_alike():
    # Neither varies, so that the errors of both are equal: 0 on every image.
    target = np.array([0, 1] * 20)
    right, wrong = (ModelOutputs(np.where(target == called, 0.9, 0.1), 0.5) for called in (1, 0))
    for one, other, gain in ((right, wrong, 1), (wrong, right, -1)):
        found = metric_difference("precision", target, one, other)
        assert found.estimate == gain
        assert found.low <= gain <= found.high
