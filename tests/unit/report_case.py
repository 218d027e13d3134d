"""Findings for a report: 300 test images with generated scores, drawn as noise."""

from typing import Any

import numpy as np

from twofold import charts, curves, predictions
from twofold.metrics import Counts, by_slice, confusion, summary
from twofold.report import Findings

DECISION = {
    "schema_version": 1,
    "threshold": 0.5,
    "policy": "precision_at_recall",
    "recall_at_least": 0.85,
    "views": 8,
    "model_digest": "d" * 64,
    "fingerprint": "f" * 64,
    "chosen_on": {"split": "validation", "n": 120, "n_positive": 40},
}


def noise(sha256: str) -> np.ndarray:
    return np.random.default_rng(int(sha256, 16)).integers(0, 256, (24, 24, 1), dtype=np.uint8)


def make_findings(
    labels: tuple[str, str] = ("functional", "defective"),
    n: int = 300,
    pictures: bool = True,
    slices: dict[str, list[Any]] | None = None,
    perfect: bool = False,
    group: list[Any] | None = None,
) -> Findings:
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
    test = predictions.gather(columns, slices or {"type": ["mono" if row % 2 else "poly" for row in range(n)]})
    answers = (test.target, test.probability, 0.5)
    counts = confusion(*answers)
    metrics = summary(*answers) | {
        "threshold": 0.5,
        "slices": by_slice(*answers, test.slices),
    }
    return Findings(
        metrics=metrics,
        decision=DECISION | {"labels": list(labels), "positive": labels[1]},
        data={"image_size": 24, "channels": 1},
        model={"backbone": "resnet50", "weights": "imagenet1k_v1", "winner": "finetuned"},
        test=test,
        splits={"train": (600, 300), "validation": (80, 40), "test": (counts.negative, counts.positive)},
        charts=draw(test, metrics, counts, labels),
        pixels=noise if pictures else None,
    )


def draw(
    test: predictions.Predictions, metrics: Any, counts: Counts, labels: tuple[str, str]
) -> dict[str, charts.Picture]:
    points = (test.target, test.probability)
    on_roc = charts.Point(1 - metrics["specificity"], metrics["recall"], 0.5)
    on_trade = charts.Point(metrics["recall"], metrics["precision"], 0.5)
    trade = curves.precision_recall(*points)
    return {
        "confusion": charts.confusion(counts, labels),
        "roc": charts.roc(curves.roc(*points), metrics["roc_auc"], on_roc, labels),
        "precision_recall": charts.precision_recall(trade, metrics["average_precision"], 1 / 3, on_trade, labels),
        "scores": charts.scores(curves.histogram(*points), counts, 0.5, labels),
    }
