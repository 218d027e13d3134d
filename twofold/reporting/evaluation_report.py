"""evaluation.html: in come the results of a test, out goes one page that explains them to a non-expert.

What the page says is in `templates/evaluation.html`; this module counts, rounds and picks what it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twofold.evaluation.explanations import Explanations
from twofold.evaluation.predictions import Predictions
from twofold.metrics import number_format
from twofold.metrics.classification import ConfusionMatrix, metrics_by_class
from twofold.metrics.decision_threshold import describe_rule
from twofold.metrics.temperature_scaling import WHY
from twofold.reporting import html_page, sections
from twofold.reporting.html_page import Picture
from twofold.reporting.wording import ARITHMETIC, METHODS, TITLES, interval_text, rate_with_interval


@dataclass(frozen=True)
class Findings:
    """What a report is made of.

    Attributes:
        metrics: as in metrics.json.
        decision: as in decision.json.
        data, model: the meta.json of the prepared data and of the model.
        test: the predictions on the test split.
        splits: images by split name, then by target: {"train": (negatives, positives), …}.
        charts: confusion, roc, precision_recall, scores and reliability.
        explained: the most confident errors and some right answers.
    """

    metrics: Mapping[str, Any]
    decision: Mapping[str, Any]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    test: Predictions
    splits: Mapping[str, tuple[int, int]]
    charts: Mapping[str, Picture]
    explained: Explanations


def render(findings: Findings) -> str:
    """The page as text; the same findings give the same text."""
    metrics, decision = findings.metrics, findings.decision
    negative, positive = decision["labels"]
    counts = ConfusionMatrix(*(metrics[name] for name in ConfusionMatrix._fields))
    prevalence = counts.positive / counts.n
    context = {
        "negative": negative,
        "positive": positive,
        "c": counts,
        "images": images,
        "accuracy": rate_with_interval(counts.correct, counts.n),
        "prevalence": prevalence,
        "baseline": max(prevalence, 1 - prevalence),
        "common": positive if prevalence > 0.5 else negative,
        "tiles": _tiles(counts, negative, positive),
        "found": of_hundred(counts.true_positive, counts.positive, f"{positive} image", "", "found", "missed"),
        "passed": of_hundred(
            counts.true_negative, counts.negative, f"{negative} image", "", "rightly passed", "raised a false alarm on"
        ),
        "trusted": of_hundred(
            counts.true_positive,
            counts.called,
            "image",
            f" that it called {positive}",
            "was right about",
            "wrong about",
        ),
        "charts": findings.charts,
        "splits": _splits(findings.splits),
        "groups": len({group for group in findings.test.group if group is not None}),
        "threshold": decision["threshold"],
        "rule": describe_rule(dict(decision)),
        "chosen_on": decision["chosen_on"],
        "views": decision["views"],
        "calibration": _calibration(metrics, decision),
        "rows": _rows(metrics, counts, negative, positive),
        "classes": _classes(counts, negative, positive),
        "slices": sections.slice_tables(metrics["slices"]),
        "robustness": sections.robustness_rows(metrics.get("robustness")),
        "explained": findings.explained,
        "details": _details(findings),
    }
    return html_page.render(f"Evaluation: {positive} or {negative}", "evaluation.html", context)


def images(n: int, kind: str = "") -> str:
    """How many images, in words: "1 image", "1,312 images", "181 defective images"."""
    return f"{n:,} {f'{kind} ' if kind else ''}image" + ("" if n == 1 else "s")


def of_hundred(hits: int, n: int, noun: str, which: str, hit: str, miss: str) -> str:
    """A share as people count: "Of 100 defective images, the model found 87 and missed 13 (exactly: …)."

    Below 100 images the counts themselves are said; a share that is neither none nor all is never rounded to one.
    """
    if n == 0:
        return f"There was no {noun}{which}."
    if n < 100:
        return f"Of {n} {noun}{'s' if n > 1 else ''}{which}, the model {hit} {hits} and {miss} {n - hits}."
    part = min(max(round(100 * hits / n), int(hits > 0)), 100 - int(hits < n))
    exactly = "" if n == 100 else f" (exactly: {hits:,} and {n - hits:,} of {n:,})"
    return f"Of 100 {noun}s{which}, the model {hit} {part} and {miss} {100 - part}{exactly}."


def _tiles(counts: ConfusionMatrix, negative: str, positive: str) -> list[dict[str, Any]]:
    return [
        {"title": "Right answers", "rate": rate_with_interval(counts.correct, counts.n), "of": "images"},
        {
            "title": "Found",
            "rate": rate_with_interval(counts.true_positive, counts.positive),
            "of": f"{positive} images",
        },
        {
            "title": "False alarms",
            "rate": rate_with_interval(counts.false_positive, counts.negative),
            "of": f"{negative} images",
        },
        {
            "title": f"Right when it says {positive}",
            "rate": rate_with_interval(counts.true_positive, counts.called),
            "of": "such answers",
        },
    ]


def _splits(splits: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    roles = {
        "train": "the model learned from these",
        "validation": "stopping and threshold were chosen on these",
        "test": "this report",
    }
    return [
        {"name": name, "role": role, "negative": splits[name][0], "positive": splits[name][1], "n": sum(splits[name])}
        for name, role in roles.items()
    ]


def _calibration(metrics: Mapping[str, Any], decision: Mapping[str, Any]) -> dict[str, Any]:
    temperature, fitted = decision["temperature"], decision["calibrated_on"]
    effect = "less sure of itself" if temperature > 1 else "surer of itself"
    return {
        "temperature": temperature,
        "effect": effect if temperature != 1 else "",
        "bound": WHY[temperature] if fitted["at_bound"] else "",
        "before": metrics["ece_uncalibrated"],
        "before_interval": interval_text(metrics, "ece_uncalibrated"),
        "after": metrics["ece"],
        "after_interval": interval_text(metrics, "ece"),
        # The interval reaches down to 0 where so small an error is no more than chance.
        "chance": metrics["intervals"]["ece"]["low"] == 0,
    }


def _rows(metrics: Mapping[str, Any], counts: ConfusionMatrix, negative: str, positive: str) -> list[dict[str, Any]]:
    why = metrics.get("undefined", {})
    of = {
        "precision": f"{counts.called:,} “{positive}” answer" + ("" if counts.called == 1 else "s"),
        "recall": images(counts.positive, positive),
        "specificity": images(counts.negative, negative),
    }
    prevalence = number_format.number(counts.positive / counts.n)
    return [
        {
            "key": key,
            "title": title,
            "of": of.get(key, images(counts.n)),
            "value": metrics.get(key),
            "interval": interval_text(metrics, key),
            "words": words.format(negative=negative, positive=positive, prevalence=prevalence),
            "why": why.get(key),
        }
        for key, (title, words) in TITLES.items()
    ]


def _classes(counts: ConfusionMatrix, negative: str, positive: str) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "n": own["n"],
            "called": own["called"],
            "recall": rate_with_interval(int(own["correct"]), int(own["n"])),
            "precision": rate_with_interval(int(own["correct"]), int(own["called"])),
            "f1": own.get("f1"),
        }
        for label, own in reversed(metrics_by_class(counts, (negative, positive)).items())
    ]


def _details(findings: Findings) -> list[tuple[str, Any]]:
    model, decision = findings.model, findings.decision
    winner = {"finetuned": "the whole network, fine-tuned", "head_only": "the head; fine-tuning did not beat it"}
    size = findings.data["image_size"]
    return [
        ("Network", f"{model['backbone']}, start weights {model['weights']}"),
        ("What was trained", winner[model["winner"]]),
        ("Images as the model sees them", f"{size} x {size} pixels, {findings.data['channels']} channel(s)"),
        ("Views averaged", str(decision["views"])),
        ("Arithmetic", ARITHMETIC[decision["precision"]]),
        ("Temperature", f"{decision['temperature']!r}"),
        ("Threshold", f"{decision['threshold']!r} ({_rule(decision)})"),
        ("Intervals", METHODS),
        ("Data fingerprint", html_page.code_markup(decision["fingerprint"])),
        ("Model digest (SHA-256)", html_page.code_markup(decision["model_digest"])),
    ]


def _rule(decision: Mapping[str, Any]) -> str:
    """The rule of the threshold as in params.yaml: "recall_at_least, recall: 0.95"."""
    return ", ".join([decision["policy"], *(f"{key}: {value:g}" for key, value in decision["rule"].items())])
