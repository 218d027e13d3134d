"""Gates: every way in which one must not pass, and the ways in which it may."""

import math

import pytest

from twofold.errors import ParameterError
from twofold.gates import Champion, Maximum, Minimum, NonInferior, judge, number
from twofold.params import check
from twofold.steps.register import Register

FIGURES = {"accuracy": 0.9, "log_loss": 0.3, "n": 100, "slices": {}}
CHAMPION = Champion("4", {"accuracy": 0.92, "log_loss": 0.25})
ACCURATE = Minimum(figure="accuracy", min=0.8)


def only(gate, figures=FIGURES, champion=CHAMPION):
    (result,) = judge([gate], figures, champion).gates
    return result


@pytest.mark.parametrize(
    ("gate", "passed", "limit", "detail"),
    [
        (Minimum(figure="accuracy", min=0.9), True, 0.9, "0.9000 is at least 0.9000"),
        (Minimum(figure="accuracy", min=0.9001), False, 0.9001, "0.9000 is below 0.9001"),
        (Maximum(figure="log_loss", max=0.3), True, 0.3, "0.3000 is at most 0.3000"),
        (Maximum(figure="log_loss", max=0.29), False, 0.29, "0.3000 is above 0.2900"),
        (Minimum(figure="n", min=50), True, 50, "100.0000 is at least 50.0000"),
    ],
)
def test_absolute_gates(gate, passed, limit, detail):
    for champion in (None, CHAMPION):
        result = only(gate, champion=champion)
        assert (result.applies, result.passed, result.limit, result.detail) == (True, passed, limit, detail)


@pytest.mark.parametrize(
    ("figure", "margin", "passed", "limit"),
    [
        ("accuracy", 0.03, True, 0.89),
        ("accuracy", 0.01, False, 0.91),
        ("log_loss", 0.06, True, 0.31),  # where less is better, the margin lies above
        ("log_loss", 0.04, False, 0.29),
        ("log_loss", 0.0, False, 0.25),
    ],
)
def test_gates_against_the_champion(figure, margin, passed, limit):
    result = only(NonInferior(figure=figure, non_inferior_by=margin))
    assert (result.applies, result.passed) == (True, passed)
    assert result.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "figure 'accuracy' is nan, not a finite number"),
        (math.inf, "figure 'accuracy' is inf, not a finite number"),
        (-math.inf, "figure 'accuracy' is -inf, not a finite number"),
        (None, "figure 'accuracy' is None, not a number"),
        ("0.9", "figure 'accuracy' is '0.9', not a number"),
        (True, "figure 'accuracy' is True, not a number"),
        ({"mono": 0.9}, "figure 'accuracy' is {'mono': 0.9}, not a number"),
    ],
)
@pytest.mark.parametrize(
    "gate",
    [ACCURATE, Maximum(figure="accuracy", max=2), NonInferior(figure="accuracy", non_inferior_by=1)],
    ids=["min", "max", "relative"],
)
def test_a_figure_that_is_no_finite_number_does_not_pass(gate, value, reason):
    verdict = judge([gate], {"accuracy": value}, CHAMPION)
    assert not verdict.passed
    assert (verdict.gates[0].value, verdict.gates[0].detail) == (None, reason)
    assert verdict.reasons == (f"{verdict.gates[0].name}: {reason}",)


def test_a_figure_that_is_missing_does_not_pass_and_says_what_there_is():
    result = only(Minimum(figure="acuracy", min=0))
    assert (result.passed, result.detail) == (False, "figure 'acuracy' is missing; there are: accuracy, log_loss")
    assert number({}, "accuracy") == (None, "figure 'accuracy' is missing; there are: none")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "high", False])
def test_a_champions_figure_that_is_no_number_does_not_pass(value):
    # -inf most of all: every figure is higher than that.
    for figures in ({"accuracy": value}, {}):
        result = only(NonInferior(figure="accuracy", non_inferior_by=0.5), champion=Champion("4", figures))
        assert (result.applies, result.passed, result.limit) == (True, False, None)
        assert result.detail.startswith("the champion's figure 'accuracy' is ")


