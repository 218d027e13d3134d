"""Gate evaluation: when a gate passes, and every case in which it must fail."""

import math

import pytest

from tests.support import judging_case as case
from twofold.metrics.confidence_intervals import clopper_pearson, tango
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gate_slices import MetricKey
from twofold.promotion.gates import Better, Maximum, Minimum, NonInferior
from twofold.promotion.test_reuse import SPENT
from twofold.promotion.verdict import GateInputs, finite_number

TARGET = [1] * 40 + [0] * 60
RIGHT = [True] * 90 + [False] * 10
TEST = case.predictions(TARGET, case.answered(RIGHT, TARGET))  # 50 of 60 and 40 of 40
SUBJECT = case.subject(TEST)
# Three images that only the candidate gets right, and one that only the champion gets right.
CHAMPION = case.beside(TEST, case.answered([False] * 3 + [True] * 88 + [False] * 9, TARGET))
ACCURATE = Minimum(figure="accuracy", min=0.8)


def only(gate, subject=SUBJECT, champion=CHAMPION, best=None):
    (result,) = evaluate_gates([gate], subject, champion, best).gates
    return result


@pytest.mark.parametrize(
    ("gate", "passed", "limit", "detail"),
    [
        (Minimum(figure="accuracy", min=0.9), True, 0.9, "0.9000 is at least 0.9000"),
        (Minimum(figure="accuracy", min=0.9001), False, 0.9001, "0.9000 is below 0.9001"),
        (Maximum(figure="brier", max=0.1), True, 0.1, "0.0900 is at most 0.1000"),
        (Maximum(figure="brier", max=0.08), False, 0.08, "0.0900 is above 0.0800"),
        (Minimum(figure="n", min=50), True, 50, "100 is at least 50"),
    ],
)
def test_absolute_gates(gate, passed, limit, detail):
    for champion in (None, CHAMPION):
        result = only(gate, champion=champion)
        assert (result.applies, result.passed, result.limit, result.detail) == (True, passed, limit, detail)
        assert (result.bound, result.n) == (None, 100)


def test_a_gate_with_bound_compares_that_bound_of_the_interval():
    low, high = clopper_pearson(90, 100)  # .8238 to .9510
    for end, bound in ((low, "lower"), (high, "upper")):
        for limit, passed in ((end - 1e-6, True), (end + 1e-6, False)):
            result = only(Minimum(figure="accuracy", min=limit, bound=bound))
            assert (result.passed, result.bound, result.value) == (passed, pytest.approx(end), 0.9)
            result = only(Maximum(figure="accuracy", max=limit, bound=bound))
            assert (result.passed, result.bound) == (not passed, pytest.approx(end))
    assert only(Minimum(figure="accuracy", min=0.85, bound="lower")).detail == (
        "0.9000, its lower bound 0.8238 is below 0.8500"
    )


@pytest.mark.parametrize(
    ("intervals", "passed"),
    [
        ({"ece_uncalibrated": {"low": 0.01, "high": 0.09, "method": "bca"}}, True),
        ({"ece_uncalibrated": {"low": 0.01, "high": 0.11, "method": "bca"}}, False),
        ({"ece_uncalibrated": {"low": 0.01, "high": math.nan}}, False),
        ({"ece_uncalibrated": {"low": 0.01, "high": math.inf}}, False),
        ({"ece_uncalibrated": {"low": 0.01}}, False),
        ({"ece_uncalibrated": None}, False),
        ({}, False),
        (None, False),
    ],
)
def test_the_bound_of_a_metric_that_only_evaluate_computes_is_the_recorded_one(intervals, passed):
    subject = case.subject(TEST, ece_uncalibrated=0.05, intervals=intervals)
    result = only(Maximum(figure="ece_uncalibrated", max=0.1, bound="upper"), subject)
    assert result.passed is passed
    assert passed or result.bound == 0.11 or "has no interval" in result.detail


def test_a_relative_gate_compares_the_one_sided_bound_of_the_paired_difference():
    # 3 images that only the candidate gets right, 1 that only the champion does: Tango's lower bound.
    bound = tango(3, 1, 100, level=0.9).low
    for limit, passed in ((bound - 1e-6, True), (bound + 1e-6, False)):
        result = only(NonInferior(figure="accuracy", non_inferior_by=-limit))
        assert (result.passed, result.limit, result.bound) == (passed, limit, pytest.approx(bound))
    assert (result.value, result.other, result.against, result.n) == (0.9, 0.88, "4", 100)
    assert result.test_fingerprint == CHAMPION.fingerprint
    better = only(Better(figure="accuracy", better_by=0.0))
    assert (better.passed, better.limit, better.bound) == (False, 0.0, pytest.approx(bound))


