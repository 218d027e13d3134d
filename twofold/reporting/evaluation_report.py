"""evaluation.html: explains the results of a test to readers who know the images and not machine learning.

The text of the page is in `templates/evaluation.html`; this module prepares its values.
"""

from collections.abc import Mapping
from typing import Any

from twofold.evaluation.explanations import Explanations
from twofold.metrics.classification import ConfusionMatrix, metrics_by_class
from twofold.metrics.confidence_intervals import rate_interval
from twofold.metrics.decision_threshold import BY_THEORY, describe_rule
from twofold.metrics.number_format import detection_sentence, interval_text, number, weakest_slice
from twofold.metrics.platt_scaling import WHY, recorded_scaling
from twofold.reporting import html_page, sections
from twofold.reporting.html_page import Picture
from twofold.reporting.wording import ARITHMETIC, METHODS, TITLES, count_images, rate_with_interval, recorded_interval


def render(
    metrics: Mapping[str, Any],
    decision: Mapping[str, Any],
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    charts: Mapping[str, Picture],
    explained: Explanations,
) -> str:
    """Render the page; the same values give the same text.

    Args:
        metrics: as in metrics.json.
        decision: as in decision.json.
        data, model: the meta.json of the prepared data and of the model.
        charts: confusion, roc, precision_recall, scores and reliability.
        explained: the most confident errors and some correct answers.
    """
    negative, positive = decision["labels"]
    counts = ConfusionMatrix(*(metrics[name] for name in ConfusionMatrix._fields))
    prevalence = counts.positive / counts.n
    context = {
        "negative": negative,
        "positive": positive,
        "c": counts,
        "images": count_images,
        "accuracy": rate_with_interval(counts.correct, counts.n, recorded_interval(metrics, "accuracy")),
        "prevalence": prevalence,
        "baseline": max(prevalence, 1 - prevalence),
        "common": positive if prevalence > 0.5 else negative,
        "tone": "",
        "sentence": detection_sentence(metrics, positive),
        # Gates and audits are no input of evaluate, whose result depends on data and model only.
        "verdict": [
            ("Verdict", "register evaluates the gates: decision.html"),
            ("Weakest slice", weakest_slice(metrics["slices"], positive)),
            ("Data audits", "on decision.html, and with pictures on the pages of ingest, preprocess and train_head"),
        ],
        "tiles": _tiles(metrics, counts, negative, positive),
        "charts": charts,
        "splits": {split: (own[negative], own[positive]) for split, own in data["counts"].items()},
        "units": metrics["n_units"] if metrics["n_units"] < counts.n else None,
        "effective": round(metrics["n_effective"]),
        "threshold": decision["threshold"],
        "rule": describe_rule(dict(decision)),
        "by_theory": decision["policy"] in BY_THEORY,
        "chosen_on": decision["chosen_on"],
        "views": decision["views"],
        "calibration": _calibration(metrics, decision),
        "rows": _rows(metrics, counts, negative, positive),
        "classes": _classes(metrics, counts, negative, positive),
        "slices": sections.slice_tables(metrics["slices"]),
        "robustness": sections.robustness_rows(metrics.get("robustness")),
        "explained": explained,
        "decision": decision,
        "data": data,
        "model": model,
        "arithmetic": ARITHMETIC[decision["precision"]],
        "methods": METHODS,
    }
    return html_page.render(f"Evaluation: {positive} or {negative}", "evaluation.html", context)


def _tiles(metrics: Mapping[str, Any], counts: ConfusionMatrix, negative: str, positive: str) -> list[dict[str, Any]]:
    tiles = (
        ("Correct answers", counts.correct, counts.n, "images", "accuracy", False),
        ("Found", counts.true_positive, counts.positive, f"{positive} images", "recall", False),
        ("False alarms", counts.false_positive, counts.negative, f"{negative} images", "specificity", True),
        (f"Correct when it says {positive}", counts.true_positive, counts.called, "such answers", "precision", False),
    )
    return [
        {"title": title, "rate": rate_with_interval(hits, n, recorded_interval(metrics, key, complement)), "of": of}
        for title, hits, n, of, key, complement in tiles
    ]


def _calibration(metrics: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **recorded_scaling(decision)._asdict(),
        "bound": WHY[decision["platt_slope"]] if decision["calibrated_on"]["at_bound"] else "",
        "before": metrics["ece_uncalibrated"],
        "before_interval": interval_text(metrics, "ece_uncalibrated"),
        "after": metrics["ece"],
        "after_interval": interval_text(metrics, "ece"),
        # An interval that reaches down to 0 means that chance alone explains an error of this size.
        "chance": metrics["intervals"].get("ece", {}).get("low") == 0,
    }


def _rows(metrics: Mapping[str, Any], counts: ConfusionMatrix, negative: str, positive: str) -> list[dict[str, Any]]:
    measured_on = {
        "precision": f"{counts.called:,} “{positive}” answer{'' if counts.called == 1 else 's'}",
        "recall": count_images(counts.positive, positive),
        "specificity": count_images(counts.negative, negative),
    }
    prevalence = number(counts.positive / counts.n)
    return [
        {
            "key": key,
            "title": title,
            "of": measured_on.get(key, count_images(counts.n)),
            "value": metrics.get(key),
            "interval": interval_text(metrics, key),
            "words": words.format(negative=negative, positive=positive, prevalence=prevalence),
            "why": metrics.get("undefined", {}).get(key),
        }
        for key, (title, words) in TITLES.items()
    ]


def _classes(metrics: Mapping[str, Any], counts: ConfusionMatrix, negative: str, positive: str) -> list[dict[str, Any]]:
    independent = metrics["n_units"] == counts.n
    intervals = {
        positive: (recorded_interval(metrics, "recall"), recorded_interval(metrics, "precision")),
        negative: (
            recorded_interval(metrics, "specificity"),
            rate_interval(counts.true_negative, counts.n - counts.called) if independent else None,
        ),
    }
    return [
        {
            "label": label,
            "n": own["n"],
            "called": own["called"],
            "recall": rate_with_interval(int(own["correct"]), int(own["n"]), intervals[label][0]),
            "precision": rate_with_interval(int(own["correct"]), int(own["called"]), intervals[label][1]),
            "f1": own.get("f1"),
        }
        for label, own in reversed(metrics_by_class(counts, (negative, positive)).items())
    ]
