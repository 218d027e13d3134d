import math
from typing import Literal

import pytest
from pydantic import Field

from twofold.core.errors import ParameterError
from twofold.core.params import Fraction, Integer, Number, Section, Text, check_section, in_plain_words


class Toy(Section):
    epochs: Integer = Field(description="passes over the data, 1 to 10", ge=1, le=10)
    rate: Number = Field(description="learning rate, above 0", gt=0)
    share: Fraction = Field(description="a share, 0 to 1")
    name: Text = Field(description="a name")
    fit: Literal["squash", "crop"] = Field(description="how")
    flips: bool = Field(description="whether to flip")


GOOD = {"epochs": 3, "rate": 0.1, "share": 0.5, "name": "a", "fit": "crop", "flips": True}


def test_a_whole_float_from_kubeflow_becomes_an_integer():
    toy = check_section(Toy, "toy", GOOD | {"epochs": 3.0})
    assert toy.epochs == 3
    assert isinstance(toy.epochs, int)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("epochs", 3.5, "3.5"),
        ("epochs", "3", "'3'"),
        ("epochs", True, "True"),
        ("epochs", 0, "1 to 10"),
        ("epochs", 11, "at most 10"),
        ("rate", "1e-3", "'1e-3'"),
        ("rate", math.nan, "finite"),
        ("rate", math.inf, "finite"),
        ("rate", True, "True"),
        ("share", 1.1, "a share, 0 to 1"),
        ("name", " ", "blank"),
        ("fit", "stretch", "'squash' or 'crop'"),
        ("flips", "yes", "'yes'"),
        ("flips", 1, "whether to flip"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_key_value_and_allowed_values(key, value, words):
    with pytest.raises(ParameterError) as caught:
        check_section(Toy, "toy", GOOD | {key: value})
    assert f"toy.{key}: found" in str(caught.value)
    assert words in str(caught.value)


def test_one_error_names_all_missing_and_unknown_keys():
    values = {key: value for key, value in GOOD.items() if key not in ("rate", "name")} | {"epoch": 3}
    with pytest.raises(ParameterError) as caught:
        check_section(Toy, "toy", values)
    text = str(caught.value)
    assert "toy.rate: missing; add it (learning rate, above 0)" in text
    assert "toy.name: missing" in text
    assert "toy.epoch: unknown key; known in this section: epochs, fit, flips, name, rate, share" in text


def test_a_section_must_be_a_mapping():
    with pytest.raises(ParameterError, match="'toy' must be a mapping"):
        check_section(Toy, "toy", [1, 2])


def test_a_section_is_immutable():
    toy = check_section(Toy, "toy", GOOD)
    with pytest.raises(ValueError, match="frozen"):
        toy.epochs = 4


class Watch(Section):
    blur: Literal["ignore", "warn"] = Field(description="about blur")
    share: Fraction = Field(description="a share, 0 to 1")


class Step(Section):
    size: Integer = Field(description="a size")
    audit: Watch = Field(description="what is looked for")


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        ({"blur": "fail", "share": 0.5}, r"step\.audit\.blur: found 'fail'; .*'ignore' or 'warn'.*\(about blur\)"),
        ({"blur": "warn", "share": 2}, r"step\.audit\.share: found 2.*\(a share, 0 to 1\)"),
        ({"blur": "warn"}, r"step\.audit\.share: missing; add it \(a share, 0 to 1\)"),
        (
            {"blur": "warn", "share": 0, "blurr": 1},
            r"step\.audit\.blurr: unknown key; known in this section: blur, share$",
        ),
        (3, r"step\.audit: found 3; .*\(what is looked for\)"),
    ],
)
def test_a_nested_section_is_as_strict(audit, message):
    assert check_section(Step, "step", {"size": 1, "audit": {"blur": "warn", "share": 0.5}}).audit.share == 0.5
    with pytest.raises(ParameterError, match=message):
        check_section(Step, "step", {"size": 1, "audit": audit})


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Input should be a valid integer, unable to parse string as an integer", "must be a whole number"),
        ("Input should be a valid number", "must be a number"),
        ("Input should be a finite number", "must be a finite number"),
        ("Input should be a valid boolean", "must be true or false"),
        ("Input should be a valid string", "must be text"),
        ("Input should be a valid list", "must be a list"),
        ("Input should be 'float32' or 'bfloat16'", "must be 'float32' or 'bfloat16'"),
        ("Input should be greater than or equal to 1", "must be at least 1"),
        ("Input should be less than or equal to 0.05", "must be at most 0.05"),
        ("Input should be less than 1", "must be below 1"),
        ("Input should be greater than 0", "must be above 0"),
        ("List should have at least 1 item after validation, not 0", "must have at least 1 item"),
        ("String should have at most 100 characters", "must have at most 100 characters"),
        ("String should match pattern '^[A-Z]+$'", "must match pattern '^[A-Z]+$'"),
        ("Value error, allowed are 1 and 2", "allowed are 1 and 2"),
    ],
)
def test_rules_are_in_plain_words(message, words):
    assert in_plain_words(message) == words
