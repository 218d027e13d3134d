"""Field types for the sections of params.yaml, and the validation of one section.

A section is a pydantic model in its step's file (`twofold/steps/<step>.py`). No field has a default: params.yaml is
the only place for values. A field may hold a nested section (`train_head.audit`). A field's description states unit
and range; docs/reference/parameters.md is generated from the descriptions.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeGuard, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Tag, ValidationError
from pydantic.fields import FieldInfo

from twofold.core.errors import ParameterError
from twofold.core.redaction import REFUSAL, has_credentials

# Parts of pydantic's messages, in plain words.
_PLAIN_WORDS = {
    r"^Value error, ": "",
    r"^\w+ should ": "must ",
    r"a valid integer.*": "a whole number",
    r"a valid boolean.*": "true or false",
    r"a valid string": "text",
    r"a valid (dictionary|list|number).*": r"a \1",
    r"greater than or equal to": "at least",
    r"less than or equal to": "at most",
    r"greater than": "above",
    r"less than": "below",
    r"(at \w+ \d+ \w+) after.*": r"\1",
}


def _to_integer(value: Any) -> Any:
    # Kubeflow passes every number in a dict parameter as a float: 3 arrives as 3.0.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_not_blank(value: str) -> str:
    if not value or value != value.strip():
        raise ValueError("must not be blank, nor begin or end with a space")
    return value


def check_address(value: str) -> str:
    """Return an address; raise ValueError if it contains credentials."""
    if has_credentials(value):
        raise ValueError(REFUSAL)
    return value


Integer = Annotated[int, BeforeValidator(_to_integer)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(_check_not_blank)]
Address = Annotated[str, AfterValidator(_check_not_blank), AfterValidator(check_address)]


class Section(BaseModel):
    """A mapping in a file: strict types, immutable, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


S = TypeVar("S", bound=Section)


def check_section(model: type[S], name: str, values: Any) -> S:
    """Validate the section `name` and return it as its model.

    Raises:
        ParameterError: lists every wrong key, each with the value found and what is allowed.
    """
    if not isinstance(values, Mapping):
        raise ParameterError(f"params.yaml: section '{name}' must be a mapping of keys to values, found {values!r}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(model, name, problem) for problem in error.errors()]
        raise ParameterError("\n  ".join(["params.yaml:", *lines])) from None


def nested_section(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field holds (`train_head.audit`), or None if it holds a plain value."""
    return field.annotation if _is_section(field.annotation) else None


def section_choices(field: FieldInfo) -> dict[str, type[Section]]:
    """Return the sections that a field may hold, by their tag (`evaluate.threshold`); empty for any other field."""
    return {tag: kind for tag, kind in _tagged_types(field).items() if _is_section(kind)}


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


def _tagged_types(field: FieldInfo) -> dict[str, Any]:
    """Return the types of a tagged union, by tag."""
    return {
        mark.tag: get_args(kind)[0]
        for kind in get_args(field.annotation)
        for mark in getattr(kind, "__metadata__", ())
        if isinstance(mark, Tag)
    }


def in_plain_words(message: str) -> str:
    """Return a rule of pydantic's as an error of Twofold's says it: "must be a whole number"."""
    for pattern, words in _PLAIN_WORDS.items():
        message = re.sub(pattern, words, message)
    return message


def _explain(model: type[Section], name: str, problem: Any) -> str:
    key, section, known = name, model, True
    field: FieldInfo | None = None
    for part in map(str, problem["loc"]):
        if field is not None and part in _tagged_types(field):
            # pydantic's location contains the tag of a choice; params.yaml has no such key.
            if part in section_choices(field):
                section, field = section_choices(field)[part], None
            continue
        key += f".{part}"
        known = known and part in section.model_fields
        if known:
            field = section.model_fields[part]
            section = nested_section(field) or section
    about = f" ({field.description})" if field is not None and field.description else ""
    if problem["type"] == "missing":
        return f"{key}: missing; add it{about}"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; known in this section: {', '.join(sorted(section.model_fields))}"
    rule = in_plain_words(problem["msg"])
    if problem["type"] == "string_type" and isinstance(problem["input"], bool | float | int | None):
        text = json.dumps(_to_integer(problem["input"]))
        rule = f'must be text: write it in quotes, as your folders or labels.csv spell it: "{text}"'
    if problem["type"] == "model_type":
        rule = f"must be a section that holds {', '.join(section.model_fields)}"
    return f"{key}: found {problem['input']!r}; {rule}{about}"
