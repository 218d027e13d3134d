"""The interval of the difference between two models."""

import numpy as np

from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import metric_difference, metric_interval


def test_models_that_are_always_right_and_always_wrong_are_not_alike():
    # Neither varies, so that the errors of both are equal: 0 on every image.
    target = np.array([0, 1] * 20)
    right, wrong = (ModelOutputs(np.where(target == called, 0.9, 0.1), 0.5) for called in (1, 0))
    for one, other, gain in ((right, wrong, 1), (wrong, right, -1)):
        found = metric_difference("precision", target, one, other)
        assert found.estimate == gain
        assert found.low <= gain <= found.high


def test_f1_is_not_compared_on_fewer_than_ten_positive_images():
    target = np.array([0] * 40 + [1] * 10)
    one, other = (np.random.default_rng(seed).random(50) for seed in (0, 1))
    assert metric_difference("f1", target, ModelOutputs(one, 0.5), ModelOutputs(other, 0.5)) is not None
    fewer = target[:-1], ModelOutputs(one[:-1], 0.5), ModelOutputs(other[:-1], 0.5)
    assert metric_difference("f1", *fewer) is None
    assert metric_difference("precision", *fewer) is not None
    assert metric_interval("f1", *fewer[:2]) is not None
