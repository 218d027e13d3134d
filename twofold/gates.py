"""The gates that a model must pass before it is promoted, and the verdict.

In: gates as data (params.yaml), the candidate's figures, the champion's figures on the same test images. Out: a
verdict in which every gate has its figure, limit and reason. Fails closed: what is missing, not a number or cannot be
read does not pass.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from twofold.params import Number, Section, Text

# Of these, less is better, so "no worse than the champion" turns round.
LESS_IS_BETTER = frozenset({"log_loss", "brier"})


class Minimum(Section):
    """The figure must be at least `min`."""

    figure: Text = Field(description="a key of reports/metrics.json")
    min: Number = Field(description="the lowest value that passes, in the figure's own unit")


class Maximum(Section):
    """The figure must be at most `max`."""

    figure: Text = Field(description="a key of reports/metrics.json")
    max: Number = Field(description="the highest value that passes, in the figure's own unit")


class NonInferior(Section):
    """The figure must not be worse than the champion's by more than the margin."""

    figure: Text = Field(description="a key of reports/metrics.json")
    non_inferior_by: Number = Field(ge=0, description="how much worse than the champion still passes, 0 or more")


def _kind(value: Any) -> str | None:
    # Without a kind, pydantic would explain a wrong gate three times, once for each that it is not.
    keys = value if isinstance(value, Mapping) else getattr(type(value), "model_fields", ())
    found = [name for name in ("min", "max", "non_inferior_by") if name in keys]
    return found[0] if len(found) == 1 else None


Gate = Annotated[
    Annotated[Minimum, Tag("min")] | Annotated[Maximum, Tag("max")] | Annotated[NonInferior, Tag("non_inferior_by")],
    Discriminator(
        _kind,
        custom_error_type="gate",
        custom_error_message="a gate has 'figure' and exactly one of 'min', 'max', 'non_inferior_by'",
    ),
]


@dataclass(frozen=True)
class Champion:
    """The model that is served today: its version, and its figures on the candidate's test images.

    `problem` says why it could not be scored; its figures are then empty.
    """

    version: str
    figures: Mapping[str, Any]
    problem: str = ""


@dataclass(frozen=True)
class Result:
    """One gate's outcome. `value` and `limit` are None where there is no number; `applies` is False without a champion.

    `passed` is True for a gate that does not apply; such a gate decides nothing.
    """

    name: str
    figure: str
    value: float | None
    limit: float | None
    applies: bool
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """All gates, and why the model was refused; it passed if there is no reason."""

    gates: tuple[Result, ...]
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons

    def as_json(self) -> list[dict[str, Any]]:
        """The gates as JSON objects."""
        return [asdict(gate) for gate in self.gates]


def judge(gates: Sequence[Gate], figures: Mapping[str, Any], champion: Champion | None) -> Verdict:
    """Hold the candidate's figures to every gate.

    Args:
        figures: metrics.json; only numbers count.
        champion: None if there is none yet: relative gates then do not apply, and at least one absolute gate must be.
    """
    results = tuple(_result(gate, figures, champion) for gate in gates)
    reasons = [f"{result.name}: {result.detail}" for result in results if not result.passed]
    if not gates:
        reasons.append("no gates: nothing says what is good enough; add some to register.gates")
    elif not any(result.applies for result in results):
        reasons.append("no gate applies: without a champion at least one 'min' or 'max' gate is needed")
    if champion is not None and champion.problem:
        reasons.append(f"the champion, version {champion.version}, could not be scored: {champion.problem}")
    return Verdict(results, tuple(reasons))


def _result(gate: Gate, figures: Mapping[str, Any], champion: Champion | None) -> Result:
    value, problem = number(figures, gate.figure)
    limit: float | None
    if isinstance(gate, NonInferior):
        name = f"{gate.figure} no worse than the champion by more than {gate.non_inferior_by:g}"
        if champion is None:
            return Result(name, gate.figure, value, None, False, True, "does not apply: there is no champion yet")
        limit, missing = _relative(gate, champion)
        problem = problem or missing
        at_most = gate.figure in LESS_IS_BETTER
    else:
        at_most = isinstance(gate, Maximum)
        limit = gate.max if isinstance(gate, Maximum) else gate.min
        name = f"{gate.figure} at {'most' if at_most else 'least'} {limit:g}"
    if problem or value is None or limit is None:
        return Result(name, gate.figure, value, limit, True, False, problem)
    passed = value <= limit if at_most else value >= limit
    word = ("at most" if at_most else "at least") if passed else ("above" if at_most else "below")
    return Result(name, gate.figure, value, limit, True, passed, f"{value:.4f} is {word} {limit:.4f}")


def _relative(gate: NonInferior, champion: Champion) -> tuple[float | None, str]:
    if champion.problem:
        return None, "the champion could not be scored"
    value, problem = number(champion.figures, gate.figure)
    if value is None:
        return None, f"the champion's {problem}"
    return value + (gate.non_inferior_by if gate.figure in LESS_IS_BETTER else -gate.non_inferior_by), ""


def number(figures: Mapping[str, Any], name: str) -> tuple[float | None, str]:
    """A figure as a finite number, or None and the reason why it is not one."""
    if name not in figures:
        known = ", ".join(sorted(key for key, value in figures.items() if isinstance(value, float)))
        return None, f"figure '{name}' is missing; there are: {known or 'none'}"
    value = figures[name]
    if not _is_number(value):
        return None, f"figure '{name}' is {value!r}, not a number"
    if not math.isfinite(value):
        return None, f"figure '{name}' is {value}, not a finite number"
    return float(value), ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
