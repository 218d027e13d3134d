"""Gates in params.yaml: allowed values, and errors before anything runs."""

import math

import pytest

from twofold.core.errors import ParameterError
from twofold.core.params import check_section
from twofold.promotion.gates import Better, Maximum, Minimum, NonInferior
from twofold.steps.register import Register

TEST_REUSE = {"candidates": 50, "error_rate": 0.005}
SECTION = {"experiment": "e", "model_name": "m", "reference_since": 1, "test_reuse": TEST_REUSE, "promotion": "auto"}
LISTED = [
    {"figure": "f1", "min": 0},
    {"figure": "roc_auc", "bound": "lower", "min": 0.9},
    {"figure": "ece", "bound": "upper", "max": 0.1},
    {"figure": "recall", "slice": "type", "min": 0.5},
    {"figure": "recall", "bound": "upper", "slice": {"type": "mono"}, "min": 0.5},
    {"figure": "model_bytes", "max": 2e8},
    {"figure": "f1", "non_inferior_by": 0.02},
    {"figure": "roc_auc", "slice": "type", "better_by": 0.0},
]


def test_gates_are_parsed():
    section = check_section(Register, "register", SECTION | {"gates": LISTED})
    assert section.gates == [
        Minimum(figure="f1", min=0.0),
        Minimum(figure="roc_auc", min=0.9, bound="lower"),
        Maximum(figure="ece", max=0.1, bound="upper"),
        Minimum(figure="recall", min=0.5, slice="type"),
        Minimum(figure="recall", min=0.5, bound="upper", slice={"type": "mono"}),
        Maximum(figure="model_bytes", max=2e8),
        NonInferior(figure="f1", non_inferior_by=0.02),
        Better(figure="roc_auc", better_by=0.0, slice="type"),
    ]


def test_gates_are_dumped_as_they_were_written():
    section = check_section(Register, "register", SECTION | {"gates": LISTED})
    written = section.model_dump(mode="json")
    assert written["gates"] == LISTED
    assert check_section(Register, "register", written) == section


ONE_OF = "exactly one of 'min', 'max', 'non_inferior_by', 'better_by'"


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ([], "register.gates: found []"),
        ({"figure": "f1", "min": 0.5}, "register.gates: found"),
        ([{"figure": "f1"}], ONE_OF),
        ([{"figure": "f1", "min": 0.1, "max": 0.2}], ONE_OF),
        ([{"figure": "f1", "non_inferior_by": 0.1, "better_by": 0.2}], ONE_OF),
        (["f1 >= 0.8"], ONE_OF),
        ([None], ONE_OF),
        ([{"min": 0.5}], "figure: missing"),
        ([{"figure": "f1", "min": math.nan}], "min: found nan"),
        ([{"figure": "f1", "min": math.inf}], "min: found inf"),
        ([{"figure": "f1", "max": "0.5"}], "max: found '0.5'"),
        ([{"figure": "f1", "non_inferior_by": -0.01}], "non_inferior_by: found -0.01"),
        ([{"figure": "f1", "better_by": -0.01}], "better_by: found -0.01"),
        ([{"figure": "f1", "better_by": math.nan}], "better_by: found nan"),
        ([{"figure": "f1", "min": 0.5, "unless": "friday"}], "unless: unknown key"),
        ([{"figure": "f1", "min": 0.5, "bound": "low"}], "bound: found 'low'"),
        ([{"figure": "f1", "non_inferior_by": 0.5, "bound": "lower"}], "bound: unknown key"),
        ([{"figure": "ece_uncalibrated", "non_inferior_by": 0.01}], "found 'ece_uncalibrated'"),
        ([{"figure": "latency_ms", "better_by": 1}], "found 'latency_ms'"),
        ([{"figure": "ece_uncalibrated", "max": 0.1, "slice": "type"}], "needs one of accuracy"),
        ([{"figure": "f1", "min": 0.5, "slice": 3}], "slice: found 3"),
        ([{"figure": "f1", "min": 0.5, "slice": " "}], "slice: found ' '"),
        ([{"figure": "f1", "min": 0.5, "slice": {}}], "slice: found {}"),
        ([{"figure": "f1", "min": 0.5, "slice": {"line": 3}}], "write `slice: column`"),
        ([{"figure": "f1", "min": 0.5, "slice": {"a": "b", "c": "d"}}], "write `slice: column`"),
    ],
)
def test_a_wrong_gate_stops_before_anything_runs(gates, message):
    with pytest.raises(ParameterError) as caught:
        check_section(Register, "register", SECTION | {"gates": gates})
    assert message in str(caught.value)


@pytest.mark.parametrize("since", [0, -1, "1", 1.5, True])
def test_reference_since_is_a_version_number(since):
    with pytest.raises(ParameterError, match=r"register\.reference_since"):
        check_section(Register, "register", SECTION | {"gates": LISTED, "reference_since": since})


@pytest.mark.parametrize("name", ["a/b", "a:b", "it's", " ", "a.b", "x" * 101])
def test_a_model_name_must_be_valid_in_every_registry(name):
    with pytest.raises(ParameterError, match=r"register\.model_name"):
        check_section(Register, "register", SECTION | {"gates": [{"figure": "f1", "min": 0}], "model_name": name})


@pytest.mark.parametrize("given", ["Schäden", "Scha\u0308den", "Schäden\u200b", "\ufeffSchäden "])
def test_a_slice_is_named_in_the_spelling_of_labels_csv(given):
    gates = [{"figure": "f1", "min": 0, "slice": {given: given}}, {"figure": "f1", "min": 0, "slice": given}]
    found = check_section(Register, "register", SECTION | {"gates": gates}).gates
    assert [gate.slice for gate in found] == [{"Schäden": "Schäden"}, "Schäden"]
