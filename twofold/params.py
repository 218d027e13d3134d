"""The types that a section of params.yaml is made of, and how one section is checked.

A section is a pydantic model that lives beside its step (`twofold/steps/<step>.py`). No field has a default: every
value is in params.yaml, once. A field may hold a section of its own (`train_head.audit`). Unit and range are in each
field's description, from which the README's tables are made.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from twofold.errors import ParameterError


def _whole(value: Any) -> Any:
    # Kubeflow hands every number of a dict parameter over as a float: 3 arrives as 3.0.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _not_blank(value: str) -> str:
    if not value.strip() or value != value.strip():
        raise ValueError("must not be blank, nor begin or end with a space")
    return value


Integer = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(_not_blank)]


class Section(BaseModel):
    """One step's parameters: strict, frozen, without defaults, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


S = TypeVar("S", bound=Section)


def check(model: type[S], name: str, values: Any) -> S:
    """Return the section `name` as its model.

    Raises:
        ParameterError: listing every wrong key at once, each with the value found and what is allowed.
    """
    if not isinstance(values, Mapping):
        raise ParameterError(f"params.yaml: section '{name}' must be a mapping of keys to values, found {values!r}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(model, name, problem) for problem in error.errors()]
        raise ParameterError("params.yaml:\n  " + "\n  ".join(lines)) from None


def nested(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, if it holds one: `train_head.audit`."""
    inner = field.annotation
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def _explain(model: type[Section], name: str, problem: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    key = ".".join([name, *place])
    holder, field = model, None
    for part in place:
        if part not in holder.model_fields:
            break
        field = holder.model_fields[part]
        holder = nested(field) or holder
    about = f" ({field.description})" if field is not None and field.description else ""
    if problem["type"] == "missing":
        return f"{key}: missing; add it{about}"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(sorted(holder.model_fields))
        return f"{key}: unknown key; known in this section: {known}"
    if problem["type"] == "model_type":
        return (
            f"{key}: found {problem['input']!r}; must be a section that holds {', '.join(holder.model_fields)}{about}"
        )
    return f"{key}: found {problem['input']!r}; {problem['msg']}{about}"
