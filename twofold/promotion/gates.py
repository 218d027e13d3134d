"""The gates: reads `register.gates` of params.yaml as validated conditions, which `gate_evaluation.py` evaluates."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from twofold.core.names import normalize_name
from twofold.core.params import Number, Section, Text

LESS_IS_BETTER = frozenset({"log_loss", "brier", "ece"})
# Measured by register; every other metric is a key of reports/evaluation/metrics.json.
SIZE, LATENCY, VANISHED = "model_bytes", "latency_ms", "vanished_test_images"
MEASURED = (SIZE, LATENCY, VANISHED)


def _check_comparable(metric: str) -> str:
    from twofold.metrics.classification import METRICS

    if metric not in METRICS:
        raise ValueError(f"a slice, or a comparison of two models, needs one of {', '.join(METRICS)}")
    return metric


def _check_slice(value: Any) -> Any:
    texts = [*value, *value.values()] if isinstance(value, Mapping) and len(value) == 1 else [value]
    if value is None or all(isinstance(text, str) and text.strip() for text in texts):
        pairs = value.items() if isinstance(value, Mapping) else ()
        return {normalize_name(key): normalize_name(each) for key, each in pairs} or (value and normalize_name(value))
    raise ValueError("write `slice: column` for every value of a column, or `slice: {column: value}`, both quoted")


Compared = Annotated[Text, AfterValidator(_check_comparable)]
Slice = Annotated[Any, BeforeValidator(_check_slice)]
_METRIC = "a key of reports/evaluation/metrics.json; or model_bytes, latency_ms, vanished_test_images (register's own)"
BOUND = "lower or upper: the bound of the metric's 95 % interval that the limit is for; left out: the metric itself"
SLICE = "a slice column (every value with 30 images or more) or {column: value}; left out: all test images"


class _GateSection(Section):
    @model_serializer(mode="wrap")
    def _without_unset_keys(self, make: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in make(self).items() if value is not None}


class _Absolute(_GateSection):
    figure: Text = Field(description=_METRIC)
    bound: Literal["lower", "upper"] | None = Field(default=None, description=BOUND)
    slice: Slice = Field(default=None, description=SLICE)

    @model_validator(mode="after")
    def _check_slice_metric(self) -> "_Absolute":
        if self.slice is not None:
            _check_comparable(self.figure)
        return self


class Minimum(_Absolute):
    """The metric, or a bound of its interval, must be at least `min`."""

    min: Number = Field(description="the lowest value that passes, in the metric's unit")


class Maximum(_Absolute):
    """The metric, or a bound of its interval, must be at most `max`."""

    max: Number = Field(description="the highest value that passes, in the metric's unit")


class _Relative(_GateSection):
    figure: Compared = Field(description="accuracy, precision, recall, f1, specificity, roc_auc and the like")
    slice: Slice = Field(default=None, description=SLICE)


class NonInferior(_Relative):
    """The metric must be proven to be worse than the champion's by less than the non-inferiority margin.

    The same holds against the best champion since `register.reference_since`, which guards against slow decline.
    """

    non_inferior_by: Number = Field(ge=0, description="non-inferiority margin against the champion, 0 or more")


class Better(_Relative):
    """The metric must be proven to be better than the champion's by more than `better_by`."""

    better_by: Number = Field(ge=0, description="gain over the champion that it must exceed, 0 or more")


KINDS = ("min", "max", "non_inferior_by", "better_by")


def _kind(value: Any) -> str | None:
    # Without a discriminator, pydantic would report a wrong gate four times, once per kind.
    keys = value if isinstance(value, Mapping) else getattr(type(value), "model_fields", ())
    found = [name for name in KINDS if name in keys]
    return found[0] if len(found) == 1 else None


Gate = Annotated[
    Annotated[Minimum, Tag("min")]
    | Annotated[Maximum, Tag("max")]
    | Annotated[NonInferior, Tag("non_inferior_by")]
    | Annotated[Better, Tag("better_by")],
    Discriminator(
        _kind,
        custom_error_type="gate",
        custom_error_message=f"a gate has 'figure' and exactly one of {', '.join(map(repr, KINDS))}",
    ),
]
