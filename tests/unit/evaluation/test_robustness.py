"""Robustness under perturbations, for a model whose answers can be computed by hand."""

import numpy as np
import pytest

from twofold.evaluation import robustness
from twofold.evaluation.robustness import PERTURBATIONS

# Flat grey images; the model's probability is grey / 255 at a threshold of 0.5 (grey 127.5).
GREY = np.array([20, 100, 120, 130, 150, 170])
TARGET = np.array([0, 0, 1, 0, 1, 1])
ALONE = [None] * 6  # each image is a sample of its own


def pixels(numbers):
    return np.broadcast_to(GREY[numbers, None, None, None], (len(numbers), 8, 8, 1)).astype(np.uint8)


def predict(name, batches):
    assert name in PERTURBATIONS
    return np.concatenate([batch.mean(axis=(1, 2, 3)) / 255 for batch in batches])


@pytest.fixture(scope="module")
def measured():
    return robustness.measure_robustness(pixels, TARGET, GREY / 255, 0.5, ALONE, predict, batch=4)


def test_every_perturbation_and_the_unperturbed_images_are_measured(measured):
    assert list(measured) == ["unaltered", "jpeg", "blur", "brighter", "darker", "flatter", "shifted"]
    # Called positive: 130, 150, 170. Right: 20, 100, 150, 170. Of 3 x 3 pairs one, (120, 130), is the wrong way round.
    expected = {"n": 6, "n_positive": 3, "accuracy": 4 / 6, "recall": 2 / 3, "specificity": 2 / 3, "roc_auc": 8 / 9}
    assert measured["unaltered"] == pytest.approx(expected)


def test_metrics_of_brighter_images(measured):
    # 24, 120, 144, 156, 180, 204: now 120 is found too; no other answer changes.
    found = measured["brighter"]
    changes = (found["accuracy_change"], found["recall_change"], found["specificity_change"], found["roc_auc_change"])
    assert changes == pytest.approx((1 / 6, 1 / 3, 0, 0))
    assert (found["accuracy"], found["recall"], found["changed"]) == pytest.approx((5 / 6, 1, 1))
    ends = found["intervals"]["accuracy_change"]
    assert ends["low"] < 1 / 6 < ends["high"]
    assert ends["method"] == "tango"
    assert found["intervals"]["roc_auc_change"]["method"] == "mover"


def test_metrics_of_darker_images(measured):
    # 16, 80, 96, 104, 120, 136: only 170 is still called positive.
    found = measured["darker"]
    assert (found["accuracy"], found["recall"], found["specificity"]) == pytest.approx((4 / 6, 1 / 3, 1))
    assert (found["accuracy_change"], found["recall_change"]) == pytest.approx((0, -1 / 3))
    assert found["changed"] == 2


def test_a_change_that_moves_no_answer_has_an_interval_of_tangos_width(measured):
    found = measured["shifted"]
    assert (found["changed"], found["accuracy_change"]) == (0, 0)
    reach = 1.959964**2 / (6 + 1.959964**2)
    ends = found["intervals"]["accuracy_change"]
    assert (ends["low"], ends["high"]) == pytest.approx((-reach, reach), abs=1e-5)


def test_images_are_read_and_perturbed_one_batch_at_a_time():
    asked = []

    def counted(numbers):
        asked.append(numbers.tolist())
        return pixels(numbers)

    robustness.measure_robustness(counted, TARGET, GREY / 255, 0.5, ALONE, predict, batch=4)
    assert asked == [[0, 1, 2, 3], [4, 5]] * len(PERTURBATIONS)


def test_the_size_of_a_batch_changes_nothing(measured):
    assert robustness.measure_robustness(pixels, TARGET, GREY / 255, 0.5, ALONE, predict, batch=1) == measured


def test_metrics_of_a_missing_class_are_absent():
    def good(numbers):
        return pixels(numbers[:2])

    found = robustness.measure_robustness(good, np.array([0, 0]), GREY[:2] / 255, 0.5, ALONE[:2], predict, batch=4)
    assert set(found["unaltered"]) == {"n", "n_positive", "accuracy", "specificity"}
    assert set(found["blur"]["intervals"]) == {"accuracy_change", "specificity_change"}


def test_images_of_one_sample_count_as_one(measured):
    found = robustness.measure_robustness(pixels, TARGET, GREY / 255, 0.5, ["a", "a", *ALONE[2:]], predict, batch=4)
    # Five samples are fewer than an interval needs; the metrics themselves stay.
    assert found["brighter"]["accuracy"] == measured["brighter"]["accuracy"]
    assert found["brighter"]["intervals"] == {}


def test_the_table_has_a_row_with_words_for_each_perturbation(measured):
    header, rows = robustness.robustness_table(measured)
    rows = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["alteration"] for row in rows] == list(measured)
    assert rows[0]["words"] == "as they are"
    assert rows[0]["accuracy_change"] is None
    assert rows[3]["words"] == "20 % brighter"
    assert rows[3]["recall_change"] == pytest.approx(1 / 3)
    assert rows[3]["recall_change_low"] == measured["brighter"]["intervals"]["recall_change"]["low"]


def test_a_sample_is_evenly_spaced():
    assert robustness.evenly_spaced(5, 8).tolist() == [0, 1, 2, 3, 4]
    assert robustness.evenly_spaced(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert robustness.evenly_spaced(9, 5).tolist() == [0, 2, 4, 6, 8]
    assert len(set(robustness.evenly_spaced(657, 256).tolist())) == 256
