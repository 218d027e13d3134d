"""Bootstrap intervals: against the figures that they are of, against known distributions, and where there is none."""

import math

import numpy as np
import pytest

from twofold.metrics import bootstrap
from twofold.metrics.bootstrap import ModelOutputs, bca_difference, bca_interval
from twofold.metrics.classification import METRICS, classification_metrics
from twofold.metrics.confidence_intervals import tango, wilson
from twofold.metrics.metric_intervals import METHODS, metric_difference, metric_interval, metric_intervals


def sampled(n, seed=0, noise=0.8):
    """Targets and the answers of two models of which the second knows less."""
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.3).astype(int)
    signal = 2 * target - 1 + rng.normal(size=n)
    other = signal + noise * rng.normal(size=n)
    return target, *(ModelOutputs(1 / (1 + np.exp(-scores)), 0.5) for scores in (signal, other))


@pytest.mark.parametrize("figure", bootstrap.METRICS)
def test_what_is_drawn_is_the_figure_itself(figure):
    target, one, _ = sampled(200)
    rounded = ModelOutputs(np.round(one.probability, 1), one.threshold)  # ties
    value = bootstrap._statistic(figure, target, rounded.probability, rounded.threshold)
    rng = np.random.default_rng(1)
    for _ in range(5):
        drawn = rng.integers(0, 200, 150)
        expected = classification_metrics(target[drawn], rounded.probability[drawn], rounded.threshold)[figure]
        assert value(drawn[None, :])[0] == pytest.approx(expected, rel=1e-12)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    # The Brier score is a mean: its standard error is known without drawing anything.
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


def test_above_plenty_of_images_the_correction_is_left_out_and_makes_no_difference(monkeypatch):
    target, one, other = sampled(3000)
    corrected = bca_interval("f1", target, one), bca_difference("f1", target, one, other)
    monkeypatch.setattr(bootstrap, "PLENTY", 500)
    plain = bca_interval("f1", target, one), bca_difference("f1", target, one, other)
    assert plain != corrected
    assert plain[0] == pytest.approx(corrected[0], abs=0.05 * (corrected[0].high - corrected[0].low))
    assert plain[1][1:] == pytest.approx(corrected[1][1:], abs=0.05 * (corrected[1].high - corrected[1].low))


def test_pairs_make_the_difference_sharper_than_two_intervals_apart():
    target, one, other = sampled(400, noise=0.1)
    apart = math.hypot(
        *(high - low for low, high in (bca_interval("f1", target, one), bca_interval("f1", target, other)))
    )
    _, low, high = bca_difference("f1", target, one, other)
    assert high - low < apart / 2


def test_the_same_answers_have_the_same_interval():
    target, one, other = sampled(60)
    assert bca_interval("f1", target, one) == bca_interval("f1", target, one)
    assert bca_difference("f1", target, one, other) == bca_difference("f1", target, one, other)
    turned = bca_difference("f1", target, other, one)
    assert turned.estimate == -bca_difference("f1", target, one, other).estimate


def test_a_faultless_model_has_an_interval_by_counts():
    target = np.array([1] * 15 + [0] * 20)
    perfect = ModelOutputs(target * 0.9 + 0.05, 0.5)
    # Wilson's lower end of 15 of 15 is 15 / (15 + z^2) = .79612, and F1 of that share 2 * .79612 / 1.79612.
    assert bca_interval("f1", target, perfect) == pytest.approx((0.886486, 1), abs=1e-5)
    assert bca_interval("precision", target, perfect) == pytest.approx((0.796117, 1), abs=1e-5)
    assert bca_interval("average_precision", target, perfect) == pytest.approx((0.025 ** (1 / 15), 1))
    # 35 times .05^2 as hits of 35.
    assert bca_interval("brier", target, perfect).high > 0.0025 + 0.05
    assert bca_interval("log_loss", target, perfect) is None


