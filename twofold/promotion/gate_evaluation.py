"""Evaluate every gate of params.yaml, whatever the results of the others.

Reads the gates, what is known of the candidate, and its comparisons with the champion and the best former champion.
Returns the verdict: for each gate the metric, what was compared with the limit, the number of images and a reason. A
gate fails if its metric is missing, not a number, based on one image or one class, or not comparable.

An absolute gate with `bound` compares a bound of the metric's 95 % interval, the interval reported everywhere else. A
gate against another model compares a one-sided bound of the paired difference, whose error rate falls with the number
of candidates that the test images have judged (`twofold.promotion.test_reuse`). Over the values of a slice column, a
gate that asks for proof tests each at the full level: all must be proven, so a bad value passes no more often than if
it were alone (Berger 1982, "Multiparameter hypothesis testing and acceptance sampling"). A gate that refuses on proof
of harm may refuse for any value, so Holm's procedure widens its bounds to hold jointly.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from twofold.metrics.classification import classification_metrics
from twofold.metrics.confidence_intervals import LEVEL, Interval
from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import METHODS, metric_interval, why_no_interval
from twofold.promotion.gate_slices import MetricKey, TestSubset, holm_procedure, test_subsets, too_few_images
from twofold.promotion.gates import LESS_IS_BETTER, MEASURED, VANISHED, Better, Gate, Maximum, Minimum, NonInferior
from twofold.promotion.paired_comparison import PairedComparison
from twofold.promotion.test_reuse import ERROR_RATE, SPENT, confidence_text
from twofold.promotion.verdict import GateInputs, GateResult, Verdict, finite_number, format_value

CHAMPION, BEST = "the champion", "the best champion before"
_NO_CHAMPION = "there is no champion yet"


def evaluate_gates(
    gates: Sequence[Gate],
    subject: GateInputs,
    champion: PairedComparison | None,
    best: Mapping[MetricKey, PairedComparison] | None = None,
    error_rate: float = ERROR_RATE,
) -> Verdict:
    """Evaluate every gate and return the verdict.

    Args:
        subject: the candidate.
        champion: the candidate compared with the champion; None if there is none: relative gates then do not apply, and
            at least one absolute gate on a metric of the test must.
        best: by metric and slice, the candidate compared with the best former champion, if that is not the champion.
        error_rate: one-sided, of the gates against another model; at 0 they refuse.
    """
    results = tuple(result for gate in gates for result in _evaluate(gate, subject, champion, best or {}, error_rate))
    reasons = [f"{result.name}: {result.detail}" for result in results if not result.passed]
    if not gates:
        reasons.append("no gates: nothing defines which model is good enough; add some to register.gates")
    elif champion is None and not any(result.applies and result.figure not in MEASURED for result in results):
        reasons.append(
            "no gate applies: without a champion at least one 'min' or 'max' gate on a metric of the test is needed"
        )
    elif not any(result.applies for result in results):
        reasons.append("no gate applies: nothing defines whether the model is good enough")
    if champion is not None and champion.problem:
        reasons.append(f"the champion, version {champion.version}, could not be scored: {champion.problem}")
    return Verdict(results, tuple(reasons))


def _evaluate(
    gate: Gate,
    subject: GateInputs,
    champion: PairedComparison | None,
    best: Mapping[MetricKey, PairedComparison],
    error_rate: float,
) -> list[GateResult]:
    if isinstance(gate, Minimum | Maximum):
        absolute = _AbsoluteGate(gate, subject, champion)
        return [absolute.judge_measured()] if gate.figure in MEASURED else _evaluate_subsets(absolute)
    if champion is None:
        value = finite_number(subject.metrics, gate.figure)[0] if gate.slice is None else None
        name = _relative_name(gate, gate.figure, CHAMPION)
        return [GateResult(name, gate.figure, value, None, applies=False, passed=True, detail=_NO_CHAMPION)]
    results = _evaluate_subsets(_RelativeGate(gate, champion, CHAMPION, error_rate))
    for comparison in {each.version: each for key, each in best.items() if asks(gate, key)}.values():
        own = [key for key, each in best.items() if each.version == comparison.version]
        results += _evaluate_subsets(_RelativeGate(gate, comparison, BEST, error_rate), own)
    return results


def asks(gate: Gate, key: MetricKey) -> bool:
    """Whether a gate compares this metric, on this slice or all values of its column, with the best former champion."""
    return isinstance(gate, NonInferior) and gate.figure == key.metric and gate.slice in (key.slice, key.column)


def _evaluate_subsets(
    evaluator: "_AbsoluteGate | _RelativeGate", only: Collection[MetricKey] | None = None
) -> list[GateResult]:
    """Evaluate a gate on all test images or, if it has a slice, on every subset it applies to, or on some of them."""
    metric, test = evaluator.gate.figure, evaluator.test
    subsets, problem = test_subsets(evaluator.gate.slice, test)
    problem = evaluator.problem or problem
    if problem:
        return [_result(evaluator, None, False, problem)]
    subsets = [subset for subset in subsets if only is None or subset.key(metric) in only]
    judged = [subset for subset in subsets if not subset.why_not_judged(metric, test)]
    results: list[GateResult] = []
    # Claims that must all be proven are tested one by one, each at the full level.
    for group in [judged] if evaluator.refuses_on_proof else [[subset] for subset in judged]:
        tested = holm_procedure(group, evaluator.level, evaluator.interval, evaluator.proves)
        results += [evaluator.judge(subset, *pair) for subset, pair in zip(group, tested, strict=True)]
    return results + [
        _result(evaluator, subset, True, reason, applies=False, **evaluator.values(subset)[0])
        for subset in subsets
        if (reason := subset.why_not_judged(metric, test))
    ]


def _result(
    evaluator: "_AbsoluteGate | _RelativeGate", subset: TestSubset | None, passed: bool, detail: str, **fields: Any
) -> GateResult:
    figure = evaluator.gate.figure
    fields = {"value": None, "applies": True, "slice": subset and subset.slice} | evaluator.common_fields | fields
    name = evaluator.name(str(subset.key(figure)) if subset else figure)
    return GateResult(name, figure, limit=evaluator.limit, passed=passed, detail=detail, **fields)


class _AbsoluteGate:
    """A gate on the candidate alone."""

    level, problem = LEVEL, ""

    def __init__(self, gate: Minimum | Maximum, subject: GateInputs, champion: PairedComparison | None) -> None:
        self.gate, self.subject, self.champion, self.test = gate, subject, champion, subject.test
        self.at_most = isinstance(gate, Maximum)
        self.limit = gate.max if isinstance(gate, Maximum) else gate.min
        self.show = partial(format_value, gate.figure)
        self.common_fields: dict[str, Any] = {}
        # A conservative bound proves that the model is good enough; the other bound, that it is not.
        self.refuses_on_proof = bool(gate.bound) and (gate.bound == "upper") != self.at_most

    def name(self, metric: str) -> str:
        bound = f", {self.gate.bound} bound," if self.gate.bound else ""
        return f"{metric}{bound} at {'most' if self.at_most else 'least'} {self.limit:.12g}"

    def values(self, subset: TestSubset) -> tuple[dict[str, Any], str]:
        """Return the metric and the number of images as fields of the result, and why the metric has no value."""
        rows, metrics = subset.rows, self.subject.metrics
        if subset.slice is not None:
            target, probability = self.test.target[rows], self.test.probability[rows]
            metrics = classification_metrics(target, probability, self.subject.threshold)
        value, problem = finite_number(metrics, self.gate.figure)
        return {"value": value, "n": len(rows)}, problem

    def interval(self, subset: TestSubset, level: float) -> Interval | None:
        metric, rows = self.gate.figure, subset.rows
        if not self.gate.bound:
            return None
        if metric in METHODS:
            outputs = ModelOutputs(self.test.probability[rows], self.subject.threshold)
            units = self.test.unit[rows].tolist()
            return metric_interval(metric, self.test.target[rows], outputs, level, units) if len(rows) else None
        recorded = self.subject.metrics.get("intervals")
        found = recorded.get(metric) if isinstance(recorded, Mapping) else None
        low, high = (finite_number(found, key)[0] if isinstance(found, Mapping) else None for key in ("low", "high"))
        return None if low is None or high is None else Interval(low, high)

    def _why_no_interval(self, subset: TestSubset) -> str:
        if self.gate.figure not in METHODS:
            return "none is recorded in metrics.json"
        outputs = ModelOutputs(self.test.probability[subset.rows], self.subject.threshold)
        units = self.test.unit[subset.rows].tolist()
        return why_no_interval(self.gate.figure, self.test.target[subset.rows], outputs, units)

    def proves(self, interval: Interval) -> bool:
        return self._compare(self._bound(interval))[0] != self.refuses_on_proof

    def judge(self, subset: TestSubset, proven: bool, interval: Interval | None) -> GateResult:
        fields, problem = self.values(subset)
        value = fields["value"]
        problem = problem or too_few_images(self.test, subset)
        if not problem and self.gate.bound and interval is None:
            problem = f"metric '{self.gate.figure}' has no interval: {self._why_no_interval(subset)}"
        if problem or value is None:
            return _result(self, subset, False, problem, **fields)
        bound, words = None, self.show(value)
        if interval is not None:
            bound = self._bound(interval)
            words += f", its {self.gate.bound} bound {self.show(bound)}"
        passed, relation = self._compare(value if bound is None else bound)
        return _result(self, subset, passed, f"{words} is {relation} {self.show(self.limit)}", bound=bound, **fields)

    def judge_measured(self) -> GateResult:
        """Evaluate a gate on a metric that register measures."""
        vanished = self.gate.figure == VANISHED
        if vanished and self.champion is None:
            return _result(self, None, True, _NO_CHAMPION, applies=False)
        value, problem = finite_number(self.subject.metrics, self.gate.figure)
        if vanished and self.champion is not None and self.champion.problem:
            value, problem = None, "the champion could not be scored"
        elif self.gate.bound:
            problem = problem or "it is measured as it is and has no interval: leave `bound` out"
        if value is None or problem:
            return _result(self, None, False, problem, value=value)
        passed, relation = self._compare(value)
        return _result(self, None, passed, f"{self.show(value)} is {relation} {self.show(self.limit)}", value=value)

    def _bound(self, interval: Interval) -> float:
        return interval.low if self.gate.bound == "lower" else interval.high

    def _compare(self, value: float) -> tuple[bool, str]:
        """Return whether a value passes, and its relation to the limit in words."""
        if self.at_most:
            return (True, "at most") if value <= self.limit else (False, "above")
        return (True, "at least") if value >= self.limit else (False, "below")


class _RelativeGate:
    """A gate on the candidate compared with another model."""

    refuses_on_proof = False

    def __init__(
        self, gate: NonInferior | Better, comparison: PairedComparison, opponent: str, error_rate: float
    ) -> None:
        # The lower bound of a two-sided interval at this level is the one-sided bound.
        self.error_rate, self.level = error_rate, 1 - 2 * error_rate
        self.gate, self.comparison, self.opponent, self.test = gate, comparison, opponent, comparison.test
        self.sign = -1.0 if gate.figure in LESS_IS_BETTER else 1.0
        self.limit = gate.better_by if isinstance(gate, Better) else 0.0 - gate.non_inferior_by
        self.problem, fingerprint = "" if error_rate else SPENT, None
        if comparison.problem:
            why = "" if opponent == CHAMPION else f": {comparison.problem}"
            self.problem = f"version {comparison.version} could not be scored{why}"
        else:
            fingerprint = comparison.fingerprint
        self.common_fields = {"against": comparison.version, "test_fingerprint": fingerprint}

    def name(self, metric: str) -> str:
        return _relative_name(self.gate, metric, self.opponent)

    def values(self, subset: TestSubset) -> tuple[dict[str, Any], str]:
        """Return both metrics and the number of images as fields of the result, and why a metric has no value."""
        target, rows = self.test.target[subset.rows], subset.rows
        pair = (
            classification_metrics(target, np.asarray(model.probability)[rows], model.threshold) if len(rows) else {}
            for model in (self.comparison.one, self.comparison.other)
        )
        (value, problem), (other, other_problem) = (finite_number(metrics, self.gate.figure) for metrics in pair)
        problem = problem or (other_problem and f"the other model's {other_problem}")
        return {"value": value, "other": other, "n": len(rows)}, problem

    def interval(self, subset: TestSubset, level: float) -> Interval | None:
        """The interval of the gain, which is positive if the candidate is better."""
        difference = self.comparison.difference(self.gate.figure, level, subset.rows)
        return difference and Interval(*sorted((self.sign * difference.low, self.sign * difference.high)))

    def proves(self, interval: Interval) -> bool:
        return interval.low > self.limit

    def judge(self, subset: TestSubset, proven: bool, interval: Interval | None) -> GateResult:
        fields, problem = self.values(subset)
        problem = too_few_images(self.test, subset) or problem
        if not problem and (interval is None or not math.isfinite(interval.low)):
            why = self.comparison.why_no_difference(self.gate.figure, subset.rows)
            problem = f"the difference has no interval: {why}"
        if problem or interval is None:
            return _result(self, subset, False, problem, **fields)
        gain = self.sign * (fields["value"] - fields["other"])
        relation = "above" if proven else "not above"
        detail = (
            f"{fields['value']:.4f} against {fields['other']:.4f}: a gain of {gain:+.4f}, at least {interval.low:+.4f} "
            f"(one-sided {confidence_text(self.error_rate)} bound), which is {relation} {self.limit:+.4f}"
        )
        return _result(self, subset, proven, detail, bound=interval.low, **fields)


def _relative_name(gate: NonInferior | Better, metric: str, opponent: str) -> str:
    if isinstance(gate, Better):
        return f"{metric} better than {opponent} by more than {gate.better_by:g}"
    return f"{metric} worse than {opponent} by less than {gate.non_inferior_by:g}"
