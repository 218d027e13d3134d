"""Two models on the same images: images left out, vanished images, and images that only one gets right."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from tests.support import judging_case as case
from twofold.metrics.confidence_intervals import clopper_pearson, mcnemar, tango
from twofold.metrics.influence import ModelOutputs
from twofold.promotion import disagreements
from twofold.promotion.paired_comparison import Opponent, compare
from twofold.registry import version_text

TARGET = [1, 1, 1, 0, 0, 0]
TEST = case.predictions(TARGET, [0.9, 0.8, 0.4, 0.6, 0.2, 0.1])  # right on 000, 001, 004, 005
OTHER = [0.7, 0.2, 0.9, 0.3, 0.1, 0.1]  # at 0.5 right on 000, 002, 003, 004, 005


def beside(threshold=0.5, own=None, **splits):
    found = {split: frozenset(images) for split, images in splits.items()}
    return compare(TEST, 0.5, own or {}, Opponent("4", ModelOutputs(np.array(OTHER), threshold), found))


def test_each_model_has_its_own_threshold():
    assert beside().metrics["accuracy"] == 5 / 6
    assert beside(threshold=0.15).metrics["accuracy"] == 5 / 6  # now right on 001, wrong on 003
    assert beside(threshold=0.25).metrics["threshold"] == 0.25
    assert beside().own["accuracy"] == 4 / 6
    assert beside().difference("accuracy") == tango(1, 2, 6)
    assert beside().differences["accuracy"] == tango(1, 2, 6)


def test_images_that_either_learned_from_are_left_out_and_counted():
    own = {"train": frozenset(["000"]), "validation": frozenset(), "test": frozenset()}
    found = beside(own=own, train=["001", "no test image"], validation=["005"], test=["002"])
    assert found.test.sha256.tolist() == ["002", "003", "004"]
    champion = {"champion_train": 1, "champion_validation": 1}
    assert found.left_out == {"candidate_train": 1, "candidate_validation": 0} | champion
    assert found.one.probability.tolist() == [0.4, 0.6, 0.2]
    assert found.other.probability.tolist() == [0.9, 0.3, 0.1]
    assert found.metrics["accuracy"] == 1.0
    assert found.as_json()["n"] == 3


def test_without_common_images_there_is_no_comparison():
    found = beside(train=TEST.sha256.tolist())
    assert "all 6 test images" in found.problem
    assert found.as_json() == {"version": 4, "problem": found.problem}
    assert (found.own, found.metrics, found.differences) == ({}, {}, {})
    unreadable = compare(TEST, 0.5, {}, Opponent("4", ModelOutputs(np.array([]), 0.5), {}, "it cannot be read"))
    assert (unreadable.problem, unreadable.metrics, unreadable.fresh.tolist()) == ("it cannot be read", {}, [])


def test_the_fingerprint_is_of_the_compared_images():
    lines = "".join(f"{name:03}\0{'bad' if value else 'good'}\n" for name, value in enumerate(TARGET))
    assert beside().fingerprint == hashlib.sha256(lines.encode()).hexdigest()
    assert beside(train=["001"]).fingerprint != beside().fingerprint
    assert beside().as_json()["test_fingerprint"] == beside().fingerprint


def test_test_images_of_the_champion_that_the_candidate_lacks_have_vanished():
    assert beside(test=["000", "zzz", "abc"]).vanished == ("abc", "zzz")


def test_images_that_only_one_gets_right_are_sorted_by_confidence():
    found = beside()
    assert found.test.sha256[found.only_right(True)].tolist() == ["001"]
    assert found.test.sha256[found.only_right(False)].tolist() == ["002", "003"]  # confidence .9, then .7
    assert found.as_json()["mcnemar"] == {"candidate_only": 1, "champion_only": 2, "p_value": mcnemar(1, 2)}


def test_every_metric_has_its_method_and_its_interval_if_there_is_one():
    shown = beside().as_json()["figures"]
    assert shown["accuracy"] == {
        "candidate": 4 / 6,
        "champion": 5 / 6,
        "difference": pytest.approx(-1 / 6),
        "low": tango(1, 2, 6).low,
        "high": tango(1, 2, 6).high,
        "method": "tango",
    }
    # Three positive images are too few for average precision.
    assert set(shown["average_precision"]) == {"candidate", "champion", "method", "no_interval"}


TARGETS = np.arange(656) % 3 == 0
EXACT = np.where(TARGETS, 0.9, 0.2)


@pytest.mark.parametrize(
    ("metric", "probability", "units", "reason"),
    [
        ("brier", EXACT, range(656), "brier is the same on all images of a class"),
        ("log_loss", EXACT, range(656), "log_loss is the same on all images of a class"),
        (
            "accuracy",
            EXACT,
            np.arange(656) // 200,
            "the images come from 4 groups, too few for an",
        ),
        ("accuracy", EXACT, range(656), None),
    ],
)
def test_why_a_model_of_656_images_has_no_interval_beside_itself(metric, probability, units, reason):
    units = np.array([f"g{unit}" for unit in units], dtype=object)
    test = replace(case.predictions(TARGETS.astype(int), probability), unit=units)
    itself = compare(test, 0.5, {}, Opponent("1", ModelOutputs(probability, 0.5), {}))
    shown = itself.as_json()["figures"][metric]
    assert shown.get("no_interval", "").startswith(reason or "")
    assert ("low" in shown) == (reason is None)
    text = version_text.format_paired(itself.as_json(), "images", "version 1", "version 1")
    (line,) = [line.split(maxsplit=4)[-1] for line in text.splitlines() if line.split()[0] == metric]
    assert line == ("see below" if reason else f"{shown['low']:+.4f} to {shown['high']:+.4f}")
    assert shown.get("no_interval", "") in " ".join(text.split())


def test_images_that_the_other_model_has_not_known_are_fresh():
    found = beside(train=["000"], test=["001", "003", "zzz"])
    assert found.test.sha256[found.fresh].tolist() == ["002", "004", "005"]
    shown = found.as_json()["fresh"]
    assert (shown["n"], shown["figures"]["accuracy"]) == (
        3,
        {"candidate": 2 / 3, "champion": 1.0, **clopper_pearson(3, 3)._asdict()},
    )
    assert beside(test=TEST.sha256.tolist()).as_json()["fresh"] == {"n": 0, "figures": {}}


def test_disagreements_are_listed_and_a_few_of_each_model_are_shown(tmp_path):
    found = disagreements.find_disagreements(beside())
    shown = [(row.sha256, row.label, row.right) for row in found]
    assert shown == [("001", "bad", "candidate"), ("002", "bad", "champion"), ("003", "good", "champion")]
    disagreements.write_disagreements(tmp_path / "d.csv", found)
    assert (tmp_path / "d.csv").read_text().splitlines() == [
        "sha256,label,right,candidate_probability,champion_probability",
        "001,bad,candidate,0.8,0.2",
        "002,bad,champion,0.4,0.9",
        "003,good,champion,0.6,0.3",
    ]
    requested = []
    shown = disagreements.add_pictures(found, lambda sha256: requested.append(sha256) or np.zeros((2, 2, 1), "u1"), 1)
    assert requested == ["001", "002"]
    assert all(row.image.startswith("data:image/png;base64,") and row.size == 2 for row in shown)
    assert [row.image for row in disagreements.add_pictures(found, None)] == [None] * 3


@pytest.mark.parametrize("positives", [9, 10])
def test_the_f1_of_two_models_is_not_compared_on_fewer_than_ten_positive_images(positives):
    test = case.predictions([1] * positives + [0] * 40, np.random.default_rng(0).random(positives + 40))
    other = ModelOutputs(np.random.default_rng(1).random(len(test)), 0.5)
    found = compare(test, 0.5, {}, Opponent("4", other, {}))
    reason = found.why_no_difference("f1", np.arange(len(test)))
    assert ("f1" in found.differences) == (reason == "") == (positives == 10)
    if reason:
        assert reason == "9 images of the positive class are too few to compare the f1 of two models: it needs 10"
    assert {"precision", "recall", "roc_auc"} <= set(found.differences)
