"""The influence of images against metrics of weighted images, differentiated numerically, and DeLong's pairs."""

import numpy as np
import pytest

from twofold.metrics.calibration import BINS
from twofold.metrics.classification import METRICS, classification_metrics, log_losses
from twofold.metrics.curves import bin_numbers
from twofold.metrics.influence import ModelOutputs, influence


def sampled(n=60, digits=None, seed=0):
    """Targets and outputs; with `digits` there are many ties."""
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.4).astype(int)
    probability = 1 / (1 + np.exp(-(2 * target - 1 + 1.5 * rng.normal(size=n))))
    return target, ModelOutputs(probability if digits is None else np.round(probability, digits), 0.45)


def weighted(metric, target, outputs, weight):
    """The metric of images that count `weight` times, by its definition: comparisons of pairs and sums."""
    score, positive = np.asarray(outputs.probability), target == 1
    called = score >= outputs.threshold
    if metric == "roc_auc":
        x, y = score[positive, None], score[~positive]
        wins = weight[positive] @ ((x > y) + 0.5 * (x == y)) @ weight[~positive]
        return wins / weight[positive].sum() / weight[~positive].sum()
    if metric == "average_precision":
        at_or_above = score >= score[:, None]
        precision = at_or_above @ (weight * positive) / (at_or_above @ weight)
        return np.average(precision[positive], weights=weight[positive])
    if metric == "ece":
        number = bin_numbers(score, BINS)
        gaps = [((score - target) * weight)[number == bin_].sum() for bin_ in range(BINS)]
        return np.abs(gaps).sum() / weight.sum()
    if metric in ("brier", "log_loss"):  # the classes keep their shares
        loss = np.square(score - target) if metric == "brier" else log_losses(target, score)
        return sum(np.average(loss[rows], weights=weight[rows]) * rows.mean() for rows in (positive, ~positive))
    hit, counted = {
        "accuracy": (positive == called, positive | ~positive),
        "precision": (positive, called),
        "recall": (called, positive),
        "specificity": (~called, ~positive),
        "f1": (positive & called, positive | called),
    }[metric]
    return (weight * (hit & counted)).sum() / (weight * counted).sum()


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("metric", METRICS)
def test_it_is_the_derivative_by_an_images_weight(metric, digits):
    target, outputs = sampled(digits=digits)
    found = influence(metric, target, outputs)
    step = 1e-5
    for row, unit in enumerate(np.eye(len(target))):
        up, down = (weighted(metric, target, outputs, 1 + side * step * unit) for side in (1, -1))
        slope = (up - down) / (2 * step)
        if metric == "roc_auc":  # DeLong divides by one less than the number of images
            n = (target == target[row]).sum()
            slope *= np.sqrt(n / (n - 1))
        assert found.images[row] == pytest.approx(slope, abs=1e-8), row


@pytest.mark.parametrize("digits", [None, 1])
@pytest.mark.parametrize("metric", METRICS)
def test_it_comes_with_the_metric_and_sums_to_0(metric, digits):
    target, outputs = sampled(digits=digits)
    found = influence(metric, target, outputs)
    value = 2 * found.value / (1 + found.value) if metric == "f1" else found.value
    assert value == pytest.approx(classification_metrics(target, *outputs)[metric], rel=1e-12)
    assert found.images.sum() == pytest.approx(0, abs=1e-12)
    assert np.abs(found.images).max() > 1e-3


@pytest.mark.parametrize("digits", [None, 1])
def test_the_squares_of_an_area_sum_to_the_variance_of_delong(digits):
    """Every pair of images compared, and the variances of both classes summed as in the paper."""
    target, outputs = sampled(digits=digits)
    score = outputs.probability
    x, y = score[target == 1, None], score[target == 0]
    wins = (x > y) + 0.5 * (x == y)
    above, below = wins.mean(axis=1), wins.mean(axis=0)
    variance = above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)
    assert np.square(influence("roc_auc", target, outputs).images).sum() == pytest.approx(variance, rel=1e-12)


def test_the_squares_of_a_rate_sum_to_its_binomial_variance():
    target, outputs = sampled()
    for metric in ("accuracy", "precision", "recall", "specificity", "f1"):
        found = influence(metric, target, outputs)
        n = found.counted.sum()
        assert np.square(found.images).sum() == pytest.approx(found.value * (1 - found.value) / n), metric
        assert not found.images[~found.counted].any(), metric


def test_which_images_a_metric_counts_and_what_one_more_error_does():
    target, outputs = np.array([1, 1, 1, 0, 0]), ModelOutputs([0.9, 0.8, 0.1, 0.7, 0.1], 0.5)
    rows = {
        "accuracy": [0, 1, 2, 3, 4],
        "precision": [0, 1, 3],
        "recall": [0, 1, 2],
        "f1": [0, 1, 2, 3],
        "specificity": [3, 4],
        "average_precision": [0, 1, 2],
    }
    for metric in METRICS:
        found = influence(metric, target, outputs)
        expected = rows.get(metric, [0, 1, 2, 3, 4])
        assert np.flatnonzero(found.counted).tolist() == expected, metric
        # One of those that count; for an area, one of the rarer class.
        assert found.error == pytest.approx(1 / (2 if metric == "roc_auc" else len(expected))), metric


def test_an_image_at_the_threshold_is_called_positive():
    found = influence("recall", np.array([1, 1, 0]), ModelOutputs([0.5, 0.4, 0.1], 0.5))
    assert found.value == 0.5
    assert found.images.tolist() == [0.25, -0.25, 0]


def test_one_image_of_a_class_and_a_missing_class_give_finite_numbers():
    for target in ([1, 0, 0, 0], [1, 1, 1, 0]):
        found = influence("roc_auc", np.array(target), ModelOutputs([0.6, 0.7, 0.2, 0.5], 0.5))
        assert np.isfinite(found.images).all()
    for metric in ("log_loss", "brier"):
        found = influence(metric, np.array([1, 1, 1]), ModelOutputs([0.6, 0.7, 0.2], 0.5))
        assert np.isfinite(found.images).all()
        assert found.images.sum() == pytest.approx(0, abs=1e-12)