def test_a_clearly_better_model_is_proven_to_be_better():
    worse = case.beside(TEST, case.answered([False] * 20 + [True] * 70 + [False] * 10, TARGET))
    bound = tango(20, 0, 100, level=0.9).low
    assert only(Better(figure="accuracy", better_by=bound - 1e-6), champion=worse).passed
    assert not only(Better(figure="accuracy", better_by=bound + 1e-6), champion=worse).passed


def test_the_same_for_a_metric_where_less_is_better():
    target = TARGET * 3  # its interval needs 100 images of each class
    good, bad = (case.answered([False] * wrong + [True] * (len(target) - wrong), target) for wrong in (2, 60))
    winning = case.beside(case.predictions(target, good), bad)
    assert only(Better(figure="brier", better_by=0.0), champion=winning).passed
    losing = case.beside(case.predictions(target, bad), good)
    result = only(NonInferior(figure="brier", non_inferior_by=0.05), champion=losing)
    assert not result.passed
    assert result.bound < -0.1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "metric 'accuracy' is nan, not a finite number"),
        (math.inf, "metric 'accuracy' is inf, not a finite number"),
        (-math.inf, "metric 'accuracy' is -inf, not a finite number"),
        (None, "metric 'accuracy' is None, not a number"),
        ("0.9", "metric 'accuracy' is '0.9', not a number"),
        (True, "metric 'accuracy' is True, not a number"),
        ({"mono": 0.9}, "metric 'accuracy' is {'mono': 0.9}, not a number"),
    ],
)
@pytest.mark.parametrize("gate", [ACCURATE, Maximum(figure="accuracy", max=2)], ids=["min", "max"])
def test_a_metric_that_is_not_a_finite_number_fails(gate, value, reason):
    verdict = evaluate_gates([gate], GateInputs({"accuracy": value}, TEST, 0.5), CHAMPION)
    assert not verdict.passed
    assert (verdict.gates[0].value, verdict.gates[0].detail) == (None, reason)
    assert verdict.reasons == (f"{verdict.gates[0].name}: {reason}",)


def test_a_missing_metric_fails_and_the_known_ones_are_named():
    subject = GateInputs({"accuracy": 0.9, "log_loss": 0.3, "n": 100, "slices": {}}, TEST, 0.5)
    result = only(Minimum(figure="acuracy", min=0), subject)
    assert (result.passed, result.detail) == (False, "metric 'acuracy' is missing; there are: accuracy, log_loss")
    assert finite_number({}, "accuracy") == (None, "metric 'accuracy' is missing; there are: none")


@pytest.mark.parametrize(
    "gate",
    [
        ACCURATE,
        Minimum(figure="accuracy", min=0.0, bound="lower"),
        Minimum(figure="accuracy", min=0.0, bound="upper"),
        NonInferior(figure="accuracy", non_inferior_by=1.0),
    ],
)
@pytest.mark.parametrize(
    ("target", "words"),
    [([1], "1 test image: too few"), ([1] * 40, "image of the negative one"), ([0] * 40, "image of the positive one")],
)
def test_one_image_or_one_class_fails(gate, target, words):
    test = case.predictions(target, case.answered([True] * len(target), target))
    result = only(gate, case.subject(test), case.beside(test, test.probability))
    assert (result.applies, result.passed) == (True, False)
    assert words in result.detail


def test_a_slice_that_is_not_judged_has_its_value_and_number_of_images():
    test = case.predictions(TARGET, case.answered(RIGHT, TARGET), {"type": ["mono"] * 90 + ["poly"] * 10})
    gate = Minimum(figure="accuracy", min=0.8, slice="type")
    left = [each for each in evaluate_gates([gate], case.subject(test), None).gates if not each.applies]
    assert [(each.n, each.value) for each in left] == [(10, 0.0)]


def test_without_gates_every_model_fails():
    for champion in (None, CHAMPION):
        verdict = evaluate_gates([], SUBJECT, champion)
        assert not verdict.passed
        assert "no gates" in verdict.reasons[0]


@pytest.mark.parametrize(
    "alone",
    [
        NonInferior(figure="accuracy", non_inferior_by=1.0),
        Better(figure="accuracy", better_by=0.0),
        Maximum(figure="vanished_test_images", max=0),
        Maximum(figure="model_bytes", max=1e9),
    ],
)
def test_without_a_champion_relative_gates_do_not_apply_and_an_absolute_one_on_the_test_is_required(alone):
    subject = case.subject(TEST, model_bytes=5.0)
    verdict = evaluate_gates([alone], subject, None)
    assert not verdict.passed
    assert "at least one 'min' or 'max' gate on a metric of the test is needed" in verdict.reasons[0]
    both = evaluate_gates([alone, ACCURATE], subject, None)
    assert both.passed
    assert alone.figure == "model_bytes" or "there is no champion yet" in both.gates[0].detail


