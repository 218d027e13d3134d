"""Metrics against cases computed by hand; the calculation is beside each number."""

import json

import numpy as np
import pytest
import sklearn.metrics as peer

from twofold.core.errors import DataError
from twofold.metrics import classification

# Eight images, ranked: positive, positive, negative, positive, negative, positive, negative, negative.
TARGET = [1, 1, 0, 1, 0, 1, 0, 0]
PROBABILITY = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]


def test_metrics_of_eight_ranked_images():
    # At 0.45 five are called positive: .9 .8 .6 rightly, .7 .5 wrongly; .4 is missed; .3 .2 are rightly passed.
    assert classification.confusion_matrix(TARGET, PROBABILITY, 0.45) == classification.ConfusionMatrix(3, 2, 2, 1)
    found = classification.classification_metrics(TARGET, PROBABILITY, 0.45)
    assert tuple(found) == classification.METRICS
    assert found["accuracy"] == 0.625  # (3 + 2) / 8
    assert found["precision"] == 0.6  # 3 / 5
    assert found["recall"] == 0.75  # 3 / 4
    assert found["f1"] == pytest.approx(0.666667, abs=1e-6)  # 2 * .6 * .75 / 1.35 = .9 / 1.35
    assert found["specificity"] == 0.5  # 2 / 4
    # Of 16 pairs the positive one is ahead in 4 (.9) + 4 (.8) + 3 (.6) + 2 (.4) = 13.
    assert found["roc_auc"] == 0.8125
    # Precision at each positive: 1/1, 2/2, 3/4, 4/6; their mean is (1 + 1 + .75 + .666667) / 4.
    assert found["average_precision"] == pytest.approx(0.854167, abs=1e-6)
    # The product of the true classes' probabilities: .9 * .8 * .3 * .6 * .5 * .4 * .7 * .8 = .0145152; -ln of it is
    # 4.232559, an eighth of that:
    assert found["log_loss"] == pytest.approx(0.529070, abs=1e-6)
    # A bin an image, so the distances .1 .2 .7 .4 .5 .6 .3 .2 add up to 3.0; an eighth of that:
    assert found["ece"] == pytest.approx(0.375, abs=1e-12)
    # Squared distances .01 .04 .49 .16 .25 .36 .09 .04 add up to 1.44; an eighth of that:
    assert found["brier"] == pytest.approx(0.18, abs=1e-12)


def test_the_threshold_itself_is_positive():
    assert classification.confusion_matrix([1, 0], [0.5, 0.4], 0.5) == classification.ConfusionMatrix(1, 0, 1, 0)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [1, 0, 2, 3], [3, 2, 1, 0]])
def test_ties_count_half_and_their_order_does_not_matter(order):
    target, probability = np.array([1, 0, 1, 0])[order], np.array([0.5, 0.5, 0.5, 0.2])[order]
    found = classification.classification_metrics(target, probability, 0.3)
    # Four pairs: twice .5 against .5 (a half each), twice .5 against .2 (one each): 3 of 4.
    assert found["roc_auc"] == 0.75
    # One threshold takes all three at .5 together: recall 1 at precision 2/3.
    assert found["average_precision"] == pytest.approx(2 / 3, abs=1e-12)


def test_equal_probabilities_are_guessing():
    found = classification.classification_metrics([1, 0, 0, 0, 0], [0.3] * 5, 0.5)
    assert found["roc_auc"] == 0.5
    assert found["average_precision"] == 0.2  # the share of positives


def test_without_a_positive_call_precision_is_undefined():
    found = classification.metrics_summary(TARGET, PROBABILITY, 0.95)
    assert "precision" not in found
    assert found["undefined"] == {"precision": "no image was called positive at this threshold"}
    assert (found["recall"], found["f1"], found["specificity"]) == (0.0, 0.0, 1.0)


def test_a_single_class_leaves_out_what_needs_both():
    only_negative = classification.metrics_summary([0, 0], [0.2, 0.7], 0.5)
    assert only_negative["undefined"] == dict.fromkeys(
        ("recall", "roc_auc", "average_precision"), "no image of the positive class"
    )
    assert (only_negative["specificity"], only_negative["precision"]) == (0.5, 0.0)
    only_positive = classification.metrics_summary([1, 1], [0.2, 0.7], 0.5)
    assert only_positive["undefined"] == dict.fromkeys(("specificity", "roc_auc"), "no image of the negative class")
    assert only_positive["average_precision"] == 1.0
    nothing = classification.metrics_summary([0], [0.2], 0.5)
    assert set(nothing["undefined"]) == {"precision", "recall", "f1", "roc_auc", "average_precision"}
    for found in (only_negative, only_positive, nothing):
        assert set(found["undefined"]) == set(classification.METRICS) - set(found)
        json.dumps(found, allow_nan=False)


def test_log_loss_of_a_confident_error_is_finite():
    # ln(2^-52) = -52 * .693147 = -36.0437; the other image costs nothing; half of it:
    found = classification.classification_metrics([1, 1], [0.0, 1.0], 0.5)
    assert found["log_loss"] == pytest.approx(18.02183, abs=1e-4)


def test_metrics_by_class():
    counts = classification.ConfusionMatrix(true_positive=3, false_positive=2, true_negative=2, false_negative=1)
    assert classification.metrics_by_class(counts, ("good", "bad")) == {
        # Three were called good (2 + 1), two of them rightly; F1 = 2 * 2 / (4 + 3).
        "good": {"n": 4, "called": 3, "correct": 2, "precision": 2 / 3, "recall": 0.5, "f1": 4 / 7},
        "bad": {"n": 4, "called": 5, "correct": 3, "precision": 0.6, "recall": 0.75, "f1": 6 / 9},
    }


@pytest.mark.parametrize(
    ("target", "probability", "message"),
    [
        ([1, 0], [0.5, float("nan")], "1 of 2 lie outside 0..1, the first is nan at position 1"),
        ([1, 0], [1.5, 0.5], "the first is 1.5 at position 0"),
        ([1, 2], [0.5, 0.5], r"found \[2\]; allowed are 0"),
        ([1], [0.5, 0.5], r"\(1,\) and probabilities \(2,\)"),
        ([], [], "must be two lists"),
    ],
)
def test_invalid_values_are_rejected(target, probability, message):
    with pytest.raises(DataError, match=message):
        classification.classification_metrics(target, probability, 0.5)


def test_agrees_with_another_implementation_on_many_random_cases():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        target = rng.integers(0, 2, 50)
        probability = rng.integers(1, 10, 50) / 10  # many ties
        ours = classification.classification_metrics(target, probability, 0.45)
        del ours["ece"]  # which scikit-learn does not know
        called = probability >= 0.45
        theirs = {
            "accuracy": peer.accuracy_score(target, called),
            "precision": peer.precision_score(target, called),
            "recall": peer.recall_score(target, called),
            "f1": peer.f1_score(target, called),
            "specificity": peer.recall_score(target, called, pos_label=0),
            "roc_auc": peer.roc_auc_score(target, probability),
            "average_precision": peer.average_precision_score(target, probability),
            "log_loss": peer.log_loss(target, probability),
            "brier": peer.brier_score_loss(target, probability),
        }
        assert ours == pytest.approx(theirs, abs=1e-12)
