"""Which metric has which interval, what a difference is, and what is refused with which reason."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from twofold.metrics.calibration import ece_interval
from twofold.metrics.classification import METRICS, RATES, classification_metrics
from twofold.metrics.confidence_intervals import mover, rate_interval, tango
from twofold.metrics.design_effect import student_inflation
from twofold.metrics.influence import ModelOutputs, influence
from twofold.metrics.metric_intervals import (
    METHODS,
    effective_images,
    metric_difference,
    metric_interval,
    metric_intervals,
    why_no_interval,
)
from twofold.metrics.roc_auc_interval import roc_auc_interval

TANGO = ("accuracy", "recall", "specificity")


def sampled(n, seed=0, noise=0.8):
    """Targets and the outputs of two models, the second one noisier."""
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.3).astype(int)
    signal = 2 * target - 1 + rng.normal(size=n)
    other = signal + noise * rng.normal(size=n)
    return target, *(ModelOutputs(1 / (1 + np.exp(-scores)), 0.5) for scores in (signal, other))


TARGET, ONE, OTHER = sampled(600)


def test_every_metric_has_a_method_and_rates_their_counts():
    assert set(METHODS) == set(METRICS)
    assert {metric for metric, methods in METHODS.items() if methods.paired == "tango"} == set(TANGO)
    target, one = [1, 1, 1, 0, 0], ModelOutputs([0.9, 0.8, 0.1, 0.7, 0.1], 0.5)
    other = ModelOutputs([0.1, 0.1, 0.1, 0.1, 0.1], 0.5)
    # One is right on 3 of 5 (positives 2 of 3, negatives 1 of 2), called 3 of which 2 are hits.
    for metric, hits, n in (("accuracy", 3, 5), ("recall", 2, 3), ("specificity", 1, 2), ("precision", 2, 3)):
        assert metric_interval(metric, target, one, 0.9) == rate_interval(hits, n, 0.9)
    # F1 2 * 2 / 6 is that of the share 2 / 4.
    low, high = rate_interval(2, 4)
    assert metric_interval("f1", target, one) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
    # The other alone is right on one negative, the one alone on two positives.
    for metric, one_only, other_only, n in (("accuracy", 2, 1, 5), ("recall", 2, 0, 3), ("specificity", 0, 1, 2)):
        assert metric_difference(metric, target, one, other, 0.9) == tango(one_only, other_only, n, 0.9)


def test_other_metrics_have_the_intervals_of_their_methods():
    positive = int(TARGET.sum())  # the rarer class, from which Student's t has its degrees of freedom
    of, student = influence("roc_auc", TARGET, ONE), student_inflation(positive, 0.95)
    expected = roc_auc_interval(
        of.value, np.square(of.images).sum(), positive, 600 - positive, student_inflation(positive, 0.9), 0.9
    )
    assert metric_interval("roc_auc", TARGET, ONE, 0.9) == pytest.approx(expected)
    assert metric_interval("ece", TARGET, ONE) == ece_interval(TARGET, ONE.probability)
    # A loss times and by exp(1.96 standard errors of its logarithm): the variances of the classes' losses, by hand.
    loss = np.square(ONE.probability - TARGET)
    error = math.sqrt(sum(loss[rows].var() * rows.sum() for rows in (TARGET == 0, TARGET == 1))) / 600
    factor = math.exp(1.959964 * math.sqrt(student) * error / loss.mean())
    assert metric_interval("brier", TARGET, ONE) == pytest.approx(
        (loss.mean() / factor, loss.mean() * factor), rel=1e-6
    )
    # The logit of average precision, at least as uncertain as a rate of the positive images.
    of = influence("average_precision", TARGET, ONE)
    value, middle = of.value, math.log(of.value / (1 - of.value))
    error = math.sqrt(max(np.square(of.images).sum(), value * (1 - value) / positive)) / (value * (1 - value))
    reach = 1.644854 * math.sqrt(student_inflation(positive, 0.9)) * error
    expected = [1 / (1 + math.exp(-(middle + side * reach))) for side in (-1, 1)]
    assert metric_interval("average_precision", TARGET, ONE, 0.9) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric not in TANGO])
def test_a_difference_combines_both_intervals_by_the_correlation_of_the_errors(metric):
    first, second = influence(metric, TARGET, ONE), influence(metric, TARGET, OTHER)
    correlation = 0.0 if metric == "ece" else np.corrcoef(first.images, second.images)[0, 1]
    values = [classification_metrics(TARGET, *model)[metric] for model in (ONE, OTHER)]
    low, high = (metric_interval(metric, TARGET, model, 0.9) for model in (ONE, OTHER))
    found = metric_difference(metric, TARGET, ONE, OTHER, 0.9)
    assert found == pytest.approx(mover(values[0], low, values[1], high, correlation), abs=1e-9)
    # Two models that err together differ less than their intervals say.
    independent = mover(values[0], low, values[1], high, 0)
    assert metric == "ece" or found.high - found.low < 0.9 * (independent.high - independent.low)


@pytest.mark.parametrize("metric", METRICS)
def test_a_difference_the_other_way_round_is_the_mirrored_one(metric):
    estimate, low, high = metric_difference(metric, TARGET, ONE, OTHER)
    assert metric_difference(metric, TARGET, OTHER, ONE) == pytest.approx((-estimate, -high, -low), abs=1e-9)
    assert low < estimate < high


@pytest.mark.parametrize("metric", METRICS)
def test_equal_models_may_still_differ(metric):
    """Around 0, to either side alike, and not more than by the interval of the metric."""
    estimate, low, high = metric_difference(metric, TARGET, ONE, ONE)
    assert estimate == 0
    assert -low == pytest.approx(high, abs=1e-12)
    own = metric_interval(metric, TARGET, ONE)
    assert 0 < high < own.high - own.low


def test_equal_models_at_the_ends_of_a_metric_may_differ_too():
    target = np.array([1] * 15 + [0] * 20)
    right, wrong = ModelOutputs(target * 0.9 + 0.05, 0.5), ModelOutputs(0.95 - target * 0.9, 0.5)
    reach = 3.841459 / (15 + 3.841459)  # z^2 / (n + z^2), for 15 positive images
    assert metric_difference("precision", target, right, right) == pytest.approx((0, -reach, reach), abs=1e-6)
    assert metric_difference("f1", target, right, right) == pytest.approx((0, -0.113513, 0.113513), abs=1e-5)
    # An area of 0 mirrors one of 1, and the share of which F1 is a function counts 35 images.
    for model in (right, wrong):
        assert metric_difference("roc_auc", target, model, model) == pytest.approx((0, -reach, reach), abs=1e-6)
    assert metric_difference("f1", target, wrong, wrong) == pytest.approx((0, -0.18, 0.18), abs=1e-5)


def test_two_models_that_are_always_right_when_they_call_one_positive():
    """One calls 12 images and the other 20: the fewer say how much the precisions may differ, in either order."""
    target = np.array([1] * 20 + [0] * 20)
    probability = np.linspace(0.9, 0.1, 40)
    one, other = ModelOutputs(probability, probability[11]), ModelOutputs(probability, probability[19])
    reach = 3.841459 / (12 + 3.841459)
    # The first 12 are single images, and the others that the second model alone calls come in groups of four.
    groups = [None] * 12 + [row // 4 for row in range(8)] + [None] * 20
    for first, second in ((one, other), (other, one)):
        assert metric_difference("precision", target, first, second) == pytest.approx((0, -reach, reach), abs=1e-6)
        assert metric_difference("precision", target, first, second, groups=groups).high > 1.5 * reach


@pytest.mark.parametrize("metric", METRICS)
def test_differences_of_bounded_metrics_stay_within_1(metric):
    target = np.array([1] * 30 + [0] * 30)
    noise = np.random.default_rng(0).normal(0, 0.1, 60)
    good, bad = (ModelOutputs(np.clip(0.5 + side * (target - 0.5) + noise, 0, 1), 0.5) for side in (0.9, -0.9))
    if found := metric_difference(metric, target, good, bad, 0.999):
        assert -1 <= found.low <= found.estimate <= found.high <= 1


FEWEST = {"average_precision": (5, 30), "log_loss": (100, 140), "brier": (140, 100)}  # negative and positive images


@pytest.mark.parametrize("metric", FEWEST)
def test_methods_that_do_not_hold_with_few_images_are_refused(metric):
    negative, positive = FEWEST[metric]
    which, least = ("negative", negative) if metric == "log_loss" else ("positive", positive)
    target = np.array([0] * negative + [1] * positive)
    probability = np.random.default_rng(0).random(len(target))
    assert why_no_interval(metric, target, ModelOutputs(probability, 0.5)) == ""
    assert metric_interval(metric, target, ModelOutputs(probability, 0.5)) is not None
    fewer = slice(0, -1) if which == "positive" else slice(1, None)
    target, model = target[fewer], ModelOutputs(probability[fewer], 0.5)
    expected = f"{least - 1} images of the {which} class are too few for an interval of {metric}: it needs {least}"
    assert why_no_interval(metric, target, model) == expected
    assert metric_interval(metric, target, model) is None
    assert metric_difference(metric, target, model, model) is None


@pytest.mark.parametrize("metric", ["log_loss", "brier"])
def test_a_loss_without_spread_is_refused(metric):
    target = np.array([0, 1] * 100)
    for probability in (target * 1.0, target * 0.9 + 0.05, np.full(200, 0.5)):  # no loss, one of .05, an idle model
        model = ModelOutputs(probability, 0.5)
        reason = f"{metric} is the same on all images of a class, and how it varies cannot be told from them"
        assert why_no_interval(metric, target, model) == reason
        assert metric_interval(metric, target, model) is None


def test_a_metric_without_a_value_is_refused():
    model = ModelOutputs(np.linspace(0.1, 0.4, 20), 0.5)
    for target, absent in (
        (np.zeros(20, int), {"precision", "recall", "f1", "roc_auc", "average_precision"}),
        (np.ones(20, int), {"precision", "specificity", "roc_auc"}),
    ):
        for metric in set(METRICS) - {"log_loss", "brier", "average_precision"} | absent:
            reason = why_no_interval(metric, target, model)
            assert bool(reason) == (metric in absent), metric
            for found in (metric_interval(metric, target, model), metric_difference(metric, target, model, model)):
                assert (found is None) == (metric in absent), metric
    assert "none was called positive" in why_no_interval("precision", np.array([0, 1] * 10), model)
    assert why_no_interval("roc_auc", np.zeros(20, int), model).startswith("0 images of the positive class")


def test_no_rate_and_no_area_of_ten_images_of_each_class_is_refused():
    target = np.array([0, 1] * 10)
    model = ModelOutputs(np.linspace(0.9, 0.1, 20), 0.5)
    assert set(metric_intervals(target, *model)) == {*RATES, "roc_auc", "ece"}


def test_intervals_as_json_hold_their_metrics():
    found = metric_intervals(TARGET, *ONE)
    measured = classification_metrics(TARGET, *ONE)
    assert set(found) == set(measured)
    for metric, ends in found.items():
        assert ends["low"] < measured[metric] < ends["high"]
        assert ends["method"] == METHODS[metric].single
    groups = np.arange(600) // 4
    assert metric_intervals(TARGET, *ONE, groups)["accuracy"]["low"] < found["accuracy"]["low"]


def test_effective_images():
    errors = np.array([0, 1] * 30)
    model = ModelOutputs(np.full(60, 0.9), 0.5)
    assert effective_images(errors, model, [None] * 60) == (60, 60)
    assert effective_images(np.ones(60, int), model, [row // 3 for row in range(60)]) == (20, pytest.approx(20))
    # 20 groups of three copies, half of them wrong.
    found = effective_images(np.repeat([0, 1] * 10, 3), model, [row // 3 for row in range(60)])
    assert found == (20, pytest.approx(20, rel=0.05))


def grouped(rng, shape, rate_or_gap, icc):
    """Standard normal noise of groups, of which a share is common to a group, moved by a rate's quantile or a gap."""
    common = rng.normal(size=(shape[0], 1)) * math.sqrt(icc)
    return rate_or_gap + common + rng.normal(size=shape) * math.sqrt(1 - icc)


