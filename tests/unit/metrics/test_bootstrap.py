"""Bootstrap intervals against their metrics and known distributions, and cases without an interval."""

import math

import numpy as np
import pytest

from twofold.metrics import bootstrap
from twofold.metrics.bootstrap import ModelOutputs, bca_difference, bca_interval
from twofold.metrics.classification import METRICS, classification_metrics
from twofold.metrics.confidence_intervals import tango, wilson
from twofold.metrics.metric_intervals import METHODS, metric_difference, metric_interval, metric_intervals


def sampled(n, seed=0, noise=0.8):
    """Targets and the outputs of two models, the second one noisier."""
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.3).astype(int)
    signal = 2 * target - 1 + rng.normal(size=n)
    other = signal + noise * rng.normal(size=n)
    return target, *(ModelOutputs(1 / (1 + np.exp(-scores)), 0.5) for scores in (signal, other))


@pytest.mark.parametrize("metric", bootstrap.METRICS)
def test_the_statistic_of_a_resample_is_the_metric(metric):
    target, one, _ = sampled(200)
    rounded = ModelOutputs(np.round(one.probability, 1), one.threshold)  # ties
    value = bootstrap._statistic(metric, target, rounded.probability, rounded.threshold)
    rng = np.random.default_rng(1)
    for _ in range(5):
        drawn = rng.integers(0, 200, 150)
        expected = classification_metrics(target[drawn], rounded.probability[drawn], rounded.threshold)[metric]
        assert value(drawn[None, :])[0] == pytest.approx(expected, rel=1e-12)


def test_the_interval_of_a_mean_is_the_normal_one():
    # The Brier score is a mean: its standard error is known without resampling.
    target, one, other = sampled(2000)
    losses = np.square(one.probability - target)
    error = losses.std(ddof=1) / math.sqrt(2000)
    low, high = bca_interval("brier", target, one)
    assert (losses.mean() - low, high - losses.mean()) == pytest.approx((1.96 * error, 1.96 * error), rel=0.1)
    gaps = losses - np.square(other.probability - target)
    error = gaps.std(ddof=1) / math.sqrt(2000)
    estimate, low, high = bca_difference("brier", target, one, other)
    assert estimate == pytest.approx(gaps.mean())
    assert (estimate - low, high - estimate) == pytest.approx((1.96 * error, 1.96 * error), rel=0.1)


def test_the_correction_makes_little_difference_for_many_images(monkeypatch):
    target, one, other = sampled(3000)
    corrected = bca_interval("f1", target, one), bca_difference("f1", target, one, other)
    monkeypatch.setattr(bootstrap, "MAX_CORRECTED", 500)
    plain = bca_interval("f1", target, one), bca_difference("f1", target, one, other)
    assert plain != corrected
    assert plain[0] == pytest.approx(corrected[0], abs=0.05 * (corrected[0].high - corrected[0].low))
    assert plain[1][1:] == pytest.approx(corrected[1][1:], abs=0.05 * (corrected[1].high - corrected[1].low))


def test_a_paired_difference_is_narrower_than_an_unpaired_one():
    target, one, other = sampled(400, noise=0.1)
    unpaired = math.hypot(*(high - low for low, high in (bca_interval("f1", target, m) for m in (one, other))))
    _, low, high = bca_difference("f1", target, one, other)
    assert high - low < unpaired / 2


def test_the_same_outputs_have_the_same_interval():
    target, one, other = sampled(60)
    assert bca_interval("f1", target, one) == bca_interval("f1", target, one)
    difference = bca_difference("f1", target, one, other)
    assert bca_difference("f1", target, one, other) == difference
    assert bca_difference("f1", target, other, one).estimate == -difference.estimate


def test_a_perfect_model_has_an_interval_from_counts():
    target = np.array([1] * 15 + [0] * 20)
    perfect = ModelOutputs(target * 0.9 + 0.05, 0.5)
    # Wilson's lower bound of 15 of 15 is 15 / (15 + z^2) = .79612, and F1 of that share 2 * .79612 / 1.79612.
    assert bca_interval("f1", target, perfect) == pytest.approx((0.886486, 1), abs=1e-5)
    assert bca_interval("precision", target, perfect) == pytest.approx((0.796117, 1), abs=1e-5)
    assert bca_interval("average_precision", target, perfect) == pytest.approx((0.025 ** (1 / 15), 1))
    # 35 times .05^2 as hits of 35.
    assert bca_interval("brier", target, perfect).high > 0.0025 + 0.05
    assert bca_interval("log_loss", target, perfect) is None


