"""The figures of a model card: in comes a judgement, out go the Markdown lines of its sections."""

from collections.abc import Mapping
from typing import Any

from twofold.evaluation.slice_names import in_order
from twofold.metrics.classification import LOSSES, METRICS, ConfusionMatrix
from twofold.metrics.confidence_intervals import Interval, mcnemar
from twofold.metrics.decision_threshold import describe_rule
from twofold.metrics.metric_intervals import METHODS
from twofold.metrics.temperature_scaling import WHY
from twofold.promotion.judgement import Judgement
from twofold.reporting.markdown import bullets, code, table, text

MOST_VALUES = 10  # of a slice column; slices.csv has them all
_WAYS = {
    "wilson": "Wilson",
    "delong": "DeLong",
    "bca": "BCa bootstrap",
    "simulation": "simulation",
}


def figures(judgement: Judgement) -> list[str]:
    """Every figure of the test with its interval and the images that it is about, and what register measured."""
    candidate = judgement.candidate
    metrics = candidate.metrics
    rows = [
        (
            name + (" (less is better)" if name in LOSSES else ""),
            f"{metrics[name]:.4f}",
            _ends(candidate.intervals.get(name)),
            _of(name, metrics),
            _WAYS[METHODS[name].single] if name in candidate.intervals else "",
        )
        for name in METRICS
        if name in metrics
    ]
    undefined = [f"{name}: {text(why)}" for name, why in metrics.get("undefined", {}).items()]
    measured = [f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in sorted(judgement.measured.items())]
    return [
        "## Figures",
        "",
        f"On {metrics['n']} test images ({metrics['n_positive']} {text(candidate.labels[1])}) that neither training "
        f"nor temperature nor threshold has seen, fingerprint {code(candidate.test_fingerprint)}:",
        "",
        *table(["figure", "value", "95 % interval", "images", "interval by"], rows),
        *(["Without a value: " + "; ".join(undefined) + ".", ""] if undefined else []),
        *(["Measured by register: " + "; ".join(measured) + ".", ""] if measured else []),
    ]


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _of(figure: str, metrics: Mapping[str, Any]) -> int:
    """How many test images a figure is about."""
    counts = ConfusionMatrix(*(metrics[name] for name in ConfusionMatrix._fields))
    return {
        "precision": counts.called,
        "recall": counts.positive,
        "specificity": counts.n - counts.positive,
        "f1": counts.called + counts.false_negative,
    }.get(figure, counts.n)


def gates(judgement: Judgement) -> list[str]:
    """Every gate with its verdict and the reason."""
    gates = [
        f"{_mark(gate.applies, gate.passed)} {text(gate.name)}: {text(gate.detail)}" for gate in judgement.verdict.gates
    ]
    return ["## Gates", "", *(bullets(gates) if gates else ["none", ""])]


def beside(judgement: Judgement) -> list[str]:
    """How it compares with the champion that it was held against."""
    champion = judgement.champion
    if champion is None:
        return ["There was no champion to compare it with.", ""]
    heading = [f"## Beside version {champion.version}", ""]
    if champion.problem:
        return [*heading, f"No comparison: {text(champion.problem)}.", ""]
    only = [len(champion.only_right(candidate)) for candidate in (True, False)]
    rows = [
        (name, f"{champion.figures[name]:.4f}", f"{ends.estimate:+.4f}", f"{ends.low:+.4f} to {ends.high:+.4f}")
        for name, ends in champion.differences.items()
    ]
    left_out = sum(champion.left_out.values())
    return [
        *heading,
        f"On {len(champion.test)} test images that neither model learned from ({left_out} left out), fingerprint "
        f"{code(champion.fingerprint)}:",
        "",
        *table(["figure", f"version {champion.version}", "difference", "95 % interval"], rows),
        f"This model alone is right on {only[0]} images, version {champion.version} alone on {only[1]} (McNemar: p = "
        f"{mcnemar(*only):.3f}).",
        "",
    ]


def slices(judgement: Judgement) -> list[str]:
    """The main figures for each value of every slice column, with intervals and counts."""
    lines = ["## Factors", ""]
    positive = text(judgement.candidate.labels[1])
    for column, values in judgement.candidate.metrics["slices"].items():
        order = in_order(column, values)
        rows = [
            (
                text(value),
                _n(values[value]),
                values[value]["n_positive"],
                *(_slice_figure(values[value], name) for name in ("accuracy", "recall", "specificity")),
            )
            for value in order[:MOST_VALUES]
        ]
        lines += table([text(column), "images", positive, "accuracy", "recall", "specificity"], rows)
        if len(order) > MOST_VALUES:
            lines += [f"{len(order) - MOST_VALUES} more values of {text(column)} are in slices.csv.", ""]
    return lines


def _slice_figure(own: Mapping[str, Any], name: str) -> str:
    if name not in own:
        return "none"
    ends = own["intervals"].get(name)
    return f"{own[name]:.3f}" + (f" ({ends['low']:.3f} to {ends['high']:.3f})" if ends else "")


def _n(own: Mapping[str, Any]) -> str:
    return f"{own['n']}" + ("" if own["judged"] else ", too few to judge")


def calibration(judgement: Judgement) -> list[str]:
    """Temperature and threshold, and what they were chosen by."""
    candidate = judgement.candidate
    metrics, decision = candidate.metrics, candidate.decision
    fitted, ends = decision["calibrated_on"], metrics["intervals"]
    before, after = (
        f"{metrics[name]:.4f}" + (f" ({ends[name]['low']:.4f} to {ends[name]['high']:.4f})" if name in ends else "")
        for name in ("ece_uncalibrated", "ece")
    )
    bound = f" It stands at its bound: {WHY[decision['temperature']]}." if fitted["at_bound"] else ""
    return [
        "## Calibration and threshold",
        "",
        *bullets(
            [
                f"Temperature {decision['temperature']:.4f}, fitted on {fitted['n']} validation images by log loss."
                f"{bound} On the test the calibration error (ece) is {before} without it and {after} with it.",
                f"Threshold {decision['threshold']:.4f}, chosen on {decision['chosen_on']['n']} validation images: "
                f"{text(describe_rule(decision))} ({code(decision['policy'])}).",
            ]
        ),
    ]


def _ends(ends: Interval | None) -> str:
    return "none" if ends is None else f"{ends.low:.4f} to {ends.high:.4f}"


def _mark(applies: bool, passed: bool) -> str:
    return ("passed:" if passed else "**failed**:") if applies else "not applied:"
