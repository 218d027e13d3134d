"""Metrics in words, as summaries and pages say them."""

import pytest

from twofold.metrics.classification import ConfusionMatrix
from twofold.metrics.number_format import detection_sentence, weakest_slice


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (ConfusionMatrix(153, 12, 439, 52), "finds 153 of 205 defective, misses 52 (25 %), 12 false alarms in 451"),
        (ConfusionMatrix(3, 1, 9, 0), "finds 3 of 3 defective, misses 0 (0 %), 1 false alarm in 10"),
        # A share other than 0 or 1 is not rounded to 0 or 100.
        (
            ConfusionMatrix(1999, 0, 1200, 1),
            "finds 1,999 of 2,000 defective, misses 1 (0.05 %), 0 false alarms in 1,200",
        ),
        (ConfusionMatrix(1, 0, 5, 999), "finds 1 of 1,000 defective, misses 999 (99 %), 0 false alarms in 5"),
    ],
)
def test_a_test_in_a_sentence(counts, sentence):
    assert detection_sentence(counts._asdict(), "defective").replace("\N{NARROW NO-BREAK SPACE}", " ") == sentence


def test_the_weakest_slice_has_the_lowest_accuracy_of_those_that_are_judged():
    counts = {"true_positive": 30, "false_positive": 10, "true_negative": 50, "false_negative": 10, "n": 100}
    counts["intervals"] = {"accuracy": {"low": 0.7, "high": 0.9}}
    slices = {
        "type": {
            "mono": counts | {"accuracy": 0.8, "judged": True},
            "poly": counts | {"accuracy": 0.9, "judged": True},
        },
        "source": {"rare": {"judged": False, "accuracy": 0.1}},
    }
    expected = "type mono: accuracy 0.800 (0.700 to 0.900), n = 100"
    assert weakest_slice(slices) == expected
    found = weakest_slice(slices, "bad").replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert found == f"{expected}; finds 30 of 40 bad, misses 10 (25 %), 10 false alarms in 60"
    assert weakest_slice({}, "bad") == "no slice has enough images to judge"