def test_two_models_with_equal_outputs_may_still_differ():
    target = np.array([1] * 15 + [0] * 20)
    one = ModelOutputs(target * 0.9 + 0.05, 0.5)
    for metric, n in (("precision", 15), ("average_precision", 15), ("brier", 35)):
        reach = 3.841459 / (n + 3.841459)
        assert bca_difference(metric, target, one, one) == pytest.approx((0, -reach, reach), abs=1e-6)
    assert bca_difference("f1", target, one, one) == pytest.approx((0, -0.113513, 0.113513), abs=1e-5)
    assert bca_difference("log_loss", target, one, one) is None


@pytest.mark.parametrize("n", [1, 2, 9])
def test_few_images_have_no_bootstrap_interval(n):
    target = np.array([0, 1] * n)[:n]
    one, other = ModelOutputs(np.linspace(0.2, 0.7, n), 0.5), ModelOutputs(np.linspace(0.8, 0.1, n), 0.5)
    for metric in bootstrap.METRICS:
        assert bca_difference(metric, target, one, other) is None
        found = bca_interval(metric, target, one)
        assert found is None or found.high - found.low > 0.2, metric


@pytest.mark.parametrize("target", [[0] * 12, [1] * 12])
def test_a_missing_class_gives_no_nan(target):
    one, other = ModelOutputs(np.linspace(0.2, 0.7, 12), 0.5), ModelOutputs(np.linspace(0.8, 0.1, 12), 0.5)
    for metric in METHODS:
        for found in (metric_interval(metric, target, one), metric_difference(metric, target, one, other)):
            assert found is None or all(math.isfinite(end) for end in found)
    for metric in ("roc_auc", "average_precision"):
        assert metric_interval(metric, target, one) is None
        assert metric_difference(metric, target, one, other) is None


def test_precision_with_hardly_any_positive_call_has_no_difference():
    target, one, _ = sampled(60)
    shy = ModelOutputs(one.probability, float(np.sort(one.probability)[-2]))
    assert bca_difference("precision", target, one, shy) is None


def test_every_metric_has_a_method_and_its_counts():
    assert set(METHODS) == set(METRICS)
    target, one = [1, 1, 1, 0, 0], ModelOutputs([0.9, 0.8, 0.1, 0.7, 0.1], 0.5)
    other = ModelOutputs([0.9, 0.1, 0.1, 0.1, 0.1], 0.5)
    # One is right on 3 of 5 (positives 2 of 3, negatives 1 of 2), called 3 of which 2 are hits.
    assert metric_interval("accuracy", target, one) == wilson(3, 5)
    assert metric_interval("recall", target, one) == wilson(2, 3)
    assert metric_interval("specificity", target, one) == wilson(1, 2)
    assert metric_interval("precision", target, one) == wilson(2, 3)
    # The other alone is right on one negative, the one alone on one positive.
    assert metric_difference("accuracy", target, one, other) == tango(1, 1, 5)
    assert metric_difference("recall", target, one, other) == tango(1, 0, 3)
    assert metric_difference("specificity", target, one, other) == tango(0, 1, 2)


def test_intervals_as_json_hold_their_metrics():
    target, one, _ = sampled(300)
    found = metric_intervals(target, one.probability, one.threshold)
    measured = classification_metrics(target, one.probability, one.threshold)
    assert set(found) == set(measured)
    for metric, ends in found.items():
        assert ends["low"] < measured[metric] < ends["high"]
        assert ends["method"] == METHODS[metric].single


def test_intervals_hold_the_true_value_as_often_as_their_level():
    """400 tests of 100 images from a known source: F1's true value is in about 95 % of the intervals."""
    target, one, _ = sampled(200_000)
    truth = classification_metrics(target, *one)["f1"]
    intervals = (bca_interval("f1", *sampled(100, seed=seed + 1)[:2]) for seed in range(400))
    assert sum(low <= truth <= high for low, high in intervals) >= 366  # the binomial 99.9 % bound for 95 % of 400
