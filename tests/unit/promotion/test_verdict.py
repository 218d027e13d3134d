"""A verdict and the metrics that it may rest on."""

import math

import pytest

from tests.support import judging_case as case
from twofold.promotion.verdict import GateInputs, GateResult, Verdict, finite_number, format_value

GATE = GateResult("a", "accuracy", 0.9, 0.8, applies=True, passed=False, detail="b", n=7, slice={"type": "mono"})


def test_a_verdict_passes_without_a_reason_and_holds_every_result():
    assert Verdict((GATE,), ()).passed
    assert not Verdict((), ("why",)).passed
    (found,) = Verdict((GATE,), ()).as_json()
    expected = {
        "name": "a",
        "figure": "accuracy",
        "value": 0.9,
        "limit": 0.8,
        "applies": True,
        "passed": False,
        "detail": "b",
        "bound": None,
        "n": 7,
        "other": None,
        "against": None,
        "slice": {"type": "mono"},
        "test_fingerprint": None,
    }
    assert expected.items() <= found.items()


def test_what_is_known_of_a_candidate_cannot_change_while_it_is_judged():
    inputs = GateInputs({"accuracy": 0.9}, case.predictions([1, 0], [0.9, 0.1]), threshold=0.5)
    with pytest.raises(AttributeError):
        inputs.threshold = 0.4
    with pytest.raises(AttributeError):
        GATE.passed = True
    with pytest.raises(AttributeError):
        Verdict((GATE,), ("why",)).reasons = ()


@pytest.mark.parametrize("value", [0, 3, 0.5, -1.5])
def test_a_finite_number_is_returned(value):
    found = finite_number({"x": value}, "x")
    assert found == (value, "")
    assert isinstance(found[0], float)


@pytest.mark.parametrize("value", [True, False, None, "1", [1.0], math.nan, math.inf])
def test_anything_else_is_not_a_number_and_the_reason_is_named(value):
    found, reason = finite_number({"x": value, "y": 1.0}, "x")
    assert found is None
    assert reason.startswith("metric 'x' is ")


def test_the_known_metrics_are_named_if_one_is_missing():
    metrics = {"b": 1.0, "a": 2.0, "slices": {}}
    assert finite_number(metrics, "x") == (None, "metric 'x' is missing; there are: a, b")
    assert finite_number({}, "x") == (None, "metric 'x' is missing; there are: none")


@pytest.mark.parametrize(
    ("figure", "value", "text"),
    [
        ("accuracy", 1.0, "1.0000"),
        ("ece", 0.0, "0.0000"),
        ("vanished_test_images", 0.0, "0"),
        ("model_bytes", 94_371_840.0, "94,371,840"),
        ("latency_ms", 12.34567, "12.3457"),
        ("latency_ms", 12.5, "12.5"),
        ("n_units", 1200.0, "1,200"),
        ("n", None, "\N{EN DASH}"),
    ],
)
def test_a_metric_has_four_decimals_and_a_count_or_another_number_what_it_needs(figure, value, text):
    assert format_value(figure, value) == text
