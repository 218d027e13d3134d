"""Thresholds against choices computed by hand."""

from itertools import count

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from twofold.core.errors import DataError
from twofold.metrics import decision_threshold as rules
from twofold.metrics.decision_threshold import candidate_thresholds, choose_threshold, describe_rule

ACCURACY, F1 = rules.MaxValidationAccuracy(policy="max_validation_accuracy"), rules.MaxF1(policy="max_f1")


def recall(least):
    return rules.RecallAtLeast(policy="recall_at_least", recall=least)


def precision(least):
    return rules.PrecisionAtLeast(policy="precision_at_least", precision=least)


def cost(missed, false_alarm):
    return rules.MinValidationCost(policy="min_validation_cost", missed=missed, false_alarm=false_alarm)


def bound(hits, n):
    """The one-sided exact lower bound at 95 %."""
    return binomtest(hits, n).proportion_ci(0.9, "exact").low


# threshold   .95  .85  .75  .65  .55  .45  .35  .25   0
# found         0    1    2    2    3    3    4    4    4   of 4
# false alarms  0    0    0    1    1    2    2    3    4   of 4
# right         4    5    6    5    6    5    6    5    4   of 8
TARGET = [1, 1, 0, 1, 0, 1, 0, 0]
PROBABILITY = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]


