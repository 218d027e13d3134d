"""Judging slices: which are judged, what is proven of many at once, and what must not pass."""

import numpy as np
import pytest

from tests.support import judging_case as case
from twofold.metrics.confidence_intervals import tango, wilson
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gates import Minimum, NonInferior


def sliced(sizes, wrong):
    """Slices a, b, c … of so many images of which so many are answered wrongly, half of each being positive."""
    target = [number % 2 for size in sizes for number in range(size)]
    right = [number >= bad for size, bad in zip(sizes, wrong, strict=True) for number in range(size)]
    column = [name for size, name in zip(sizes, "abcdefghij", strict=False) for _ in range(size)]
    return case.predictions(target, case.answered(right, target), {"line": column})


def test_every_slice_is_judged_that_has_thirty_images():
    test = sliced([30, 40, 29], [3, 12, 29])
    found = evaluate_gates([Minimum(figure="accuracy", min=0.75, slice="line")], case.subject(test), None)
    shown = [(one.slice, one.value, one.n, one.applies, one.passed) for one in found.gates]
    assert shown == [
        ({"line": "a"}, 0.9, 30, True, True),
        ({"line": "b"}, 0.7, 40, True, False),
        ({"line": "c"}, 0.0, 29, False, True),
    ]
    assert found.gates[2].detail == "shown and not judged: fewer than 30 images"
    assert found.reasons == ("accuracy (line: b) at least 0.75: 0.7000 is below 0.7500",)
    one = evaluate_gates([Minimum(figure="accuracy", min=0.75, slice={"line": "a"})], case.subject(test), None)
    assert (len(one.gates), one.passed) == (1, True)
    few = evaluate_gates([Minimum(figure="accuracy", min=0.75, slice={"line": "c"})], case.subject(test), None)
    assert not few.passed
    assert "no gate applies" in few.reasons[0]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("type", "there is no slice column 'type'; there are: line"),
        ({"line": "z"}, "no test image has the line 'z'; there are: a"),
    ],
)
def test_a_slice_that_is_not_there_does_not_pass(wanted, words):
    test = sliced([40], [0])
    for gate in (
        Minimum(figure="accuracy", min=0.1, slice=wanted),
        NonInferior(figure="accuracy", non_inferior_by=1.0, slice=wanted),
    ):
        (result,) = evaluate_gates([gate], case.subject(test), case.beside(test, test.probability)).gates
        assert (result.passed, result.detail) == (False, words)


def test_a_slice_without_a_class_has_no_recall_and_does_not_pass():
    target = [0] * 40 + [0, 1] * 20
    test = case.predictions(target, case.answered([True] * 80, target), {"line": ["a"] * 40 + ["b"] * 40})
    verdict = evaluate_gates([Minimum(figure="recall", min=0.5, slice="line")], case.subject(test), None)
    assert [gate.passed for gate in verdict.gates] == [False, True]
    assert "figure 'recall' is missing" in verdict.gates[0].detail


def test_bounds_of_many_slices_hold_together_by_holm():
    # Two slices of 100: 97 and 95 of 100 right. Alone, the lower ends are .9155 and .8883. Together the first is held
    # to the level 1 - .05 / 2; once it is proven, the second is to the plain one.
    test = sliced([100, 100], [3, 5])
    first, second = wilson(97, 100, level=0.975).low, wilson(95, 100).low
    assert first < wilson(97, 100).low
    gate = Minimum(figure="accuracy", min=0.885, bound="lower", slice="line")
    found = evaluate_gates([gate], case.subject(test), None)
    assert [one.bound for one in found.gates] == [pytest.approx(first), pytest.approx(second)]
    assert found.passed
    # With a limit that neither proves at the stricter level, both stay at it.
    both = evaluate_gates(
        [Minimum(figure="accuracy", min=0.914, bound="lower", slice="line")], case.subject(test), None
    )
    assert [one.bound for one in both.gates] == [pytest.approx(wilson(n, 100, level=0.975).low) for n in (97, 95)]
    assert not both.passed
    alone = Minimum(figure="accuracy", min=0.914, bound="lower", slice={"line": "a"})
    assert evaluate_gates([alone], case.subject(test), None).passed


def test_among_many_slices_one_is_refused_only_if_chance_does_not_explain_it():
    # Ten slices of 50 with 45 right, one of them 38: below .9 by a plain 95 % interval (.6269 to .8610 alone), but of
    # ten such slices one may well look so.
    test = sliced([50] * 10, [5] * 9 + [10])
    gate = Minimum(figure="accuracy", min=0.9, bound="upper", slice="line")
    assert wilson(40, 50).high < 0.9
    verdict = evaluate_gates([gate], case.subject(test), None)
    assert verdict.passed
    assert verdict.gates[-1].bound == pytest.approx(wilson(40, 50, level=0.995).high)
    plain = evaluate_gates([Minimum(figure="accuracy", min=0.9, slice="line")], case.subject(test), None)
    assert not plain.passed, "without a bound the figure itself is held to the limit"
    clear = evaluate_gates([gate], case.subject(sliced([50] * 10, [5] * 9 + [25])), None)
    assert [one.passed for one in clear.gates] == [True] * 9 + [False]


def test_slices_are_compared_with_the_champions_by_pairs():
    test = sliced([60, 60, 10], [6, 6, 1])
    worse = test.probability.copy()
    rows = np.flatnonzero(test.slices["line"] == "b")[6:30]
    worse[rows] = 1 - worse[rows]  # the champion is wrong there
    gate = NonInferior(figure="accuracy", non_inferior_by=0.1, slice="line")
    found = evaluate_gates([gate], case.subject(test), case.beside(test, worse))
    assert [(one.slice["line"], one.applies, one.passed, one.n) for one in found.gates] == [
        ("a", True, True, 60),
        ("b", True, True, 60),
        ("c", False, True, 10),
    ]
    assert found.gates[1].bound == pytest.approx(tango(24, 0, 60, level=0.95).low), "proven first, at half the error"
    assert found.gates[0].bound == pytest.approx(tango(0, 0, 60, level=0.95).low)
    turned = evaluate_gates(
        [gate],
        case.subject(case.predictions(test.target, worse, test.slices)),
        case.beside(case.predictions(test.target, worse, test.slices), test.probability),
    )
    assert [one.passed for one in turned.gates] == [True, False, True]
