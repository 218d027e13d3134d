"""Platt scaling against values computed by hand and against scipy's minimum."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from twofold.metrics.platt_scaling import LEAST, MOST, PlattScaling, fit_platt_scaling, recorded_scaling


def sigmoid(logit):
    return 1 / (1 + np.exp(-np.asarray(logit, float)))


def logit(probability):
    return np.log(probability / (1 - np.asarray(probability)))


def loss(slope, intercept, logits, target):
    """The log loss for Platt's targets."""
    positives, negatives = target.sum(), (1 - target).sum()
    aim = np.where(target == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    line = slope * logits + intercept
    return np.mean(np.logaddexp(0, line) - aim * line)


def test_two_probabilities_by_hand():
    # 5 of 8 images at .9 and 1 of 8 at .1 are positive. As if one more of each class had either label, the 6 positive
    # and 10 negative ones aim at 7/8 and 1/12: at .9 a mean of (5 * 7/8 + 3/12) / 8, at .1 of (7/8 + 7/12) / 8.
    target, probability = [1] * 5 + [0] * 3 + [1] + [0] * 7, [0.9] * 8 + [0.1] * 8
    high, low = logit((5 * 7 / 8 + 3 / 12) / 8), logit((7 / 8 + 7 / 12) / 8)
    slope = (high - low) / (2 * np.log(9))
    assert fit_platt_scaling(target, probability) == pytest.approx((slope, (high + low) / 2), abs=1e-4)


def test_the_fit_is_scipys_minimum_and_its_order_does_not_matter():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 2, 200)
        target = (rng.random(200) < sigmoid(0.6 * logits - 1.5)).astype(int)
        best = minimize(lambda x, logits=logits, target=target: loss(*x, logits, target), (1, 0), tol=1e-10).x
        found = fit_platt_scaling(target, sigmoid(logits))
        assert found == pytest.approx(best, abs=2e-4), seed
        order = rng.permutation(200)
        assert fit_platt_scaling(target[order], sigmoid(logits[order])) == found


@pytest.mark.parametrize(
    ("target", "probability", "slope"),
    [
        ([0, 1], [0.9, 0.1], LEAST),  # wrong throughout
        ([1, 0, 1, 0], [0.0, 0.0, 1.0, 1.0], LEAST),  # as often right as wrong
        ([0] * 50 + [1] * 50, [0.499] * 50 + [0.501] * 50, MOST),  # right, but hardly told apart
        ([1, 0], [0.5, 0.5], 1.0),  # one probability for all
    ],
)
def test_the_slope_has_bounds(target, probability, slope):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_platt_scaling(target, probability) == (slope, 0.0)


def test_images_that_a_threshold_separates_give_finite_numbers():
    # 1 and 8 more, of one probability each, would be 1/10 and 9/10.
    found = fit_platt_scaling([0] * 8 + [1] * 8, [0.2] * 8 + [0.9] * 8)
    assert found.calibrate([0.2, 0.9]) == pytest.approx([0.1, 0.9], abs=1e-4)
    # All are positive or all negative with the same probability.
    assert fit_platt_scaling([0, 0, 0, 1], [0.5] * 4).calibrate(0.5) == pytest.approx((3 / 5 + 2 / 3) / 4, abs=1e-4)


def test_calibration_keeps_the_order_and_0_and_1():
    given = np.array([0.0, 1e-20, 1e-9, 0.2, 0.5, 0.8, 0.97, 1.0])
    for slope in (LEAST, 1.7, MOST):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = PlattScaling(slope, -0.3).calibrate(given)
        assert (np.diff(found) > 0).all(), slope
        assert found[[0, 7]].tolist() == [0.0, 1.0]
        assert found[4] == pytest.approx(sigmoid(-0.3), abs=1e-15)
        assert PlattScaling(slope, -0.3).inverse().calibrate(found) == pytest.approx(given, abs=1e-3)


def test_slope_1_and_intercept_0_change_nothing_and_return_a_copy():
    given = np.random.default_rng(0).random(100)
    found = PlattScaling(1.0, 0.0).calibrate(given)
    assert found.tobytes() == given.tobytes()
    found[0] = 7
    assert given[0] != 7


def test_earlier_decisions_are_read_with_the_intercept_0():
    assert recorded_scaling({}) == (1.0, 0.0)
    assert recorded_scaling({"temperature": 1.6}) == (1 / 1.6, 0.0)
    assert recorded_scaling({"platt_slope": 0.5, "platt_intercept": -2}) == (0.5, -2.0)


@pytest.mark.parametrize("share", [0.03, 0.1])
def test_an_intercept_undoes_class_weights_which_a_temperature_cannot(share):
    """A score of the classes N(0, 1) and N(2, 1), and a network that doubles its logit under balanced weights."""

    def draw(n, seed):
        rng = np.random.default_rng(seed)
        target = (rng.permutation(n) < share * n).astype(int)
        evidence = 2 * rng.normal(2 * target, 1) - 2  # the logit if both classes were as frequent
        return target, evidence, sigmoid(2 * evidence)

    for seed in range(5):
        target, _, probability = draw(1000, seed)
        test, evidence, on_test = draw(100_000, 100 + seed)
        true = np.mean((evidence + logit(share) >= 0) == test)
        platt = np.mean((fit_platt_scaling(target, probability).calibrate(on_test) >= 0.5) == test)
        assert platt == pytest.approx(true, abs=0.005)
        margin = (2 * target - 1) * logit(probability)
        found = minimize_scalar(
            lambda slope, margin=margin: np.logaddexp(0, -slope * margin).mean(), bounds=(0.01, 10), method="bounded"
        )
        tempered = np.mean((sigmoid(found.x * logit(on_test)) >= 0.5) == test)
        assert tempered < 0.85 < 1 - share < true