def test_candidates_lie_between_neighbours_and_at_both_ends():
    found = candidate_thresholds(np.array(PROBABILITY))
    assert found == pytest.approx([0.95, 0.85, 0.75, 0.65, 0.55, 0.45, 0.35, 0.25, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [
        (ACCURACY, 0.35),  # 6 right at .75, .55 and .35: the lowest
        (F1, 0.35),  # 8/10 there; 6/8 at .55, 8/11 at .25
        (recall(0.01), 0.75),  # no alarm at .85 and at .75: the lowest
        (recall(0.24), 0.55),  # 3 of 4 show .249: 3/4 at .55, 3/5 at .45, 4/6 at .35
        (recall(0.4), 0.35),  # all 4 show .473: 4/6 at .35, 4/7 at .25
        (precision(0.13), 0.35),  # 2 of 3 show .135, all others more: 4 found at .35, .25 and 0, the most precise
        (precision(0.22), 0.75),  # 2 of 2 show .224, 2 of 3 only .14: the sequence ends there, though 3 of 4 show .249
        (cost(1, 1), 0.35),  # 2 errors at .75, .55 and .35: the lowest
        (cost(1, 2), 0.75),  # missed and twice the alarms: 4 3 2 4 3 5 4 6 8
        (cost(3, 1), 0.35),  # thrice missed and the alarms: 12 9 6 7 4 5 2 3 4
        (cost(0.5, 1), 0.75),  # only the ratio counts
    ],
)
def test_choices_by_hand(rule, threshold):
    assert choose_threshold(rule, TARGET, PROBABILITY) == pytest.approx(threshold, abs=1e-12)


def test_theory_chooses_by_costs_alone():
    for target, probability in ((TARGET, PROBABILITY), ([0, 1], [0.9, 0.1])):
        assert choose_threshold(rules.MaxAccuracy(policy="max_accuracy"), target, probability) == 0.5
        rule = rules.MinCost(policy="min_cost", missed=10, false_alarm=1)
        assert choose_threshold(rule, target, probability) == 1 / 11


def test_a_recall_is_reached_by_its_lower_bound():
    # Positive and negative in turn: fewer found ones are more precise. 96 of 100 show .91, 95 only .898.
    target, probability = [1, 0] * 100, np.arange(200, 0, -1) / 201
    found = choose_threshold(recall(0.9), target, probability)
    least = next(hits for hits in count(90) if bound(hits, 100) >= 0.9)
    assert int((probability[::2] >= found).sum()) == least == 96
    assert int((probability[1::2] >= found).sum()) == 95


def test_a_precision_is_tested_downwards_until_its_lower_bound_fails():
    # Tested from the 80 highest of 160 positives on. 90 right, then 10 wrong, then 70 right: at 190 the bound is higher
    # than at 100, but the sequence has ended.
    target = np.array([1] * 90 + [0] * 10 + [1] * 70 + [0] * 500)
    probability = np.arange(len(target), 0, -1) / 1000
    called = next(n for n in count(80) if bound(int(target[: n + 1].sum()), n + 1) < 0.88)
    assert 90 < called < 100
    assert bound(160, 170) > 0.88
    found = choose_threshold(precision(0.88), target, probability)
    # Of equal recall the most precise: without the false alarms that would be allowed.
    assert int((probability >= found).sum()) == 90


def test_too_few_images_are_an_error_with_the_number_that_is_needed():
    target, probability = [1] * 40 + [0] * 40, np.arange(80, 0, -1) / 81
    shown = f"40 of 40 positive images are found, which shows {0.05 ** (1 / 40):.4f}; without an error, 59 "
    with pytest.raises(DataError, match=f"a recall of 0.95 on validation: {shown}"):
        choose_threshold(recall(0.95), target, probability)
    shown = "0.9278; without an error, 59 "
    with pytest.raises(DataError, match=r"59 images called positive are right, which shows .*, 59 .* demand less"):
        choose_threshold(precision(0.95), target, probability)
    assert 0.0 < choose_threshold(precision(0.9), target, probability) < 0.7


def test_images_of_one_group_count_together():
    target, probability = [1] * 100 + [0] * 100, np.arange(200, 0, -1) / 201
    groups = [f"{row // 4}" for row in range(200)]
    for rule in (recall(0.9), precision(0.9)):
        assert choose_threshold(rule, target, probability) > 0
        with pytest.raises(DataError, match=r"which shows 0\.[78]"):  # 25 groups; 12 of the 50 called first
            choose_threshold(rule, target, probability, groups)
    with pytest.raises(DataError, match=r"which shows 0\.0000"):
        choose_threshold(recall(0.5), target, probability, [row // 20 for row in range(200)])


@pytest.mark.parametrize(("size", "shared"), [(1, 0.0), (4, 0.5)])
@pytest.mark.parametrize("rule", [recall(0.9), precision(0.8)])
def test_the_chosen_threshold_has_the_demanded_metric_in_95_percent_of_samples(rule, size, shared):
    """Scores of 400 images in groups, N(0, 1) and N(2.5, 1); 30 % are positive."""
    short, tries = 0, 200
    for seed in range(tries):
        rng = np.random.default_rng(seed)
        target = np.repeat(np.arange(400 // size) < 120 // size, size).astype(int)
        common = np.repeat(rng.normal(size=400 // size), size)
        score = 2.5 * target + np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=400)
        groups = None if size == 1 else [row // size for row in range(400)]
        try:
            found = norm.ppf(choose_threshold(rule, target, norm.cdf(score), groups))
        except DataError:
            continue  # nothing was shown
        hits, alarms = 0.3 * norm.sf(found - 2.5), 0.7 * norm.sf(found)
        short += (hits / 0.3 < 0.9) if rule.policy == "recall_at_least" else (hits / (hits + alarms) < 0.8)
    assert short <= 16  # more than in one of 30 studies at 5 %


def test_costs_weigh_errors():
    # P N N P: a missed one that costs 10 is worth two alarms; one that costs 1 is not.
    target, probability = [1, 0, 0, 1], [0.9, 0.7, 0.5, 0.3]
    assert choose_threshold(cost(10, 1), target, probability) == 0.0
    assert choose_threshold(cost(1, 1), target, probability) == pytest.approx(0.8)
    # An alarm so expensive that nothing is called positive.
    assert choose_threshold(cost(1, 100), [0, 1], [0.9, 0.1]) == pytest.approx(0.95)


def test_the_order_of_the_images_has_no_influence():
    rng = np.random.default_rng(0)
    for rule in (ACCURACY, F1, recall(0.4), precision(0.2), cost(2, 3)):
        expected = choose_threshold(rule, TARGET, PROBABILITY)
        for _ in range(10):
            order = rng.permutation(8)
            assert choose_threshold(rule, np.array(TARGET)[order], np.array(PROBABILITY)[order]) == expected


def test_f1_and_accuracy_choose_differently():
    # 8 negatives below; above them N P N N P. At .65 two are found with 3 alarms: F1 4/7, 10 of 13 right.
    # At .85 one is found with one alarm: F1 2/4, 11 of 13 right. Nothing called: 11 of 13 right as well, but higher.
    target, probability = [0, 1, 0, 0, 1] + [0] * 8, [0.95, 0.9, 0.8, 0.75, 0.7, 0.6] + [0.1] * 7
    assert choose_threshold(F1, target, probability) == pytest.approx(0.65)
    assert choose_threshold(ACCURACY, target, probability) == pytest.approx(0.85)


def test_tied_probabilities_are_never_separated():
    # .5 holds two positives and a negative: 3 right with them (1 alarm), 2 without.
    assert choose_threshold(ACCURACY, [1, 1, 0, 0], [0.5, 0.5, 0.5, 0.1]) == pytest.approx(0.3)
    # One probability for all: everything or nothing; both get one right, everything is the lower threshold.
    assert choose_threshold(ACCURACY, [1, 0], [0.3, 0.3]) == 0.0


def test_calling_nothing_positive_may_be_the_most_accurate():
    # The only positive lies last: nothing called gets 3 of 4 right.
    assert choose_threshold(ACCURACY, [0, 0, 0, 1], [0.9, 0.8, 0.7, 0.1]) == pytest.approx(0.95)
    # But it has no precision; everything called: 1/4.
    assert choose_threshold(recall(0.01), [0, 0, 0, 1], [0.9, 0.8, 0.7, 0.1]) == 0.0
    # Above 1 there is no threshold: of .95 and 0, one right each, the lowest.
    assert choose_threshold(ACCURACY, [0, 0, 1], [1.0, 0.9, 0.1]) == 0.0


def test_neighbouring_floats_are_separated():
    above = float(np.nextafter(0.5, 1))
    assert choose_threshold(ACCURACY, [0, 1], [0.5, above]) == above


def test_the_choice_is_optimal_in_many_random_cases():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        target = np.array([0, 1, *rng.integers(0, 2, 18)])
        probability = rng.integers(0, 13, 20) / 12  # ties, 0 and 1 among them
        ratio = float(rng.integers(1, 9))

        def worth(rule, threshold, target=target, probability=probability, ratio=ratio):
            called = probability >= threshold
            right = int((called & (target == 1)).sum())
            trust = right / called.sum() if called.any() else 0.0
            found = right / target.sum()
            alarms = int((called & (target == 0)).sum())
            return {
                "max_validation_accuracy": float((called == target).mean()),
                "max_f1": 2 * trust * found / (trust + found) if right else 0.0,
                "min_validation_cost": -(ratio * (target.sum() - right) + alarms),
            }[rule.policy]

        for rule in (ACCURACY, F1, cost(ratio, 1)):
            found = choose_threshold(rule, target, probability)
            best = max(worth(rule, threshold) for threshold in np.arange(0, 25) / 24)
            assert worth(rule, found) == pytest.approx(best, abs=1e-12), (seed, rule)


def test_a_missing_class_is_an_error():
    with pytest.raises(DataError, match="found 0 positive and 2 negative"):
        choose_threshold(F1, [0, 0], [0.1, 0.2])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (rules.MaxAccuracy(policy="max_accuracy"), "the fewest errors to be expected"),
        (ACCURACY, "the most validation images right"),
        (F1, "F1"),
        (recall(0.925), "find at least 92.5 % of the bad images with 95 % confidence"),
        (
            precision(0.9),
            "the most bad images, among those whose bad answers are right at least 90 % of the time with 95",
        ),
        (
            rules.MinCost(policy="min_cost", missed=10, false_alarm=0.5),
            "lowest expected cost, by calibrated probabilities",
        ),
        (cost(10, 0.5), "cost on the validation images if a missed bad image costs 10 and a false alarm 0.5"),
    ],
)
def test_a_rule_in_words(rule, words):
    numbers = rule.model_dump()
    assert words in describe_rule({"positive": "bad", "policy": numbers.pop("policy"), "rule": numbers})