def test_with_a_champion_that_cannot_be_scored_every_model_fails():
    broken = case.broken(TEST)
    relative = NonInferior(figure="accuracy", non_inferior_by=1.0)
    gates = [ACCURATE, relative, Maximum(figure="vanished_test_images", max=9)]
    verdict = evaluate_gates(gates, case.subject(TEST, vanished_test_images=0.0), broken)
    assert [gate.passed for gate in verdict.gates] == [True, False, False]
    assert verdict.reasons[-1] == "the champion, version 4, could not be scored: its weights are gone; mend it"
    assert not evaluate_gates([ACCURATE], SUBJECT, broken).passed, "even without a relative gate"


def test_all_gates_are_evaluated_whatever_the_results_of_the_others():
    gates = [Minimum(figure="none", min=0), Minimum(figure="accuracy", min=0.95), ACCURATE]
    verdict = evaluate_gates(gates, SUBJECT, None)
    assert [gate.passed for gate in verdict.gates] == [False, False, True]
    assert len(verdict.reasons) == 2
    names = [gate["name"] for gate in verdict.as_json()]
    assert names == ["none at least 0", "accuracy at least 0.95", "accuracy at least 0.8"]


@pytest.mark.parametrize(
    ("value", "passed"), [(0.0, True), (2.0, True), (3.0, False), (math.nan, False), (None, False)]
)
def test_vanished_test_images_are_gated(value, passed):
    gate = Maximum(figure="vanished_test_images", max=2)
    more = {} if value is None else {"vanished_test_images": value}
    result = only(gate, case.subject(TEST, **more))
    assert (result.applies, result.passed) == (True, passed)


def test_a_measured_metric_has_no_bound_and_fails_if_it_is_missing():
    subject = case.subject(TEST, latency_ms=12.5)
    assert only(Maximum(figure="latency_ms", max=20), subject).detail == "12.5 is at most 20"
    refused = only(Maximum(figure="latency_ms", max=20, bound="upper"), subject)
    assert (refused.passed, "has no interval" in refused.detail) == (False, True)
    assert only(Maximum(figure="model_bytes", max=20), subject).passed is False


# The best former champion


def test_the_best_former_champion_has_a_gate_result_too():
    gate = NonInferior(figure="accuracy", non_inferior_by=0.1)
    better = case.beside(TEST, case.answered([True] * 100, TARGET), version="2")
    verdict = evaluate_gates(
        [gate, Better(figure="accuracy", better_by=0.0)], SUBJECT, CHAMPION, {MetricKey("accuracy"): better}
    )
    shown = [(one.name, one.against, one.passed) for one in verdict.gates]
    assert shown == [
        ("accuracy worse than the champion by less than 0.1", "4", True),
        ("accuracy worse than the best champion before by less than 0.1", "2", False),
        ("accuracy better than the champion by more than 0", "4", False),
    ]
    assert evaluate_gates([gate], SUBJECT, CHAMPION, {MetricKey("f1"): better}).passed, "of another metric"
    assert evaluate_gates([gate], SUBJECT, CHAMPION, {MetricKey("accuracy", "line", "a"): better}).passed, "of a slice"


def test_a_best_former_champion_that_cannot_be_scored_fails_the_gate():
    gone = case.broken(TEST, "it has been deleted in MLflow", version="2")
    gate = NonInferior(figure="accuracy", non_inferior_by=1.0)
    verdict = evaluate_gates([gate], SUBJECT, CHAMPION, {MetricKey("accuracy"): gone})
    assert not verdict.passed
    assert verdict.gates[1].detail == "version 2 could not be scored: it has been deleted in MLflow"


def test_a_lower_error_rate_widens_the_bound_of_relative_gates_alone():
    gates = [ACCURATE, NonInferior(figure="accuracy", non_inferior_by=0.03)]
    usual, strict = (evaluate_gates(gates, SUBJECT, CHAMPION, error_rate=rate) for rate in (0.05, 0.002))
    assert usual.gates[0] == strict.gates[0]
    assert (usual.passed, strict.passed) == (True, False)
    assert strict.gates[1].bound == pytest.approx(tango(3, 1, 100, 0.996).low)
    assert "(one-sided 99.8 % bound)" in strict.gates[1].detail


def test_without_error_left_what_must_be_proven_is_refused():
    relative = NonInferior(figure="accuracy", non_inferior_by=0.5)
    verdict = evaluate_gates([ACCURATE, relative], SUBJECT, CHAMPION, {MetricKey("accuracy"): CHAMPION}, error_rate=0.0)
    assert [gate.passed for gate in verdict.gates] == [True, False, False]
    assert all(gate.detail == SPENT for gate in verdict.gates[1:])
    assert evaluate_gates([ACCURATE, relative], SUBJECT, None, error_rate=0.0).passed, (
        "there is nothing to compare with"
    )
    assert evaluate_gates([ACCURATE], SUBJECT, CHAMPION, error_rate=0.0).passed
