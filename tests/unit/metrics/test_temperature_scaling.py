"""Temperatures against values computed by hand."""

import warnings

import numpy as np
import pytest

from twofold.metrics.classification import classification_metrics
from twofold.metrics.temperature_scaling import LEAST, MOST, apply_temperature, fit_temperature


def test_an_overconfident_model():
    # Three in four of the images at 0.9 are positive: the log loss is least at .75; ln 3 = ln 9 / 2.
    assert fit_temperature([1, 1, 1, 0], [0.9] * 4) == 2.0
    assert apply_temperature([0.9], 2.0) == pytest.approx([0.75], abs=1e-12)


def test_both_sides_count_and_their_order_does_not():
    # 3 of 4 right at .9, 9 of 10 at .1, on either side: at ln 9 / T the model is right in 12 of 14.
    target = np.array([1, 1, 1, 0, *[0] * 9, 1])
    probability = np.array([0.9] * 4 + [0.1] * 10)
    expected = round(np.log(9) / np.log(12 / 2), 4)
    rng = np.random.default_rng(0)
    for _ in range(5):
        order = rng.permutation(14)
        assert fit_temperature(target[order], probability[order]) == expected


def test_an_underconfident_model():
    # .75 where 9 of 10 are positive: ln 3 / ln 9.
    assert fit_temperature([1] * 9 + [0], [0.75] * 10) == 0.5
    # .6 where 3 of 4 are: ln 1.5 / ln 3 = .3691 is below the bound.
    assert fit_temperature([1, 1, 1, 0], [0.6] * 4) == LEAST


@pytest.mark.parametrize(
    ("target", "probability", "expected"),
    [
        ([0, 1], [0.1, 0.9], LEAST),  # perfectly separated: more confidence is always better
        ([0, 1], [0.9, 0.1], MOST),  # wrong throughout
        ([1, 0], [0.9, 0.9], MOST),  # as often right as wrong
        ([1, 0], [0.5, 0.5], 1.0),  # 0.5 at any temperature
        ([0, 1], [0.0, 1.0], LEAST),
        ([1, 0, 1, 0], [0.0, 0.0, 1.0, 1.0], MOST),
    ],
)
def test_the_bounds_hold(target, probability, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit_temperature(target, probability) == expected


def test_the_fit_is_optimal_in_many_random_cases():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        logit = rng.normal(-0.5, 2, 80)
        target = (rng.random(80) < 1 / (1 + np.exp(-logit))).astype(int)
        probability = 1 / (1 + np.exp(-logit * rng.uniform(0.3, 4)))
        found = fit_temperature(target, probability)
        losses = {
            value: classification_metrics(target, apply_temperature(probability, value), 0.5)["log_loss"]
            for value in (found, *np.linspace(LEAST, MOST, 400))
        }
        assert losses[found] <= min(losses.values()) + 1e-8, seed


def test_calibration_keeps_the_order_and_0_and_1_and_a_half():
    given = np.array([0.0, 1e-100, 1e-9, 0.2, 0.5, 0.8, 1 - 2**-24, 1.0])
    for temperature in (LEAST, 1.7, MOST):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = apply_temperature(given, temperature)
        assert (np.diff(found) > 0).all(), temperature
        assert found[[0, 4, 7]].tolist() == [0.0, 0.5, 1.0]
        assert found[3] == pytest.approx(1 - found[5], abs=1e-15)


def test_a_temperature_of_1_changes_nothing_and_returns_a_copy():
    given = np.random.default_rng(0).random(100)
    found = apply_temperature(given, 1.0)
    assert found.tobytes() == given.tobytes()
    found[0] = 7
    assert given[0] != 7