def test_without_gates_nothing_passes():
    for champion in (None, CHAMPION):
        verdict = judge([], FIGURES, champion)
        assert not verdict.passed
        assert "no gates" in verdict.reasons[0]


def test_without_a_champion_relative_gates_do_not_apply_and_an_absolute_one_is_required():
    relative = NonInferior(figure="accuracy", non_inferior_by=0.0)
    alone = judge([relative], FIGURES, None)
    assert (alone.gates[0].applies, alone.passed) == (False, False)
    assert "at least one 'min' or 'max' gate is needed" in alone.reasons[0]
    both = judge([relative, ACCURATE], FIGURES, None)
    assert both.passed
    assert "there is no champion yet" in both.gates[0].detail
    # Not even a figure that is missing matters to a gate that does not apply.
    assert judge([NonInferior(figure="none", non_inferior_by=0.0), ACCURATE], FIGURES, None).passed


def test_a_champion_that_cannot_be_scored_lets_nothing_pass():
    broken = Champion("4", {}, "its weights are gone; mend it")
    verdict = judge([ACCURATE, NonInferior(figure="accuracy", non_inferior_by=1.0)], FIGURES, broken)
    assert [gate.passed for gate in verdict.gates] == [True, False]
    assert verdict.reasons[-1] == "the champion, version 4, could not be scored: its weights are gone; mend it"
    assert not judge([ACCURATE], FIGURES, broken).passed, "even where no gate asks for it"


def test_all_gates_are_evaluated_whatever_the_others_say():
    gates = [Minimum(figure="none", min=0), Minimum(figure="accuracy", min=0.95), ACCURATE]
    verdict = judge(gates, FIGURES, None)
    assert [gate.passed for gate in verdict.gates] == [False, False, True]
    assert len(verdict.reasons) == 2
    assert [gate["name"] for gate in verdict.as_json()] == [
        "none at least 0",
        "accuracy at least 0.95",
        "accuracy at least 0.8",
    ]


SECTION = {"experiment": "e", "model_name": "m", "promotion": "auto"}


def test_gates_are_data():
    listed = [{"figure": "f1", "min": 0}, {"figure": "brier", "max": 1.5}, {"figure": "f1", "non_inferior_by": 0.02}]
    section = check(Register, "register", SECTION | {"gates": listed})
    assert section.gates == [
        Minimum(figure="f1", min=0.0),
        Maximum(figure="brier", max=1.5),
        NonInferior(figure="f1", non_inferior_by=0.02),
    ]
    assert check(Register, "register", section.model_dump(mode="json")) == section


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ([], "register.gates: found []"),
        ({"figure": "f1", "min": 0.5}, "register.gates: found"),
        ([{"figure": "f1"}], "exactly one of 'min', 'max', 'non_inferior_by'"),
        ([{"figure": "f1", "min": 0.1, "max": 0.2}], "exactly one of 'min', 'max', 'non_inferior_by'"),
        (["f1 >= 0.8"], "exactly one of 'min', 'max', 'non_inferior_by'"),
        ([None], "exactly one of 'min', 'max', 'non_inferior_by'"),
        ([{"min": 0.5}], "figure: missing"),
        ([{"figure": "f1", "min": math.nan}], "min: found nan"),
        ([{"figure": "f1", "min": math.inf}], "min: found inf"),
        ([{"figure": "f1", "max": "0.5"}], "max: found '0.5'"),
        ([{"figure": "f1", "non_inferior_by": -0.01}], "non_inferior_by: found -0.01"),
        ([{"figure": "f1", "min": 0.5, "unless": "friday"}], "unless: unknown key"),
    ],
)
def test_a_wrong_gate_stops_before_anything_runs(gates, message):
    with pytest.raises(ParameterError) as caught:
        check(Register, "register", SECTION | {"gates": gates})
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["a/b", "a:b", "it's", " ", "a.b", "x" * 101])
def test_a_models_name_is_one_that_every_registry_takes(name):
    with pytest.raises(ParameterError, match=r"register\.model_name"):
        check(Register, "register", SECTION | {"gates": [{"figure": "f1", "min": 0}], "model_name": name})
