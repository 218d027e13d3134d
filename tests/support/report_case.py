"""What an evaluation report shows: 300 test images of noise, with generated scores."""

from typing import Any

import numpy as np

from twofold.evaluation import predictions
from twofold.evaluation.error_analysis import data_url, most_confident_errors, sample_correct
from twofold.evaluation.explanations import Explanation, Explanations
from twofold.evaluation.slices import slice_metrics
from twofold.metrics import calibration
from twofold.metrics.classification import confusion_matrix, metrics_summary
from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import effective_images, metric_intervals
from twofold.metrics.platt_scaling import recorded_scaling
from twofold.reporting import plots
from twofold.reporting.html_page import Picture

DECISION = {
    "schema_version": 4,
    "platt_slope": 0.625,
    "platt_intercept": -0.4,
    "threshold": 0.5,
    "policy": "recall_at_least",
    "rule": {"recall": 0.85},
    "views": 8,
    "precision": "float32",
    "model_digest": "d" * 64,
    "fingerprint": "f" * 64,
    "chosen_on": {"split": "validation", "n": 120, "n_positive": 40},
    "calibrated_on": {"at_bound": False},
}
MAP = data_url(np.zeros((1, 2, 1), np.uint8))


def noise(sha256: str) -> np.ndarray:
    return np.random.default_rng(int(sha256, 16)).integers(0, 256, (24, 24, 1), dtype=np.uint8)


def make_findings(
    labels: tuple[str, str] = ("functional", "defective"),
    n: int = 300,
    pictures: bool = True,
    slices: dict[str, list[Any]] | None = None,
    perfect: bool = False,
    group: list[Any] | None = None,
    **decided: Any,
) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    target = (np.arange(n) % 3 == 0).astype(int)
    probability = (
        np.where(target == 1, 0.9, 0.1) if perfect else np.clip(0.3 + 0.4 * target + rng.normal(0, 0.2, n), 0, 1)
    )
    predicted = probability >= 0.5
    columns = {
        "sha256": [f"{number:064x}" for number in range(n)],
        "split": ["test"] * n,
        "label": [labels[value] for value in target],
        "target": target,
        "probability": probability,
        "predicted": predicted,
        "group": group or [None] * n,
    }
    test = predictions.build_predictions(
        columns, slices or {"type": ["mono" if row % 2 else "poly" for row in range(n)]}
    )
    answers, unit = (test.target, test.probability, 0.5), test.unit.tolist()
    counts = confusion_matrix(*answers)
    decision = DECISION | {"labels": list(labels), "positive": labels[1]} | decided
    uncalibrated = recorded_scaling(decision).inverse().calibrate(test.probability)
    before = metric_intervals(test.target, uncalibrated, 0.5, unit)["ece"]
    units, effective = effective_images(test.target, ModelOutputs(test.probability, 0.5), unit)
    metrics = metrics_summary(*answers) | {
        "n_units": units,
        "n_effective": effective,
        "ece_uncalibrated": calibration.expected_calibration_error(test.target, uncalibrated),
        "platt_slope": decision["platt_slope"],
        "platt_intercept": decision["platt_intercept"],
        "threshold": 0.5,
        "intervals": metric_intervals(*answers, unit) | {"ece_uncalibrated": before},
        "slices": slice_metrics(*answers, test.slices, unit),
    }
    split_counts = {"train": (600, 300), "validation": (80, 40), "test": (counts.negative, counts.positive)}
    return {
        "metrics": metrics,
        "decision": decision,
        "data": {
            "image_size": 24,
            "channels": 1,
            "counts": {split: dict(zip(labels, n, strict=True)) for split, n in split_counts.items()},
        },
        "model": {"backbone": "resnet50", "weights": "imagenet1k_v1", "winner": "finetuned"},
        "charts": draw((labels, n, perfect, recorded_scaling(decision)), test, uncalibrated, metrics),
        "explained": explained(test, labels, pictures),
    }


def explained(test: predictions.Predictions, labels: tuple[str, str], pictures: bool) -> Explanations:
    """Answers with a blank map each, or without pictures."""
    pixels, overlay, words = (noise, MAP, "A map of noise") if pictures else (None, None, "")
    cases = [
        [Explanation(answer, overlay, words) for answer in choose(test, labels, pixels)]
        for choose in (most_confident_errors, sample_correct)
    ]
    if pictures:
        return Explanations(*cases, legend=MAP, positions=(1, 2), untrained=0.1, missing="")
    missing = "pictures are left out of this report (evaluate.pictures: false)"
    return Explanations(*cases, legend=None, positions=None, untrained=None, missing=missing)


_DRAWN: dict[Any, dict[str, Picture]] = {}


def draw(key: Any, test: predictions.Predictions, uncalibrated: Any, metrics: Any) -> dict[str, Picture]:
    """The charts for `key`, drawn once, because drawing is the slowest part."""
    if key not in _DRAWN:
        _DRAWN[key] = plots.draw_plots(test, uncalibrated, metrics, key[0])
    return _DRAWN[key]
