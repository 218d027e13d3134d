"""evaluation.html: in come the results of a test, out goes one page that explains them to a non-expert.

What the page says is in `report_body.py`; this module counts, rounds and picks what it says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from twofold import page
from twofold.decision import explain
from twofold.intervals import wilson
from twofold.metrics import Counts, by_class
from twofold.mistakes import Pixels, worst
from twofold.picture import Picture
from twofold.predictions import Predictions
from twofold.report_body import BODY

MOST_VALUES = 20  # of a slice column that the page shows; slices.csv has all

TITLES = {
    "accuracy": ("Accuracy", "The share of all images that got the right answer."),
    "precision": ("Precision", "Of the “{positive}” answers, the share that is right."),
    "recall": ("Recall (sensitivity)", "Of the {positive} images, the share that was found."),
    "f1": ("F1", "Precision and recall in one figure (their harmonic mean)."),
    "specificity": ("Specificity", "Of the {negative} images, the share that was rightly passed."),
    "roc_auc": (
        "ROC-AUC",
        "Take one {positive} and one {negative} image by chance: how often the model gives the {positive} one the "
        "higher probability. 0.5 is guessing. Does not depend on the threshold.",
    ),
    "average_precision": (
        "Average precision",
        "The precision averaged over all levels of recall. Guessing gives {prevalence}. Does not depend on the "
        "threshold.",
    ),
    "log_loss": (
        "Log loss",
        "How far the probabilities can be taken at their word; a wrong answer given with certainty costs most. "
        "0 is best; always saying 0.5 gives 0.693.",
    ),
    "brier": ("Brier score", "The mean squared error of the probabilities. 0 is best; always saying 0.5 gives 0.25."),
}


@dataclass(frozen=True)
class Findings:
    """What a report is made of.

    Attributes:
        metrics: as in metrics.json.
        decision: as in decision.json.
        data, model: the meta.json of the prepared data and of the model.
        test: the predictions on the test split.
        splits: images by split name, then by target: {"train": (negatives, positives), …}.
        charts: confusion, roc, precision_recall and scores.
        pixels: gives the (S, S, C) uint8 array of an image by its SHA-256; None leaves every picture out.
    """

    metrics: Mapping[str, Any]
    decision: Mapping[str, Any]
    data: Mapping[str, Any]
    model: Mapping[str, Any]
    test: Predictions
    splits: Mapping[str, tuple[int, int]]
    charts: Mapping[str, Picture]
    pixels: Pixels | None


class Rate(NamedTuple):
    """A share with the counts behind it; value and interval are None where there is nothing to take a share of."""

    hits: int
    n: int
    value: float | None
    interval: str | None


def render(findings: Findings) -> str:
    """The page as text; the same findings give the same text."""
    metrics, decision = findings.metrics, findings.decision
    negative, positive = decision["labels"]
    counts = Counts(*(metrics[name] for name in Counts._fields))
    prevalence = counts.positive / counts.n
    cases = worst(findings.test, (negative, positive), findings.pixels)
    context = {
        "negative": negative,
        "positive": positive,
        "c": counts,
        "images": images,
        "accuracy": rate(counts.correct, counts.n),
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
        "rule": explain(dict(decision)),
        "chosen_on": decision["chosen_on"],
        "views": decision["views"],
        "rows": _rows(metrics, counts, negative, positive),
        "classes": _classes(counts, negative, positive),
        "slices": [_slice(name, values) for name, values in metrics["slices"].items()],
        "heading": f"The {len(cases)} most confident errors" if len(cases) > 1 else "The most confident errors",
        "cases": cases,
        "pictures": findings.pixels is not None,
        "details": _details(findings),
    }
    return page.render(f"Evaluation: {positive} or {negative}", BODY, context)


def images(n: int) -> str:
    """How many images, in words: "1 image", "1,312 images"."""
    return f"{n:,} image" + ("" if n == 1 else "s")


def rate(hits: int, n: int) -> Rate:
    """A share with its 95 % interval, "85.9 to 90.8 %"."""
    interval = wilson(hits, n)
    if interval is None:
        return Rate(hits, n, None, None)
    text = f"{100 * interval.low:.1f} to {page.percent(interval.high)}"
    return Rate(hits, n, hits / n, text)


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


def _tiles(counts: Counts, negative: str, positive: str) -> list[dict[str, Any]]:
    return [
        {"title": "Right answers", "rate": rate(counts.correct, counts.n), "of": "images"},
        {
            "title": "Found",
            "rate": rate(counts.true_positive, counts.positive),
            "of": f"{positive} images",
        },
        {
            "title": "False alarms",
            "rate": rate(counts.false_positive, counts.negative),
            "of": f"{negative} images",
        },
        {
            "title": f"Right when it says {positive}",
            "rate": rate(counts.true_positive, counts.called),
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


def _rows(metrics: Mapping[str, Any], counts: Counts, negative: str, positive: str) -> list[dict[str, Any]]:
    why = metrics.get("undefined", {})
    shares = {
        "accuracy": (counts.correct, counts.n),
        "precision": (counts.true_positive, counts.called),
        "recall": (counts.true_positive, counts.positive),
        "specificity": (counts.true_negative, counts.negative),
    }
    prevalence = page.number(counts.positive / counts.n)
    rows = []
    for key, (title, words) in TITLES.items():
        ends = wilson(*shares[key]) if key in shares else None
        rows.append(
            {
                "key": key,
                "title": title,
                "value": metrics.get(key),
                "interval": None if ends is None else f"{ends.low:.3f} to {ends.high:.3f}",
                "words": words.format(negative=negative, positive=positive, prevalence=prevalence),
                "why": why.get(key),
            }
        )
    return rows


def _classes(counts: Counts, negative: str, positive: str) -> list[dict[str, Any]]:
    return [
        {
            "label": label,
            "n": own["n"],
            "called": own["called"],
            "recall": rate(int(own["correct"]), int(own["n"])),
            "precision": rate(int(own["correct"]), int(own["called"])),
            "f1": own.get("f1"),
        }
        for label, own in reversed(by_class(counts, (negative, positive)).items())
    ]


def _slice(name: str, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    shown = sorted(values, key=lambda value: (-values[value]["n"], value))[:MOST_VALUES]
    rows = []
    reasons: dict[str, list[str]] = {}
    for value in shown:
        own = Counts(*(values[value][field] for field in Counts._fields))
        rows.append(
            {
                "value": value,
                "n": own.n,
                "positive": own.positive,
                "accuracy": rate(own.correct, own.n),
                "recall": rate(own.true_positive, own.positive),
                "alarms": rate(own.false_positive, own.negative),
                "roc_auc": values[value].get("roc_auc"),
            }
        )
        for figure in ("recall", "specificity", "roc_auc"):
            if reason := values[value].get("undefined", {}).get(figure):
                reasons.setdefault(value, [])
                if reason not in reasons[value]:
                    reasons[value].append(reason)
    missing = [f"{value}: {' and '.join(why)}, so that some figures have no value" for value, why in reasons.items()]
    return {"name": name, "rows": rows, "more": len(values) - len(shown), "missing": missing}


def _details(findings: Findings) -> list[tuple[str, Any]]:
    model, decision = findings.model, findings.decision
    winner = {"finetuned": "the whole network, fine-tuned", "head_only": "the head; fine-tuning did not beat it"}
    size = findings.data["image_size"]
    return [
        ("Network", f"{model['backbone']}, start weights {model['weights']}"),
        ("What was trained", winner[model["winner"]]),
        ("Images as the model sees them", f"{size} x {size} pixels, {findings.data['channels']} channel(s)"),
        ("Views averaged", str(decision["views"])),
        ("Arithmetic", "32-bit floating point"),
        ("Threshold", f"{decision['threshold']!r} ({decision['policy']})"),
        ("Intervals", "Wilson, 95 %, images taken as independent"),
        ("Data fingerprint", page.code(decision["fingerprint"])),
        ("Model digest (SHA-256)", page.code(decision["model_digest"])),
    ]