def test_two_that_answered_every_image_alike_may_still_differ():
    target = np.array([1] * 15 + [0] * 20)
    one = ModelOutputs(target * 0.9 + 0.05, 0.5)
    for figure, n in (("precision", 15), ("average_precision", 15), ("brier", 35)):
        reach = 3.841459 / (n + 3.841459)
        assert bca_difference(figure, target, one, one) == pytest.approx((0, -reach, reach), abs=1e-6)
    assert bca_difference("f1", target, one, one) == pytest.approx((0, -0.113513, 0.113513), abs=1e-5)
    assert bca_difference("log_loss", target, one, one) is None


@pytest.mark.parametrize("n", [1, 2, 9])
def test_a_bootstrap_of_a_handful_of_images_is_refused(n):
    target = np.array([0, 1] * n)[:n]
    one, other = ModelOutputs(np.linspace(0.2, 0.7, n), 0.5), ModelOutputs(np.linspace(0.8, 0.1, n), 0.5)
    for figure in bootstrap.METRICS:
        assert bca_difference(figure, target, one, other) is None
        found = bca_interval(figure, target, one)
        assert found is None or found.high - found.low > 0.2, figure


@pytest.mark.parametrize("target", [[0] * 12, [1] * 12])
def test_a_missing_class_is_no_nan(target):
    one, other = ModelOutputs(np.linspace(0.2, 0.7, 12), 0.5), ModelOutputs(np.linspace(0.8, 0.1, 12), 0.5)
    for figure in METHODS:
        for found in (metric_interval(figure, target, one), metric_difference(figure, target, one, other)):
            assert found is None or all(math.isfinite(end) for end in found)
    for figure in ("roc_auc", "average_precision"):
        assert metric_interval(figure, target, one) is None
        assert metric_difference(figure, target, one, other) is None


def test_precision_of_a_model_that_calls_hardly_anything_has_no_difference():
    target, one, _ = sampled(60)
    shy = ModelOutputs(one.probability, float(np.sort(one.probability)[-2]))
    assert bca_difference("precision", target, one, shy) is None


def test_every_figure_has_its_method_and_counts_what_it_is_about():
    assert set(METHODS) == set(METRICS)
    target, one, other = (
        [1, 1, 1, 0, 0],
        ModelOutputs([0.9, 0.8, 0.1, 0.7, 0.1], 0.5),
        ModelOutputs([0.9, 0.1, 0.1, 0.1, 0.1], 0.5),
    )
    # One is right on 3 of 5 (positives 2 of 3, negatives 1 of 2), called 3 of which 2 are hits.
    assert metric_interval("accuracy", target, one) == wilson(3, 5)
    assert metric_interval("recall", target, one) == wilson(2, 3)
    assert metric_interval("specificity", target, one) == wilson(1, 2)
    assert metric_interval("precision", target, one) == wilson(2, 3)
    # The other alone is right on one negative, the one alone on one positive.
    assert metric_difference("accuracy", target, one, other) == tango(1, 1, 5)
    assert metric_difference("recall", target, one, other) == tango(1, 0, 3)
    assert metric_difference("specificity", target, one, other) == tango(0, 1, 2)


def test_intervals_as_json_hold_their_figures():
    target, one, _ = sampled(300)
    found = metric_intervals(target, one.probability, one.threshold)
    measured = classification_metrics(target, one.probability, one.threshold)
    assert set(found) == set(measured)
    for figure, ends in found.items():
        assert ends["low"] < measured[figure] < ends["high"]
        assert ends["method"] == METHODS[figure].single


def test_an_interval_holds_the_true_value_as_often_as_it_says():
    """400 tests of 100 images from a known source: F1's true value is in 95 % of the intervals, give or take chance."""
    truth = classification_metrics(*(lambda t, a: (t, a.probability, a.threshold))(*sampled(200_000)[:2]))["f1"]
    held = 0
    for seed in range(400):
        target, one, _ = sampled(100, seed=seed + 1)
        low, high = bca_interval("f1", target, one)
        held += low <= truth <= high
    assert held >= 366, held  # of 400; the binomial 99.9 % bound for 95 %
