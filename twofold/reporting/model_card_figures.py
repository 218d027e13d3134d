"""The sections of the model card with numbers: takes a judgement, returns Markdown lines."""

from collections.abc import Mapping
from typing import Any

from twofold.evaluation.slice_names import in_order
from twofold.metrics.classification import LOSSES, METRICS, ConfusionMatrix
from twofold.metrics.confidence_intervals import mcnemar
from twofold.metrics.decision_threshold import describe_rule
from twofold.metrics.metric_intervals import METHODS
from twofold.metrics.temperature_scaling import WHY
from twofold.promotion.judgement import Judgement
from twofold.promotion.paired_comparison import PairedComparison
from twofold.reporting.markdown import bullets, code, table, text

MOST_VALUES = 10  # values of a slice column that the card lists; slices.csv has all
_METHOD_NAMES = {
    "wilson_or_exact": "Wilson or Clopper-Pearson",
    "score": "score",
    "logit": "logit",
    "log": "logarithm",
    "binned_score": "score interval over the bins",
}


def format_metrics(judgement: Judgement) -> list[str]:
    """Every metric of the test with its interval and number of images, and the measurements of register."""
    candidate = judgement.candidate
    metrics, intervals = candidate.metrics, candidate.intervals
    counts = ConfusionMatrix(*(metrics[name] for name in ConfusionMatrix._fields))
    images = {
        "precision": counts.called,
        "recall": counts.positive,
        "specificity": counts.negative,
        "f1": counts.called + counts.false_negative,
    }
    rows = [
        (
            name + (" (lower is better)" if name in LOSSES else ""),
            f"{metrics[name]:.4f}",
            f"{intervals[name].low:.4f} to {intervals[name].high:.4f}" if name in intervals else "none",
            images.get(name, counts.n),
            _METHOD_NAMES[METHODS[name].single] if name in intervals else "",
        )
        for name in METRICS
        if name in metrics
    ]
    undefined = [f"{name}: {text(why)}" for name, why in metrics.get("undefined", {}).items()]
    measured = [
        f"{name.replace('_', ' ')}: {value:,.{0 if value == int(value) else 1}f}"
        for name, value in sorted(judgement.measured.items())
    ]
    return [
        "## Metrics",
        "",
        f"On {metrics['n']} test images ({metrics['n_positive']} {text(candidate.labels[1])}), which were not used for "
        f"training, temperature or threshold; fingerprint {code(candidate.test_fingerprint)}:",
        "",
        *table(["metric", "value", "95 % interval", "images", "interval method"], rows),
        *(["Without a value: " + "; ".join(undefined) + ".", ""] if undefined else []),
        *(["Measured by register: " + "; ".join(measured) + ".", ""] if measured else []),
    ]


def format_gates(judgement: Judgement) -> list[str]:
    """Every gate with its verdict and the reason."""
    gates = []
    for gate in judgement.verdict.gates:
        outcome = ("passed" if gate.passed else "**failed**") if gate.applies else "does not apply"
        gates.append(f"{outcome}: {text(gate.name)}: {text(gate.detail)}")
    return ["## Gates", "", f"This is {judgement.looks.words}.", "", *(bullets(gates) if gates else ["none", ""])]


def format_comparison(judgement: Judgement) -> list[str]:
    """The paired comparison with the champion."""
    champion = judgement.champion
    if champion is None:
        return ["There was no champion to compare with.", ""]
    heading = [f"## Comparison with version {champion.version}", ""]
    if champion.problem:
        return [*heading, f"No comparison: {text(champion.problem)}.", ""]
    only = [len(champion.only_right(candidate)) for candidate in (True, False)]
    rows = [
        (name, f"{champion.metrics[name]:.4f}", f"{found.estimate:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}")
        for name, found in champion.differences.items()
    ]
    return [
        *heading,
        f"On {len(champion.test)} test images that neither model learned from ({sum(champion.left_out.values())} left "
        f"out), fingerprint {code(champion.fingerprint)}:",
        "",
        *table(["metric", f"version {champion.version}", "difference", "95 % interval"], rows),
        f"Only this model is correct on {only[0]} images, only version {champion.version} on {only[1]} (McNemar: p = "
        f"{mcnemar(*only):.3f}).",
        "",
        *_fresh_lines(champion),
    ]


def _fresh_lines(champion: PairedComparison) -> list[str]:
    n, since = len(champion.fresh), f"new since version {champion.version} was made"
    keys = ("candidate", "champion", "low", "high")
    rows = [
        (metric, *(f"{values[key]:.4f}" if key in values else "none" for key in keys))
        for metric, values in champion.fresh_metrics.items()
    ]
    head = ["metric", "this model", f"version {champion.version}", "its lower bound (95 %)", "its upper bound"]
    if not n:
        return [f"None of these images is {since}.", ""]
    return [f"{n} of these images are {since}, so that no choice of it used them:", "", *table(head, rows)]


def format_slices(judgement: Judgement) -> list[str]:
    """The main metrics for each value of every slice column, with intervals and counts."""
    lines = ["## Metrics by slice", ""]
    metrics = ("accuracy", "recall", "specificity")
    for column, values in judgement.candidate.metrics["slices"].items():
        rows = [
            (
                text(value),
                f"{values[value]['n']}" + ("" if values[value]["judged"] else ", too few to judge"),
                values[value]["n_positive"],
                *(cell for name in metrics for cell in _value_and_interval(values[value], name, 3)),
            )
            for value in in_order(column, values)[:MOST_VALUES]
        ]
        heads = (head for name in metrics for head in (name, "95 % interval"))
        lines += table([text(column), "images", text(judgement.candidate.labels[1]), *heads], rows)
        if len(values) > MOST_VALUES:
            lines += [f"{len(values) - MOST_VALUES} more values of {text(column)} are in slices.csv.", ""]
    return lines


def format_calibration(judgement: Judgement) -> list[str]:
    """Temperature and threshold, and how they were chosen."""
    metrics, decision = judgement.candidate.metrics, judgement.candidate.decision
    before, after = ("{} ({})".format(*_value_and_interval(metrics, name, 4)) for name in ("ece_uncalibrated", "ece"))
    fitted, temperature = decision["calibrated_on"], decision["temperature"]
    bound = f" It is at its bound: {WHY[temperature]}." if fitted["at_bound"] else ""
    return [
        "## Calibration and decision threshold",
        "",
        *bullets(
            [
                f"Temperature {temperature:.4f}, fitted on {fitted['n']} validation images by log loss.{bound} On the "
                f"test the calibration error (ece) is {before} without it and {after} with it.",
                f"Threshold {decision['threshold']:.4f}, chosen on {decision['chosen_on']['n']} validation images: "
                f"{text(describe_rule(decision))} ({code(decision['policy'])}).",
            ]
        ),
    ]


def _value_and_interval(metrics: Mapping[str, Any], name: str, digits: int) -> tuple[str, str]:
    value = f"{metrics[name]:.{digits}f}" if name in metrics else "none"
    interval = metrics["intervals"].get(name)
    return value, f"{interval['low']:.{digits}f} to {interval['high']:.{digits}f}" if interval else "none"
