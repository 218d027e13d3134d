"""Judging: every gate of params.yaml is evaluated, whatever the others say.

In: the gates, what is known of the candidate, and how it compares with the champion and with the best champion before.
Out: the verdict, in which each gate has its figure, what was held to the limit, the number of images and a reason.
Fails closed: what is missing, is not a number, rests on one image or one class, or cannot be compared does not pass.

An absolute gate with `bound` is held to an end of the figure's 95 % interval, the one that stands beside it everywhere
else. A gate against another model is held to the one-sided 95 % bound of the paired difference. Over all values of a
slice column the bounds are widened by Holm's procedure, so that they hold together.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twofold.evaluation.slice_names import FEWEST
from twofold.metrics.bootstrap import ModelOutputs
from twofold.metrics.classification import classification_metrics
from twofold.metrics.confidence_intervals import LEVEL
from twofold.metrics.metric_intervals import METHODS, metric_interval
from twofold.promotion.gate_slices import Bounds, TestSubset, holm_procedure, test_subsets, too_few_images
from twofold.promotion.gates import LESS_IS_BETTER, MEASURED, VANISHED, Better, Gate, Maximum, Minimum, NonInferior
from twofold.promotion.paired_comparison import PairedComparison
from twofold.promotion.verdict import GateInputs, GateResult, Verdict, finite_number

ONE_SIDED = 0.90  # the level of a two-sided interval either end of which is a one-sided 95 % bound
CHAMPION, BEST = "the champion", "the best champion before"


def evaluate_gates(
    gates: Sequence[Gate],
    subject: GateInputs,
    champion: PairedComparison | None,
    best: Mapping[str, PairedComparison] | None = None,
) -> Verdict:
    """Hold the candidate to every gate.

    Args:
        gates: of params.yaml.
        subject: the candidate.
        champion: the candidate beside it; None if there is none yet: relative gates then do not apply, and at least
            one absolute gate on a figure of the test must.
        best: by figure, the candidate beside the best champion before, where that is not the champion itself.
    """
    results = tuple(result for gate in gates for result in _results(gate, subject, champion, best or {}))
    reasons = [f"{result.name}: {result.detail}" for result in results if not result.passed]
    if not gates:
        reasons.append("no gates: nothing says what is good enough; add some to register.gates")
    elif champion is None and not any(result.applies and result.figure not in MEASURED for result in results):
        reasons.append(
            "no gate applies: without a champion at least one 'min' or 'max' gate on a figure of the test is needed"
        )
    elif not any(result.applies for result in results):
        reasons.append("no gate applies: nothing says whether it is good enough")
    if champion is not None and champion.problem:
        reasons.append(f"the champion, version {champion.version}, could not be scored: {champion.problem}")
    return Verdict(results, tuple(reasons))


def _results(
    gate: Gate, subject: GateInputs, champion: PairedComparison | None, best: Mapping[str, PairedComparison]
) -> list[GateResult]:
    if isinstance(gate, Minimum | Maximum):
        return _Absolute(gate, subject, champion).results()
    if champion is None:
        value = finite_number(subject.figures, gate.figure)[0] if gate.slice is None else None
        detail = "there is no champion yet"
        name = describe_relative_gate(gate, "", CHAMPION)
        return [GateResult(name, gate.figure, value, None, applies=False, passed=True, detail=detail)]
    found = _Relative(gate, champion, CHAMPION).results()
    if isinstance(gate, NonInferior) and gate.figure in best:
        found += _Relative(gate, best[gate.figure], BEST).results()
    return found


class _Absolute:
    """A gate on the candidate alone."""

    def __init__(self, gate: Minimum | Maximum, subject: GateInputs, champion: PairedComparison | None) -> None:
        self.gate, self.subject, self.champion = gate, subject, champion
        self.at_most = isinstance(gate, Maximum)
        self.limit = gate.max if isinstance(gate, Maximum) else gate.min

    def results(self) -> list[GateResult]:
        gate = self.gate
        if gate.figure in MEASURED:
            return [self._measured()]
        found, problem = test_subsets(gate.slice, self.subject.test)
        if problem:
            return [self._result(None, False, problem)]
        judged, few = ([part for part in found if part.judged is enough] for enough in (True, False))
        ends: list[tuple[bool, Bounds | None]] = [(False, None)] * len(judged)
        if gate.bound:
            ends = holm_procedure(len(judged), LEVEL, lambda i, level: self._ends(judged[i], level), self._settled)
        results = [self._judged(part, pair) for part, (_, pair) in zip(judged, ends, strict=True)]
        detail = f"shown and not judged: fewer than {FEWEST} images"
        return results + [
            self._result(part, True, detail, value=self._value(part)[0], n=len(part.rows), applies=False)
            for part in few
        ]

    def _result(self, part: TestSubset | None, passed: bool, detail: str, **more: Any) -> GateResult:
        bound = f", {self.gate.bound} bound," if self.gate.bound else ""
        name = f"{self.gate.figure}{part.words if part else ''}{bound}"
        name += f" at {'most' if self.at_most else 'least'} {self.limit:g}"
        more = {"value": None, "applies": True, "slice": part and part.slice} | more
        return GateResult(name, self.gate.figure, limit=self.limit, passed=passed, detail=detail, **more)

    def _held(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit

    def _word(self, passed: bool) -> str:
        return ("at most" if self.at_most else "at least") if passed else ("above" if self.at_most else "below")

    def _end(self, ends: Bounds) -> float:
        return ends.low if self.gate.bound == "lower" else ends.high

    def _settled(self, ends: Bounds) -> bool:
        """Whether an interval lies on one side of the limit: proven good by the careful end, or bad by the other."""
        careful = (self.gate.bound == "upper") == self.at_most
        return self._held(self._end(ends)) == careful

    def _value(self, part: TestSubset) -> tuple[float | None, str]:
        if part.slice is None:
            return finite_number(self.subject.figures, self.gate.figure)
        test = self.subject.test
        own = classification_metrics(test.target[part.rows], test.probability[part.rows], self.subject.threshold)
        return finite_number(own, self.gate.figure)

    def _ends(self, part: TestSubset, level: float) -> Bounds | None:
        test, figure = self.subject.test, self.gate.figure
        if figure in METHODS:
            if not len(part.rows):
                return None
            answers = ModelOutputs(test.probability[part.rows], self.subject.threshold)
            found = metric_interval(figure, test.target[part.rows], answers, level)
            return None if found is None else Bounds(*found)
        known = self.subject.figures.get("intervals")
        own = known.get(figure) if isinstance(known, Mapping) else None
        low, high = (finite_number(own, end)[0] if isinstance(own, Mapping) else None for end in ("low", "high"))
        return None if low is None or high is None else Bounds(low, high)

    def _judged(self, part: TestSubset, ends: Bounds | None) -> GateResult:
        value, problem = self._value(part)
        problem = problem or too_few_images(self.subject.test, part)
        shown = {"value": value, "n": len(part.rows)}
        if not problem and self.gate.bound and ends is None:
            problem = f"figure '{self.gate.figure}' has no interval: there are too few images, or none is known"
        if problem or value is None:
            return self._result(part, False, problem, **shown)
        if ends is None or not self.gate.bound:
            passed = self._held(value)
            return self._result(part, passed, f"{value:.4f} is {self._word(passed)} {self.limit:.4f}", **shown)
        end = self._end(ends)
        passed = self._held(end)
        detail = f"{value:.4f}, its {self.gate.bound} bound {end:.4f} is {self._word(passed)} {self.limit:.4f}"
        return self._result(part, passed, detail, bound=end, **shown)

    def _measured(self) -> GateResult:
        gate = self.gate
        if gate.figure == VANISHED and self.champion is None:
            return self._result(None, True, "there is no champion yet", applies=False)
        value, problem = finite_number(self.subject.figures, gate.figure)
        if gate.figure == VANISHED and self.champion is not None and self.champion.problem:
            value, problem = None, "the champion could not be scored"
        elif gate.bound:
            problem = problem or "it is measured as it is and has no interval: leave `bound` out"
        if value is None or problem:
            return self._result(None, False, problem, value=value)
        passed = self._held(value)
        return self._result(None, passed, f"{value:g} is {self._word(passed)} {self.limit:g}", value=value)


class _Relative:
    """A gate on the candidate beside another model."""

    def __init__(self, gate: NonInferior | Better, beside: PairedComparison, rival: str) -> None:
        self.gate, self.beside, self.rival = gate, beside, rival
        self.sign = -1.0 if gate.figure in LESS_IS_BETTER else 1.0
        self.limit = gate.better_by if isinstance(gate, Better) else 0.0 - gate.non_inferior_by

    def results(self) -> list[GateResult]:
        beside = self.beside
        if beside.problem:
            why = "" if self.rival == CHAMPION else f": {beside.problem}"
            return [self._result(None, False, f"version {beside.version} could not be scored{why}")]
        found, problem = test_subsets(self.gate.slice, beside.test)
        if problem:
            return [self._result(None, False, problem)]
        judged, few = ([part for part in found if part.judged is enough] for enough in (True, False))
        gains = holm_procedure(
            len(judged), ONE_SIDED, lambda i, level: self._gain(judged[i], level), lambda gain: gain.low > self.limit
        )
        results = [self._judged(part, *pair) for part, pair in zip(judged, gains, strict=True)]
        detail = f"shown and not judged: fewer than {FEWEST} images"
        return results + [self._result(part, True, detail, applies=False, **self._shown(part)[0]) for part in few]

    def _result(self, part: TestSubset | None, passed: bool, detail: str, **more: Any) -> GateResult:
        name = describe_relative_gate(self.gate, part.words if part else "", self.rival)
        more = {"value": None, "applies": True, "slice": part and part.slice} | more
        more |= {"against": self.beside.version}
        more |= {"test_fingerprint": None if self.beside.problem else self.beside.fingerprint}
        return GateResult(name, self.gate.figure, limit=self.limit, passed=passed, detail=detail, **more)

    def _gain(self, part: TestSubset, level: float) -> Bounds | None:
        """By how much the candidate is better, whichever way that is."""
        found = self.beside.difference(self.gate.figure, level, part.rows)
        return None if found is None else Bounds(*sorted((self.sign * found.low, self.sign * found.high)))

    def _shown(self, part: TestSubset) -> tuple[dict[str, Any], str]:
        """Both figures and the number of images; or why one has no value."""
        target = self.beside.test.target[part.rows]
        pair = [
            classification_metrics(target, np.asarray(who.probability)[part.rows], who.threshold) if len(target) else {}
            for who in (self.beside.one, self.beside.other)
        ]
        (value, missing), (other, lacking) = (finite_number(found, self.gate.figure) for found in pair)
        problem = missing or (lacking and f"the other model's {lacking}")
        return {"value": value, "other": other, "n": len(part.rows)}, problem

    def _judged(self, part: TestSubset, proven: bool, gain: Bounds | None) -> GateResult:
        shown, problem = self._shown(part)
        problem = too_few_images(self.beside.test, part) or problem
        if not problem and (gain is None or not math.isfinite(gain.low)):
            problem = "the difference has no interval: there are too few images"
        if problem or gain is None:
            return self._result(part, False, problem, **shown)
        apart = self.sign * (shown["value"] - shown["other"])
        detail = (
            f"{shown['value']:.4f} against {shown['other']:.4f}: a gain of {apart:+.4f}, at least {gain.low:+.4f} "
            f"(one-sided 95 % bound), which is {'above' if proven else 'not above'} {self.limit:+.4f}"
        )
        return self._result(part, proven, detail, bound=gain.low, **shown)


def describe_relative_gate(gate: NonInferior | Better, where: str, rival: str) -> str:
    """What a gate against another model asks for, in words."""
    if isinstance(gate, Better):
        return f"{gate.figure}{where} better than {rival} by more than {gate.better_by:g}"
    return f"{gate.figure}{where} worse than {rival} by less than {gate.non_inferior_by:g}"
