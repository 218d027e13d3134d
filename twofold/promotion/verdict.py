"""The verdict on a candidate: what each gate came to, and why the model was refused.

In: what is known of the candidate. Out: results that a page, a card and a registry can hold on to; `judging.py` makes
them.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from twofold.evaluation.predictions import Predictions


@dataclass(frozen=True)
class GateInputs:
    """What is known of the model that is judged.

    Attributes:
        figures: metrics.json, and what register measured; only numbers count.
        test: its predictions on the test images.
        threshold: at which it calls an image positive.
    """

    figures: Mapping[str, Any]
    test: Predictions
    threshold: float


@dataclass(frozen=True)
class GateResult:
    """One gate's outcome, for one slice if it is about slices.

    Attributes:
        name: what is asked for, in words.
        value: the figure; None where there is no number.
        other: the figure of the model that it is compared with.
        bound: what was held to the limit, if not the figure itself: an end of its interval, or how much better than
            the other model it is at least.
        limit: of the figure or the bound.
        n: images; None for what is not of images.
        applies: False without a champion, and for a slice of fewer than FEWEST images.
        passed: True for a gate that does not apply; such a gate decides nothing.
        against: version of the other model.
        test_fingerprint: of the images that both models were judged on.
    """

    name: str
    figure: str
    value: float | None
    limit: float | None
    applies: bool
    passed: bool
    detail: str
    bound: float | None = None
    n: int | None = None
    other: float | None = None
    against: str | None = None
    slice: Mapping[str, str] | None = None
    test_fingerprint: str | None = None


@dataclass(frozen=True)
class Verdict:
    """All gates, and why the model was refused; it passed if there is no reason."""

    gates: tuple[GateResult, ...]
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons

    def as_json(self) -> list[dict[str, Any]]:
        """The gates as JSON objects."""
        return [asdict(gate) for gate in self.gates]


def finite_number(figures: Mapping[str, Any], name: str) -> tuple[float | None, str]:
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
