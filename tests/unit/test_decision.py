"""Thresholds against choices made by hand."""

import numpy as np
import pytest

from twofold.decision import candidates, choose, explain
from twofold.errors import DataError, ParameterError

# threshold   .95  .85  .75  .65  .55  .45  .35  .25   0
# found         0    1    2    2    3    3    4    4    4   of 4
# false alarms  0    0    0    1    1    2    2    3    4   of 4
# right         4    5    6    5    6    5    6    5    4   of 8
TARGET = [1, 1, 0, 1, 0, 1, 0, 0]
PROBABILITY = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]


def test_candidates_lie_between_neighbours_and_at_both_ends():
    found = candidates(np.array(PROBABILITY))
    assert found == pytest.approx([0.95, 0.85, 0.75, 0.65, 0.55, 0.45, 0.35, 0.25, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    ("policy", "least", "threshold"),
    [
        ("max_accuracy", 0.0, 0.35),  # 6 right at .75, .55 and .35: the lowest
        ("max_f1", 0.0, 0.35),  # 8/10 there; 6/8 at .55, 8/11 at .25
        ("precision_at_recall", 0.0, 0.75),  # no alarm at .85 and at .75: the lowest
        ("precision_at_recall", 0.5, 0.75),  # 2 of 4 is enough, exactly
        ("precision_at_recall", 0.51, 0.55),  # 3 of 4 needed: 3/4 at .55, 3/5 at .45, 4/6 at .35
        ("precision_at_recall", 1.0, 0.35),  # all 4 needed: 4/6 at .35, 4/7 at .25
    ],
)
def test_choices_by_hand(policy, least, threshold):
    assert choose(policy, TARGET, PROBABILITY, least) == pytest.approx(threshold, abs=1e-12)


def test_the_order_of_the_images_plays_no_part():
    rng = np.random.default_rng(0)
    for policy in ("max_accuracy", "max_f1", "precision_at_recall"):
        expected = choose(policy, TARGET, PROBABILITY, 0.6)
        for _ in range(10):
            order = rng.permutation(8)
            assert choose(policy, np.array(TARGET)[order], np.array(PROBABILITY)[order], 0.6) == expected


def test_f1_weighs_otherwise_than_accuracy():
    # 8 negatives below; above them N P N N P. At .65 two are found with 3 alarms: F1 4/7, 10 of 13 right.
    # At .85 one is found with one alarm: F1 2/4, 11 of 13 right. Nothing called: 11 of 13 right as well, but higher.
    target, probability = [0, 1, 0, 0, 1] + [0] * 8, [0.95, 0.9, 0.8, 0.75, 0.7, 0.6] + [0.1] * 7
    assert choose("max_f1", target, probability, 0) == pytest.approx(0.65)
    assert choose("max_accuracy", target, probability, 0) == pytest.approx(0.85)


def test_tied_probabilities_are_never_cut_apart():
    # .5 holds two positives and a negative: 3 right with them (1 alarm), 2 without.
    assert choose("max_accuracy", [1, 1, 0, 0], [0.5, 0.5, 0.5, 0.1], 0) == pytest.approx(0.3)
    # One probability for all: everything or nothing; both get one right, everything is the lower threshold.
    assert choose("max_accuracy", [1, 0], [0.3, 0.3], 0) == 0.0


def test_calling_nothing_positive_may_be_the_most_accurate():
    # The only positive lies last: nothing called gets 3 of 4 right.
    assert choose("max_accuracy", [0, 0, 0, 1], [0.9, 0.8, 0.7, 0.1], 0) == pytest.approx(0.95)
    # But it has no precision; everything called: 1/4.
    assert choose("precision_at_recall", [0, 0, 0, 1], [0.9, 0.8, 0.7, 0.1], 0) == 0.0
    # Above 1 there is no threshold: of .95 and 0, one right each, the lowest.
    assert choose("max_accuracy", [0, 0, 1], [1.0, 0.9, 0.1], 0) == 0.0


def test_neighbouring_floats_are_told_apart():
    low = 0.5
    high = float(np.nextafter(low, 1))
    assert choose("max_accuracy", [0, 1], [low, high], 0) == high


def test_nothing_better_exists_in_many_random_cases():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        target = np.array([0, 1, *rng.integers(0, 2, 18)])
        probability = rng.integers(0, 13, 20) / 12  # ties, 0 and 1 among them
        least = float(rng.random())

        def worth(policy, threshold, target=target, probability=probability, least=least):
            called = probability >= threshold
            right = int((called & (target == 1)).sum())
            if policy == "max_accuracy":
                return float((called == target).mean())
            precision = right / called.sum() if called.any() else 0.0
            recall = right / target.sum()
            if policy == "max_f1":
                return 2 * precision * recall / (precision + recall) if right else 0.0
            return precision if recall >= least else -1.0

        for policy in ("max_accuracy", "max_f1", "precision_at_recall"):
            found = choose(policy, target, probability, least)
            best = max(worth(policy, threshold) for threshold in np.arange(0, 25) / 24)
            assert worth(policy, found) == pytest.approx(best, abs=1e-12), (seed, policy)


def test_needs_both_classes_and_a_known_policy():
    with pytest.raises(DataError, match="found 0 positive and 2 negative"):
        choose("max_f1", [0, 0], [0.1, 0.2], 0)
    with pytest.raises(ParameterError, match=r"'best'; allowed: max_accuracy"):
        choose("best", [0, 1], [0.1, 0.2], 0)


def test_the_rule_is_said_in_words():
    decision = {"positive": "bad", "policy": "precision_at_recall", "recall_at_least": 0.925}
    assert "find at least 92.5 % of the bad images" in explain(decision)
    assert "most images right" in explain(decision | {"policy": "max_accuracy", "recall_at_least": None})
    assert "F1" in explain(decision | {"policy": "max_f1", "recall_at_least": None})
