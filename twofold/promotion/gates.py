"""The gates that a model must pass before it is promoted, as data in params.yaml.

In: what a person wrote under `register.gates`. Out: conditions, each checked in itself; `verdict.py` holds a model to
them.
"""

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

from twofold.core.params import Number, Section, Text

# Of these, less is better, so "no worse than the champion" turns round.
LESS_IS_BETTER = frozenset({"log_loss", "brier", "ece"})
# What register finds out itself; every other figure is a key of reports/metrics.json.
SIZE, LATENCY, VANISHED = "model_bytes", "latency_ms", "vanished_test_images"
MEASURED = (SIZE, LATENCY, VANISHED)


def _by_images(figure: str) -> str:
    from twofold.metrics.classification import METRICS

    if figure not in METRICS:
        raise ValueError(f"can be told for some images alone, or for two models, only of {', '.join(METRICS)}")
    return figure


def _one_slice(value: Any) -> Any:
    texts = [*value, *value.values()] if isinstance(value, Mapping) and len(value) == 1 else [value]
    if value is None or all(isinstance(text, str) and text.strip() for text in texts):
        return value
    raise ValueError("write `slice: column` for every value of a column, or `slice: {column: value}`, both as text")


Compared = Annotated[Text, AfterValidator(_by_images)]
Slice = Annotated[Any, BeforeValidator(_one_slice)]
FIGURE = "a key of reports/metrics.json, or model_bytes, latency_ms or vanished_test_images, which register measures"
BOUND = "lower or upper: the end of the figure's 95 % interval that is held to the limit; left out: the figure itself"
SLICE = "a slice column (every value with 30 images or more) or {column: value}; left out: all test images"


class _Written(Section):
    @model_serializer(mode="wrap")
    def _without_what_was_left_out(self, make: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in make(self).items() if value is not None}


class _Absolute(_Written):
    figure: Text = Field(description=FIGURE)
    bound: Literal["lower", "upper"] | None = Field(default=None, description=BOUND)
    slice: Slice = Field(default=None, description=SLICE)

    @model_validator(mode="after")
    def _tellable(self) -> "_Absolute":
        if self.slice is not None:
            _by_images(self.figure)
        return self


class Minimum(_Absolute):
    """The figure, or an end of its interval, must be at least `min`."""

    min: Number = Field(description="the lowest value that passes, in the figure's own unit")


class Maximum(_Absolute):
    """The figure, or an end of its interval, must be at most `max`."""

    max: Number = Field(description="the highest value that passes, in the figure's own unit")


class _Relative(_Written):
    figure: Compared = Field(description="accuracy, precision, recall, f1, specificity, roc_auc and the like")
    slice: Slice = Field(default=None, description=SLICE)


class NonInferior(_Relative):
    """It must be proven that the figure is not worse than the champion's by the margin or more.

    Nor than that of the best champion since `register.reference_since`, so that small steps down do not add up.
    """

    non_inferior_by: Number = Field(ge=0, description="how much worse than the champion still passes, 0 or more")


class Better(_Relative):
    """It must be proven that the figure is better than the champion's by more than `better_by`."""

    better_by: Number = Field(ge=0, description="by how much it must beat the champion, 0 or more")


KINDS = ("min", "max", "non_inferior_by", "better_by")


def _kind(value: Any) -> str | None:
    # Without a kind, pydantic would explain a wrong gate four times, once for each that it is not.
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
