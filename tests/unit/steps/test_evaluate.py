"""The step evaluate, on a case calculated by hand (see evaluation_case.py)."""

import json
import re
from functools import partial

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from tests.support.evaluation_case import (
    IMAGES,
    INTERCEPT,
    LABELS,
    PARAMS,
    SIZE,
    SLOPE,
    THRESHOLD,
    UNCALIBRATED,
    chance,
    known_backbone,
    rows,
    run_evaluate,
    sha256,
)
from twofold.core import artifacts
from twofold.core.errors import ArtifactError, DataError
from twofold.evaluation import predictions
from twofold.metrics.decision_threshold import RecallAtLeast


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs the step on that case, with changes; it returns (evaluation folder, metrics)."""
    monkeypatch.setenv("TWOFOLD_DEVICE", "cpu")
    known_backbone(monkeypatch)

    return partial(run_evaluate, tmp_path)


def test_metrics_are_those_calculated_by_hand(run):
    _, metrics = run()
    assert metrics["threshold"] == pytest.approx(THRESHOLD, abs=1e-4)
    assert (metrics["n"], metrics["n_positive"], metrics["n_negative"]) == (7, 3, 4)
    outcomes = [metrics[name] for name in ("true_positive", "false_positive", "true_negative", "false_negative")]
    assert outcomes == [2, 1, 3, 1]
    assert metrics["accuracy"] == 5 / 7
    assert metrics["precision"] == metrics["recall"] == metrics["f1"] == 2 / 3
    assert metrics["specificity"] == 3 / 4
    assert metrics["roc_auc"] == 10 / 12
    # Precision at 240, 125, 110: 1/1, 2/3, 3/4.
    assert metrics["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    truth = [chance(grey) if target else 1 - chance(grey) for split, grey, target, _ in IMAGES if split == "test"]
    assert metrics["log_loss"] == pytest.approx(-np.log(truth).mean(), abs=1e-4)
    assert metrics["brier"] == pytest.approx(np.square(1 - np.array(truth)).mean(), abs=1e-4)
    # In each bin all errors have the same sign, so the ECE is the sum of the distances.
    gaps = [abs(chance(grey) - target) for split, grey, target, _ in IMAGES if split == "test"]
    assert metrics["ece"] == pytest.approx(sum(gaps) / 7, abs=1e-4)
    before = [abs(chance(grey, UNCALIBRATED) - target) for split, grey, target, _ in IMAGES if split == "test"]
    assert metrics["ece_uncalibrated"] == pytest.approx(sum(before) / 7, abs=1e-4)
    assert (metrics["platt_slope"], metrics["platt_intercept"]) == pytest.approx((SLOPE, INTERCEPT), abs=1e-4)
    assert "undefined" not in metrics
    assert metrics["slices"]["type"]["mono"]["n"] == 4
    assert metrics["slices"]["type"]["mono"]["accuracy"] == 3 / 4
    assert metrics["slices"]["type"]["poly"]["false_positive"] == 1
    assert not any(own["judged"] for own in metrics["slices"]["type"].values())
    alone = metrics["slices"]["type"]["(not given)"]
    assert "roc_auc" not in alone
    assert alone["undefined"]["roc_auc"] == "no image of the positive class"


def test_predictions_hold_validation_and_test_and_nothing_of_train(run):
    evaluation, _ = run()
    table = predictions.read(evaluation / predictions.PREDICTIONS)
    expected = sorted((split, sha256(grey), grey) for split, grey, _, _ in IMAGES if split != "train")
    assert list(zip(table.split, table.sha256, strict=True)) == [(split, name) for split, name, _ in expected]
    greys = np.array([grey for _, _, grey in expected])
    assert table.probability == pytest.approx(np.array([chance(grey) for grey in greys]), abs=1e-4)
    assert table.predicted.tolist() == (greys > 120).astype(int).tolist()
    assert table.label.tolist() == [LABELS[target] for target in table.target]


def test_every_metric_has_its_interval_in_every_slice_too(run):
    _, metrics = run()
    intervals = metrics["intervals"]
    accuracy = intervals["accuracy"]
    exact = binomtest(5, 7).proportion_ci(method="exact")
    assert (accuracy["low"], accuracy["high"]) == pytest.approx((exact.low, exact.high))
    assert {name: found["method"] for name, found in intervals.items() if name in ("recall", "roc_auc", "ece")} == {
        "recall": "wilson_or_exact",
        "roc_auc": "score",
        "ece": "binned_score",
    }
    assert "ece_uncalibrated" in intervals
    for name, found in intervals.items():
        assert found["low"] <= metrics[name] <= found["high"], name
    mono = metrics["slices"]["type"]["mono"]
    assert mono["intervals"]["accuracy"]["low"] < mono["accuracy"] < mono["intervals"]["accuracy"]["high"]


def test_images_of_one_sample_widen_every_interval(run):
    # Ten samples of two images; both false alarms are in one of them. So they tell as much as about ten images.
    greys = [*range(30, 46, 2), 150, 152, *range(200, 220, 2)]
    images = [*IMAGES[:8], *(("test", grey, int(grey >= 200), "mono") for grey in greys)]
    units = {grey: f"sample {number // 2}" for number, grey in enumerate(greys)}
    evaluation, together = run("together", images, units=units, robustness=20)
    _, alone = run("alone", images, robustness=20)
    assert (alone["accuracy"], alone["n_units"], alone["n_effective"]) == (18 / 20, 20, 20)
    assert (together["accuracy"], together["n_units"]) == (18 / 20, 10)
    assert together["n_effective"] == pytest.approx(10, abs=1)
    test = predictions.read(evaluation / predictions.PREDICTIONS).of("test")
    assert dict(zip(test.sha256, test.unit, strict=True)) == {sha256(grey): unit for grey, unit in units.items()}
    for one, other in ((together, alone), (together["slices"]["type"]["mono"], alone["slices"]["type"]["mono"])):
        inner, outer = (each["intervals"]["accuracy"] for each in (other, one))
        assert outer["low"] < inner["low"] < inner["high"] < outer["high"]
    inner, outer = (each["robustness"]["blur"]["intervals"]["accuracy_change"] for each in (alone, together))
    assert outer["low"] < inner["low"] < inner["high"] < outer["high"]


def test_the_decision_holds_all_that_serving_needs(run, tmp_path):
    evaluation, _ = run(threshold=RecallAtLeast(policy="recall_at_least", recall=0.3), views=1)
    decision = json.loads((evaluation / "decision.json").read_text())
    calibrated_on = decision.pop("calibrated_on")
    greys = [(grey, target) for split, grey, target, _ in IMAGES if split == "validation"]
    for key, scaling in (("log_loss", (SLOPE, INTERCEPT)), ("log_loss_uncalibrated", UNCALIBRATED)):
        truth = [chance(grey, scaling) if target else 1 - chance(grey, scaling) for grey, target in greys]
        assert calibrated_on[key] == pytest.approx(-np.log(truth).mean(), abs=1e-4)
    assert (calibrated_on["at_bound"], calibrated_on["bounds"]) == (False, [0.1, 10.0])
    assert decision.pop("threshold") == pytest.approx(THRESHOLD, abs=1e-4)
    assert (decision.pop("platt_slope"), decision.pop("platt_intercept")) == (round(SLOPE, 4), round(INTERCEPT, 4))
    chosen_on = decision.pop("chosen_on")
    assert (chosen_on["split"], chosen_on["n"], chosen_on["n_positive"], chosen_on["accuracy"]) == (
        "validation",
        6,
        3,
        1.0,
    )
    assert decision == {
        "schema_version": 4,
        "policy": "recall_at_least",
        "rule": {"recall": 0.3},
        "positive": "bad",
        "labels": ["good", "bad"],
        "views": 1,
        "precision": "float32",
        "fingerprint": "f" * 64,
        "model_digest": artifacts.digest(tmp_path / "model-evaluation"),
    }


def test_the_calibration_is_fitted_on_validation_only(run):
    # Two of six are confident errors: the probabilities say almost nothing.
    wrong = [(s, g, 1 - t if s == "validation" and g in (20, 220) else t, k) for s, g, t, k in IMAGES]
    evaluation, metrics = run("wrong", images=wrong)
    assert metrics["platt_slope"] == 0.1
    scaling = (0.1, metrics["platt_intercept"])
    table = predictions.read(evaluation / predictions.PREDICTIONS)
    expected = [chance(next(g for _, g, _, _ in IMAGES if sha256(g) == name), scaling) for name in table.sha256]
    assert table.probability == pytest.approx(np.array(expected), abs=1e-4)
    others, again = run("others", images=[(s, g, 1 - t if s == "test" else t, k) for s, g, t, k in wrong])
    assert again["platt_slope"] == metrics["platt_slope"]
    assert again["threshold"] == metrics["threshold"]
    assert (others / "decision.json").read_bytes() == (evaluation / "decision.json").read_bytes().replace(
        artifacts.digest(evaluation.parent / "model-wrong").encode(),
        artifacts.digest(evaluation.parent / "model-others").encode(),
    )


def test_views_are_averaged(run):
    # Upper left 200, lower right 100, the other two corners 0: mirrored and upside down it shows each corner once.
    odd = np.zeros((SIZE, SIZE, 1), np.uint8)
    odd[0, 0], odd[-1, -1] = 200, 100
    corners = [chance(grey, UNCALIBRATED) for grey in (200, 100, 0, 0)]
    for views, mean in ((1, corners[0]), (4, np.mean(corners))):
        expected = 1 / (1 + np.exp(-INTERCEPT) * ((1 - mean) / mean) ** SLOPE)
        evaluation, _ = run(f"views{views}", pixels={125: odd}, views=views)
        table = predictions.read(evaluation / predictions.PREDICTIONS)
        assert table.probability[table.sha256 == sha256(125)][0] == pytest.approx(expected, abs=1e-4)
        assert json.loads((evaluation / "decision.json").read_text())["views"] == views


def test_csv_files_agree_with_the_metrics(run):
    evaluation, metrics = run()
    pairs = [(row["actual"], row["predicted"]) for row in rows(evaluation / "confusion.csv")]
    assert len(pairs) == 7
    assert (pairs.count(("bad", "bad")), pairs.count(("good", "bad")), pairs.count(("bad", "good"))) == (2, 1, 1)
    roc = rows(evaluation / "roc.csv")
    points = [(float(row["fpr"]), float(row["tpr"])) for row in roc]
    assert points == [(0, 0), (0, 1 / 3), (0.25, 1 / 3), (0.25, 1), (1, 1)]
    assert all(np.isfinite(float(row["threshold"])) for row in roc)
    trade = [(float(row["recall"]), float(row["precision"])) for row in rows(evaluation / "precision_recall.csv")]
    assert trade[:4] == [(1 / 3, 1), (1 / 3, 1 / 2), (2 / 3, 2 / 3), (1, 3 / 4)]
    bars = rows(evaluation / "scores.csv")
    assert (sum(int(row["negative"]) for row in bars), sum(int(row["positive"]) for row in bars)) == (4, 3)
    # One image per bin: 240 has probability .91 of bad, and is bad.
    last = rows(evaluation / "reliability.csv")[-1]
    assert (last["low"], last["n"], last["positive"], last["share"]) == (str(13 / 15), "1", "1", "1.0")
    assert float(last["probability"]) == pytest.approx(chance(240), abs=1e-4)
    before = rows(evaluation / "reliability_uncalibrated.csv")[-1]
    assert float(before["probability"]) == pytest.approx(chance(240, UNCALIBRATED), abs=1e-4)
    slices = {row["value"]: row for row in rows(evaluation / "slices.csv")}
    assert float(slices["mono"]["accuracy_low"]) == metrics["slices"]["type"]["mono"]["intervals"]["accuracy"]["low"]
    assert slices["mono"]["judged"] == "false"
    assert float(slices["mono"]["accuracy"]) == metrics["slices"]["type"]["mono"]["accuracy"]
    assert slices["(not given)"]["roc_auc"] == ""
    # Four are predicted good: 10, 50 and 90 correctly, and the missed 110.
    good, bad = rows(evaluation / "classes.csv")
    assert (good["class"], good["n"], good["called"], good["correct"], good["precision"]) == (
        "good",
        "4",
        "4",
        "3",
        "0.75",
    )
    assert (bad["class"], bad["n"], bad["called"], bad["correct"]) == ("bad", "3", "3", "2")


def test_the_headline_metrics_are_flat_and_in_the_order_in_which_dvc_shows_them(run, tmp_path):
    _, metrics = run()
    headline = artifacts.read_json(tmp_path / "evaluation.json")
    shown = "accuracy roc_auc f1 precision recall ece brier n log_loss threshold average_precision"
    assert " ".join(headline) == shown
    assert headline == {name: metrics[name] for name in headline}


def test_the_same_inputs_give_the_same_bytes_without_local_paths(run, tmp_path):
    first, metrics = run("a")
    second, again = run("b", images=IMAGES[::-1])
    assert artifacts.digest(first) == artifacts.digest(second)
    assert metrics == again
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    for path in first.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_charts_and_page_are_readable(run):
    evaluation, metrics = run()
    names = ("confusion", "roc", "precision_recall", "scores", "reliability")
    for name in names:
        with Image.open(evaluation / f"{name}.png") as drawn:
            assert drawn.size[0] > 400
        assert (evaluation / f"{name}.svg").read_text().startswith("<?xml")
    html = (evaluation / "evaluation.html").read_text()
    for key in ("accuracy", "precision", "recall", "f1", "specificity", "roc_auc", "log_loss", "brier", "ece"):
        assert re.search(rf'data-figure="{key}">([\d.]+)', html)[1] == f"{metrics[key]:.3f}"
    assert html.count("<img") == 7  # the false alarm, the missed image and five correct answers
    assert "a feature map that is averaged at the end, and corner has none" in html
    meta = artifacts.read_meta(evaluation, "evaluation", 5)
    assert meta["params"] == PARAMS.model_dump()
    assert meta["n"] == {"validation": 6, "test": 7}


def test_without_pictures_no_pixels_are_written(run):
    evaluation, _ = run(pictures=False)
    html = (evaluation / "evaluation.html").read_text()
    assert "<img" not in html
    assert "data:image" not in html
    assert sha256(150)[:12] in html
    assert "There are no maps: pictures are left out" in html
    assert "data:image" not in (evaluation / "explanations.json").read_text()


def test_a_model_that_predicts_no_positive_has_undefined_metrics(run):
    # Inverted validation labels: predicting no positive has the highest accuracy there.
    turned = [(s, g, 1 - t if s == "validation" else t, k) for s, g, t, k in IMAGES if g not in (20, 60)]
    turned += [("validation", 230, 0, None), ("validation", 240 - 5, 0, None)]
    evaluation, metrics = run(images=turned)
    assert "precision" not in metrics
    assert metrics["undefined"] == {"precision": "no image was called positive at this threshold"}
    html = (evaluation / "evaluation.html").read_text()
    assert "No value: no image was called positive at this threshold." in html
    assert not re.search(r"\b(nan|None|inf)\b", html)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"labels": ["bad", "good"]}, r"made for labels \['bad', 'good'\], the data has \['good', 'bad'\]"),
        ({"image_size": 16}, "made for image_size 16, the data has 8"),
        ({"data_digest": "0" * 64}, "trained on other data than .*, or on other splits; run finetune_all again"),
    ],
)
def test_a_model_for_other_data_is_refused_before_anything_is_written(run, tmp_path, about, message):
    with pytest.raises(ArtifactError, match=message):
        run(about=about)
    assert not (tmp_path / "evaluation").exists()
    assert not (tmp_path / "evaluation.json").exists()


def test_a_split_without_a_class_is_refused(run):
    with pytest.raises(DataError, match="split 'test': no image of class 'bad'"):
        run(images=[image for image in IMAGES if image[0] != "test" or not image[2]])
