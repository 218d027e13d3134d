"""The verdict on a candidate: the result of each gate and the reasons for a refusal; made by `gate_evaluation.py`."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from twofold.evaluation.predictions import Predictions
from twofold.metrics.classification import METRICS
from twofold.metrics.number_format import number


@dataclass(frozen=True)
class GateInputs:
    """What is known of the candidate.

    Attributes:
        metrics: metrics.json and what register measured; values that are not numbers fail their gate.
        test: its predictions on the test images.
        threshold: at or above which it calls an image positive.
    """

    metrics: Mapping[str, Any]
    test: Predictions
    threshold: float


@dataclass(frozen=True)
class GateResult:
    """The result of one gate, for one slice if the gate has slices.

    Attributes:
        name: the condition in words.
        figure, value: the metric; the value is None if it is not a number.
        applies: False without a champion, and for a slice of too few images or without a class that the metric needs.
        passed: True for a gate that does not apply; such a gate decides nothing.
        bound: what was compared with the limit, if not the value: a bound of the metric's interval, or the lower bound
            of the gain over the other model.
        n: number of images; None if the metric is not computed from images.
        other: the metric of the other model.
        against: version of the other model.
        test_fingerprint: of the images on which both models were compared.
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
    """All gate results, and the reasons for a refusal; without a reason the candidate passes."""

    gates: tuple[GateResult, ...]
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons

    def as_json(self) -> list[dict[str, Any]]:
        """Return the gate results as JSON objects."""
        return [asdict(gate) for gate in self.gates]


def finite_number(metrics: Mapping[str, Any], name: str) -> tuple[float | None, str]:
    """Return a metric as a finite number and "", or None and the reason."""
    if name not in metrics:
        known = ", ".join(sorted(key for key, value in metrics.items() if isinstance(value, float)))
        return None, f"metric '{name}' is missing; there are: {known or 'none'}"
    value = metrics[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None, f"metric '{name}' is {value!r}, not a number"
    if not math.isfinite(value):
        return None, f"metric '{name}' is {value}, not a finite number"
    return float(value), ""


def format_value(figure: str, value: float | None) -> str:
    """Return a metric or its limit with four decimals, and a count, a time or another number with four at most."""
    if value is None or figure in METRICS:
        return number(value, 4)
    return f"{value:,.4f}".rstrip("0").rstrip(".")
