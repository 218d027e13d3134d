"""Thresholds against choices computed by hand."""

import numpy as np
import pytest

from twofold.core.errors import DataError
from twofold.metrics import decision_threshold as rules
from twofold.metrics.decision_threshold import candidate_thresholds, choose_threshold, describe_rule

ACCURACY, F1 = rules.MaxAccuracy(policy="max_accuracy"), rules.MaxF1(policy="max_f1")


def recall(least):
    return rules.RecallAtLeast(policy="recall_at_least", recall=least)


def precision(least):
    return rules.PrecisionAtLeast(policy="precision_at_least", precision=least)


def cost(missed, false_alarm):
    return rules.MinCost(policy="min_cost", missed=missed, false_alarm=false_alarm)


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
        (recall(0.5), 0.75),  # 2 of 4 is enough, exactly
        (recall(0.51), 0.55),  # 3 of 4 needed: 3/4 at .55, 3/5 at .45, 4/6 at .35
        (recall(1.0), 0.35),  # all 4 needed: 4/6 at .35, 4/7 at .25
        (precision(1.0), 0.75),  # 1 found at .85, 2 at .75, both without an alarm
        (precision(0.75), 0.55),  # 3/4, exactly
        (precision(0.7), 0.55),  # 3 found at .55, and none of those that find 4 is as precise
        (precision(0.6), 0.35),  # 4 found, 4/6
        (precision(0.5), 0.35),  # 4 found at .35, .25 (4/7) and 0 (4/8): the most precise
        (cost(1, 1), 0.35),  # 2 errors at .75, .55 and .35: the lowest
        (cost(1, 2), 0.75),  # missed and twice the alarms: 4 3 2 4 3 5 4 6 8
        (cost(3, 1), 0.35),  # thrice missed and the alarms: 12 9 6 7 4 5 2 3 4
        (cost(0.5, 1), 0.75),  # only the ratio counts
    ],
)
def test_choices_by_hand(rule, threshold):
    assert choose_threshold(rule, TARGET, PROBABILITY) == pytest.approx(threshold, abs=1e-12)


def test_an_unreachable_precision_is_an_error_with_the_best_one():
    # Ranked N P N P: precision 0/1, 1/2, 1/3, 2/4; the half with the higher recall is that of both.
    with pytest.raises(DataError, match=r"precision of 0\.9 on the 4 .* is 0\.5000, with a recall of 1\.0000"):
        choose_threshold(precision(0.9), [0, 1, 0, 1], [0.9, 0.8, 0.7, 0.6])
    assert choose_threshold(precision(0.5), [0, 1, 0, 1], [0.9, 0.8, 0.7, 0.6]) == 0.0


def test_costs_weigh_errors():
    # P N N P: a missed one that costs 10 is worth two alarms; one that costs 1 is not.
    target, probability = [1, 0, 0, 1], [0.9, 0.7, 0.5, 0.3]
    assert choose_threshold(cost(10, 1), target, probability) == 0.0
    assert choose_threshold(cost(1, 1), target, probability) == pytest.approx(0.8)
    # An alarm so expensive that nothing is called positive.
    assert choose_threshold(cost(1, 100), [0, 1], [0.9, 0.1]) == pytest.approx(0.95)


def test_the_order_of_the_images_has_no_influence():
    rng = np.random.default_rng(0)
    for rule in (ACCURACY, F1, recall(0.6), precision(0.6), cost(2, 3)):
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
        least, ratio = float(1 - rng.random()), float(rng.integers(1, 9))

        def worth(rule, threshold, target=target, probability=probability, least=least, ratio=ratio):
            called = probability >= threshold
            right = int((called & (target == 1)).sum())
            trust = right / called.sum() if called.any() else 0.0
            found = right / target.sum()
            alarms = int((called & (target == 0)).sum())
            return {
                "max_accuracy": float((called == target).mean()),
                "max_f1": 2 * trust * found / (trust + found) if right else 0.0,
                "recall_at_least": trust if found >= least else -1.0,
                "precision_at_least": found + trust / 1000 if trust >= target.mean() else -1.0,
                "min_cost": -(ratio * (target.sum() - right) + alarms),
            }[rule.policy]

        # The share of positives is a precision that calling everything always reaches.
        for rule in (ACCURACY, F1, recall(least), precision(float(target.mean())), cost(ratio, 1)):
            found = choose_threshold(rule, target, probability)
            best = max(worth(rule, threshold) for threshold in np.arange(0, 25) / 24)
            assert worth(rule, found) == pytest.approx(best, abs=1e-12), (seed, rule)


def test_a_missing_class_is_an_error():
    with pytest.raises(DataError, match="found 0 positive and 2 negative"):
        choose_threshold(F1, [0, 0], [0.1, 0.2])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (ACCURACY, "the most images right"),
        (F1, "F1"),
        (recall(0.925), "find at least 92.5 % of the bad images"),
        (precision(0.9), "the most bad images, among those whose bad answers are right at least 90 % of the time"),
        (cost(10, 0.5), "a missed bad image costing 10 and a false alarm 0.5"),
    ],
)
def test_a_rule_in_words(rule, words):
    numbers = rule.model_dump()
    assert words in describe_rule({"positive": "bad", "policy": numbers.pop("policy"), "rule": numbers})
