"""Gates on slices: which slices are judged, Holm's procedure over many of them, and slices that must fail."""

import numpy as np
import pytest

from tests.support import judging_case as case
from twofold.metrics.confidence_intervals import clopper_pearson, tango
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gate_slices import MetricKey
from twofold.promotion.gates import Maximum, Minimum, NonInferior


def sliced(sizes, wrong):
    """Slices a, b, c … of these sizes and numbers of errors; half of the images are positive."""
    target = [number % 2 for size in sizes for number in range(size)]
    right = [number >= bad for size, bad in zip(sizes, wrong, strict=True) for number in range(size)]
    column = [name for size, name in zip(sizes, "abcdefghij", strict=False) for _ in range(size)]
    return case.predictions(target, case.answered(right, target), {"line": column})


def verdict_of(gate, test, champion=None):
    return evaluate_gates([gate], case.subject(test), champion)


def test_a_key_names_its_slice():
    assert MetricKey("recall", "line", "a").slice == {"line": "a"}
    assert MetricKey("recall").slice is None


def test_every_slice_of_thirty_images_is_judged():
    test = sliced([30, 40, 29], [3, 12, 29])
    found = verdict_of(Minimum(figure="accuracy", min=0.75, slice="line"), test)
    shown = [(one.slice, one.value, one.n, one.applies, one.passed) for one in found.gates]
    assert shown == [
        ({"line": "a"}, 0.9, 30, True, True),
        ({"line": "b"}, 0.7, 40, True, False),
        ({"line": "c"}, 0.0, 29, False, True),
    ]
    assert found.gates[2].detail == "shown and not judged: fewer than 30 images"
    assert found.reasons == ("accuracy (line: b) at least 0.75: 0.7000 is below 0.7500",)
    one = verdict_of(Minimum(figure="accuracy", min=0.75, slice={"line": "a"}), test)
    assert (len(one.gates), one.passed) == (1, True)
    few = verdict_of(Minimum(figure="accuracy", min=0.75, slice={"line": "c"}), test)
    assert not few.passed
    assert "no gate applies" in few.reasons[0]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("type", "there is no slice column 'type'; there are: line"),
        ({"line": "z"}, "no test image has the line 'z'; there are: a"),
    ],
)
def test_a_missing_slice_fails(wanted, words):
    test = sliced([40], [0])
    for gate in (
        Minimum(figure="accuracy", min=0.1, slice=wanted),
        NonInferior(figure="accuracy", non_inferior_by=1.0, slice=wanted),
    ):
        (result,) = verdict_of(gate, test, case.beside(test, test.probability)).gates
        assert (result.passed, result.detail) == (False, words)


@pytest.mark.parametrize(
    ("metric", "missing"),
    [
        ("accuracy", ""),
        ("ece", ""),
        *((metric, "positive") for metric in ("precision", "recall", "f1", "average_precision", "roc_auc")),
        *((metric, "negative") for metric in ("specificity", "roc_auc")),
    ],
)
def test_a_gate_does_not_apply_to_a_slice_without_an_image_that_its_metric_is_about(metric, missing):
    only = 1 if missing == "negative" else 0
    target = [only] * 40 + [0, 1] * 40
    test = case.predictions(target, case.answered([True] * 120, target), {"line": ["a"] * 40 + ["b"] * 80})
    gate = Minimum(figure=metric, min=0.0, slice="line")
    relative = NonInferior(figure=metric, non_inferior_by=1.0, slice="line")
    verdict = evaluate_gates([gate, relative], case.subject(test), case.beside(test, test.probability))
    assert verdict.passed
    found = {(one.name.split(")")[0][-1], one.applies) for one in verdict.gates}
    assert found == {("a", not missing), ("b", True)}
    if missing:
        left = next(one for one in verdict.gates if not one.applies)
        assert left.detail == f"does not apply: no image of the {missing} class"
        alone = verdict_of(Minimum(figure=metric, min=0.0, slice={"line": "a"}), test)
        assert "no gate applies" in alone.reasons[0]
        whole = verdict_of(Minimum(figure=metric, min=0.0), test.take(np.arange(40)))
        assert not whole.passed, "the whole test is always judged"


def test_a_slice_in_which_nothing_is_called_positive_has_no_precision_and_fails():
    target = [0, 1] * 40
    called = [0.1] * 40 + [0.9] * 40
    test = case.predictions(target, called, {"line": ["a"] * 40 + ["b"] * 40})
    verdict = verdict_of(Minimum(figure="precision", min=0.1, slice="line"), test)
    assert [(one.applies, one.passed) for one in verdict.gates] == [(True, False), (True, True)]
    assert "metric 'precision' is missing" in verdict.gates[0].detail