@pytest.mark.parametrize("metric", METRICS)
def test_groups_widen_every_interval(metric):
    rng = np.random.default_rng(1)
    target = np.repeat(np.arange(120) % 3 == 0, 6).astype(int)
    shared = grouped(rng, (120, 6), 0, 0.8).ravel()
    one, other = (
        ModelOutputs(1 / (1 + np.exp(-(1.6 * target - 0.8 + shared + noise * rng.normal(size=720)))), 0.5)
        for noise in (0.1, 1)
    )
    groups = (np.arange(720) // 6).tolist()
    low, high = np.array([metric_interval(metric, target, one, groups=names) for names in (None, groups)]).T
    assert high[1] - low[1] > 1.2 * (high[0] - low[0])
    _, low, high = np.array([metric_difference(metric, target, one, other, groups=names) for names in (None, groups)]).T
    assert high[1] - low[1] > 1.2 * (high[0] - low[0])
    # Names that no two images share are no groups.
    assert metric_interval(metric, target, one, groups=[None] * 720) == metric_interval(metric, target, one)


@pytest.mark.parametrize("metric", METRICS)
def test_copies_tell_what_one_of_them_tells(metric):
    target, *copies = (np.repeat(values, 4) for values in (TARGET, ONE.probability, OTHER.probability))
    one, other = (ModelOutputs(probability, 0.5) for probability in copies)
    groups = np.repeat(np.arange(600), 4).tolist()
    found = metric_interval(metric, target, one, groups=groups)
    difference = metric_difference(metric, target, one, other, groups=groups)
    expected, apart = metric_interval(metric, TARGET, ONE), metric_difference(metric, TARGET, ONE, OTHER)
    assert found == pytest.approx(expected, abs=0.06 * (expected.high - expected.low))
    assert difference == pytest.approx(apart, abs=0.06 * (apart.high - apart.low))


def test_fewer_than_ten_groups_of_a_class_are_refused():
    target = np.array([1] * 60 + [0] * 60)
    model = ModelOutputs(np.linspace(0.9, 0.1, 120), 0.3)
    many, few = [row // 6 for row in range(120)], [min(row // 6, 8) for row in range(60)] + [None] * 60
    assert why_no_interval("recall", target, model, many) == ""
    reason = "the images come from 9 groups, too few for an interval of recall: it needs 10"
    assert why_no_interval("recall", target, model, few) == reason
    assert metric_interval("recall", target, model, groups=few) is None
    assert metric_difference("recall", target, model, model, groups=few) is None
    assert why_no_interval("roc_auc", target, model, few)
    for metric in ("specificity", "accuracy"):  # the other class is not in groups, and 69 units are enough
        assert why_no_interval(metric, target, model, few) == ""


def share(truths):
    return np.mean(list(truths))


def areas(seed, n, positive, area):
    """The interval of an area and the difference of two equally good models, whose scores correlate by .8."""
    rng = np.random.default_rng(seed)
    target = np.array([1] * positive + [0] * (n - positive))
    scores = grouped(rng, (n, 2), math.sqrt(2) * NormalDist().inv_cdf(area) * target[:, None], 0.8)
    one, other = (ModelOutputs(1 / (1 + np.exp(-column)), 0.5) for column in scores.T)
    return metric_interval("roc_auc", target, one), metric_difference("roc_auc", target, one, other, 0.9)


def test_an_area_is_covered_where_images_are_few_or_one_class_is_rare():
    few, _ = zip(*(areas(seed, 60, 18, 0.95) for seed in range(200)), strict=True)
    assert share(low > 0.95 for low, _ in few) <= 0.05  # Wald's by DeLong's variance: .14
    assert share(low <= 0.95 <= high for low, high in few) >= 0.935
    rare, differences = zip(*(areas(seed, 656, 20, 0.98) for seed in range(200)), strict=True)
    assert share(low <= 0.98 <= high for low, high in rare) >= 0.935
    # At the level .9 either of two equal models is called better in 5 %; by logits and DeLong's variance, in .14.
    assert share(low > 0 for _, low, _ in differences) <= 0.06
    assert share(high < 0 for _, _, high in differences) <= 0.06


def test_an_accuracy_over_groups_is_covered():
    """82 groups of 8 images, errors with a correlation of .7 within a group; as independent images 71 % are covered."""
    rng = np.random.default_rng(7)
    groups = (np.arange(656) // 8).tolist()
    found = []
    for _ in range(300):
        right = grouped(rng, (82, 8), NormalDist().inv_cdf(0.9), 0.7).ravel() > 0
        found.append(metric_interval("accuracy", np.ones(656, int), ModelOutputs(right * 1.0, 0.5), groups=groups))
    assert share(low <= 0.9 <= high for low, high in found) >= 0.935
    assert share(low > 0.9 for low, _ in found) <= 0.045
    # And not by intervals that say nothing: 82 independent images reach .13.
    assert share(high - low for low, high in found) < 0.14
