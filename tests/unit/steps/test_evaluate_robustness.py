"""The step evaluate under perturbations, on a case calculated by hand (see evaluation_case.py)."""

from functools import partial

import numpy as np
import pytest

from tests.support.evaluation_case import SIZE, known_backbone, rows, run_evaluate
from twofold.evaluation import drift_reference
from twofold.metrics.decision_threshold import MinCost


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs the step on that case, with changes; it returns (evaluation folder, metrics)."""
    monkeypatch.setenv("TWOFOLD_DEVICE", "cpu")
    known_backbone(monkeypatch)
    return partial(run_evaluate, tmp_path)


def test_perturbed_images_are_predicted_with_the_same_calibration_and_threshold(run):
    evaluation, metrics = run(views=4, threshold=MinCost(policy="min_cost", missed=99, false_alarm=101))
    found = metrics["robustness"]
    # The threshold, .505, is at grey 121. 20 % brighter, the missed 110 is detected as 132; 20 % darker, 125 is missed
    # as 100 and the false alarm of 150 disappears as 120. The images are flat, so nothing else changes.
    assert {name: own.get("changed") for name, own in found.items()} == {
        "unaltered": None,
        "jpeg": 0,
        "blur": 0,
        "brighter": 1,
        "darker": 2,
        "flatter": 0,
        "shifted": 0,
    }
    for name, accuracy, recall in (("unaltered", 5 / 7, 2 / 3), ("brighter", 6 / 7, 1), ("darker", 5 / 7, 1 / 3)):
        assert (found[name]["n"], found[name]["accuracy"], found[name]["recall"]) == (7, accuracy, recall), name
    change = found["brighter"]["intervals"]["accuracy_change"]
    assert found["brighter"]["accuracy_change"] == pytest.approx(1 / 7)
    assert change["low"] < 1 / 7 < change["high"]
    table = {row["alteration"]: row for row in rows(evaluation / "robustness.csv")}
    assert list(table) == ["unaltered", "jpeg", "blur", "brighter", "darker", "flatter", "shifted"]
    assert float(table["darker"]["recall"]) == found["darker"]["recall"]
    assert float(table["brighter"]["accuracy_change_low"]) == change["low"]
    html = (evaluation / "evaluation.html").read_text()
    assert "saved as JPEG of quality 50" in html
    assert 'id="robustness"' in html


def test_robustness_is_that_of_one_view(run):
    # Turned, the image shows a dark corner instead of grey 125: only its first view is detected.
    odd = np.zeros((SIZE, SIZE, 1), np.uint8)
    odd[:4, :4] = 125
    evaluation, metrics = run(views=4, pixels={125: odd})
    assert metrics["recall"] == pytest.approx(1 / 3)
    assert {metrics["robustness"][name]["recall"] for name in ("unaltered", "shifted")} == {2 / 3}
    assert "answered once, without test-time augmentation" in (evaluation / "evaluation.html").read_text()
    # So are the features of the drift reference.
    greys = np.sort(drift_reference.read(evaluation).features[:, 0] * 255)
    assert greys == pytest.approx([10, 50, 90, 110, 125, 150, 240], abs=0.1)


def test_robustness_can_be_measured_on_some_images_or_left_out(run):
    _, some = run("some", robustness=3)
    assert {own["n"] for own in some["robustness"].values()} == {3}
    evaluation, none = run("none", robustness=0)
    assert "robustness" not in none
    assert not (evaluation / "robustness.csv").exists()
    assert 'id="robustness"' not in (evaluation / "evaluation.html").read_text()
    assert {key: value for key, value in some.items() if key != "robustness"} == none