def test_each_slice_is_proven_at_the_full_level_because_all_must_be():
    test = sliced([100, 100], [3, 5])
    found = verdict_of(Minimum(figure="accuracy", min=0.885, bound="lower", slice="line"), test)
    assert [one.bound for one in found.gates] == [pytest.approx(clopper_pearson(hits, 100).low) for hits in (97, 95)]
    assert found.passed
    both = verdict_of(Minimum(figure="accuracy", min=0.914, bound="lower", slice="line"), test)
    assert [one.passed for one in both.gates] == [True, False]
    assert not both.passed
    loss = Maximum(figure="ece", max=0.1, bound="upper", slice={"line": "b"})
    together = verdict_of(Maximum(figure="ece", max=0.1, bound="upper", slice="line"), test)
    assert together.gates[1].bound == verdict_of(loss, test).gates[0].bound


def test_one_of_many_slices_fails_only_if_chance_does_not_explain_it():
    # Ten slices of 50: in nine 45 are right, in one 40, whose plain 95 % interval is below .9; but among ten slices one
    # such interval is likely by chance.
    test = sliced([50] * 10, [5] * 9 + [10])
    gate = Minimum(figure="accuracy", min=0.9, bound="upper", slice="line")
    assert clopper_pearson(40, 50).high < 0.9
    verdict = verdict_of(gate, test)
    assert verdict.passed
    assert verdict.gates[-1].bound == pytest.approx(clopper_pearson(40, 50, level=0.995).high)
    plain = verdict_of(Minimum(figure="accuracy", min=0.9, slice="line"), test)
    assert not plain.passed, "without a bound the metric itself is compared with the limit"
    clear = verdict_of(gate, sliced([50] * 10, [5] * 9 + [25]))
    assert [one.passed for one in clear.gates] == [True] * 9 + [False]


def test_slices_are_compared_with_the_champion_by_paired_differences():
    test = sliced([60, 60, 10], [6, 6, 1])
    worse = test.probability.copy()
    rows = np.flatnonzero(test.slices["line"] == "b")[6:30]
    worse[rows] = 1 - worse[rows]  # the champion is wrong there
    gate = NonInferior(figure="accuracy", non_inferior_by=0.1, slice="line")
    found = verdict_of(gate, test, case.beside(test, worse))
    assert [(one.slice["line"], one.applies, one.passed, one.n) for one in found.gates] == [
        ("a", True, True, 60),
        ("b", True, True, 60),
        ("c", False, True, 10),
    ]
    assert found.gates[1].bound == pytest.approx(tango(24, 0, 60, level=0.90).low), "at the full level"
    assert found.gates[0].bound == pytest.approx(tango(0, 0, 60, level=0.90).low)
    swapped = case.predictions(test.target, worse, test.slices)
    found = verdict_of(gate, swapped, case.beside(swapped, test.probability))
    assert [one.passed for one in found.gates] == [True, False, True]


def test_a_slice_is_compared_with_its_own_best_champion_too():
    test = sliced([60, 60], [6, 6])
    half = case.beside(test, case.answered([False] * 120, test.target), version="2")
    better = case.beside(test, case.answered([True] * 120, test.target), version="1")
    gate = NonInferior(figure="accuracy", non_inferior_by=0.05, slice="line")
    best = {MetricKey("accuracy", "line", "b"): better, MetricKey("accuracy", "line", "a"): half}
    found = evaluate_gates([gate], case.subject(test), case.beside(test, test.probability), best)
    assert [(one.slice["line"], one.against, one.passed) for one in found.gates] == [
        ("a", "4", True),
        ("b", "4", True),
        ("b", "1", False),
        ("a", "2", True),
    ]
    assert found.gates[2].name == "accuracy (line: b) worse than the best champion before by less than 0.05"
    alone = NonInferior(figure="accuracy", non_inferior_by=0.05, slice={"line": "a"})
    assert evaluate_gates([alone], case.subject(test), case.beside(test, test.probability), best).passed
    gone = {MetricKey("accuracy", "line", "c"): better}
    assert evaluate_gates([gate], case.subject(test), case.beside(test, test.probability), gone).passed
    broken = case.broken(test, "it is gone", version="1")
    both = dict.fromkeys(best, broken)
    refused = evaluate_gates([gate], case.subject(test), case.beside(test, test.probability), both)
    assert refused.reasons == (
        "accuracy worse than the best champion before by less than 0.05: version 1 could not be scored: it is gone",
    )
