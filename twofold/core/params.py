"""The types that a section of params.yaml is made of, and how one section is checked.

A section is a pydantic model that lives beside its step (`twofold/steps/<step>.py`). No field has a default: every
value is in params.yaml, once. A field may hold a section of its own (`train_head.audit`). Unit and range are in each
field's description, from which the README's tables are made.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Tag, ValidationError
from pydantic.fields import FieldInfo

from twofold.core.errors import ParameterError


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


def check_section(model: type[S], name: str, values: Any) -> S:
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


def nested_section(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, if it holds one: `train_head.audit`."""
    inner = field.annotation
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def section_choices(field: FieldInfo) -> dict[str, type[Section]]:
    """The sections of which a field may hold one, by their tag: `evaluate.threshold`; none for any other field."""
    return {tag: kind for tag, kind in _tagged(field).items() if isinstance(kind, type) and issubclass(kind, Section)}


def _tagged(field: FieldInfo) -> dict[str, Any]:
    """All that a field may hold one of, by tag."""
    found: dict[str, Any] = {}
    for kind in get_args(field.annotation):
        tags = [mark.tag for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, Tag)]
        found |= {tag: get_args(kind)[0] for tag in tags}
    return found


def _explain(model: type[Section], name: str, problem: Any) -> str:
    key, holder = name, model
    field: FieldInfo | None = None
    lost = False
    for part in map(str, problem["loc"]):
        if field is not None and part in _tagged(field):
            # The tag of a choice is no key of the file.
            if part in section_choices(field):
                holder, field = section_choices(field)[part], None
            continue
        key += f".{part}"
        lost = lost or part not in holder.model_fields
        if not lost:
            field = holder.model_fields[part]
            holder = nested_section(field) or holder
    about = f" ({field.description})" if field is not None and field.description else ""
    if problem["type"] == "missing":
        return f"{key}: missing; add it{about}"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; known in this section: {', '.join(sorted(holder.model_fields))}"
    if problem["type"] == "model_type":
        return (
            f"{key}: found {problem['input']!r}; must be a section that holds {', '.join(holder.model_fields)}{about}"
        )
    return f"{key}: found {problem['input']!r}; {problem['msg']}{about}"
