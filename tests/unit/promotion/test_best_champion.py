"""The best former champion: kept by metric and slice until it is beaten by proof, and reset only by a person."""

import json

import numpy as np
import pytest

from tests.support import judging_case as case
from twofold.core.errors import RegistryError
from twofold.metrics.classification import METRICS
from twofold.promotion import best_champion
from twofold.promotion.best_champion import BEST, as_tags, best_champions_before, inherited_best
from twofold.promotion.gate_slices import MetricKey
from twofold.promotion.gates import Better, Minimum, NonInferior

GATES = [
    NonInferior(figure="accuracy", non_inferior_by=0.1),
    NonInferior(figure="brier", non_inferior_by=0.1),
    Better(figure="f1", better_by=0.0),
    Minimum(figure="recall", min=0.1),
]
ACCURACY, BRIER, RECALL = (MetricKey(metric) for metric in ("accuracy", "brier", "recall"))
TARGET = np.arange(80) % 2
LINES = {"line": ["a"] * 40 + ["b"] * 40}


def right(*counts):
    """Probabilities that are right on so many of the first and of the second 40 images."""
    return case.answered([number % 40 < counts[number // 40] for number in range(80)], TARGET)


TEST = case.predictions(TARGET, right(30, 30), LINES)


def beside(*counts, version="3", test=TEST):
    return case.beside(test, right(*counts), version=version)


def before(entries, gates=GATES, since=1, test=TEST):
    return best_champions_before(as_tags(entries, {}), gates, since, test)


def inherited(champion, best=None, entries=None, since=1, metrics=("accuracy",)):
    return inherited_best(as_tags(entries or {}, {}), since, champion, best or {}, metrics)


def test_a_model_without_a_former_champion_is_the_best():
    assert best_champions_before({}, GATES, 1, TEST) == {}
    assert inherited(None) == {}


@pytest.mark.parametrize(
    ("champion", "entry"),
    [
        ((40, 40), {ACCURACY: "3"}),
        ((30, 30), {ACCURACY: "3"}),
        ((29, 29), {ACCURACY: "3"}),  # a gain of 1 in 40 is luck
        ((10, 10), {}),
    ],
)
def test_the_champion_is_inherited_until_it_is_proven_to_be_worse(champion, entry):
    found = inherited(beside(*champion))
    assert {key: version for key, version in found.items() if key.column is None} == entry


def test_entries_are_made_for_every_metric_whatever_the_gates_are():
    found = inherited(beside(31, 31), metrics=METRICS)
    assert found == {MetricKey(metric, *slice_): "3" for metric in METRICS for slice_ in ((), *slices("a", "b"))}
    better = inherited(beside(10, 10), metrics=METRICS)
    assert {key.metric for key in better} == {"average_precision", "log_loss", "brier"}, "too few images for a proof"
    assert MetricKey("average_precision") not in better, "on the whole test there are enough"


def slices(*values):
    return [("line", value) for value in values]


def test_the_best_of_each_slice_may_be_another_version():
    line_a, line_b = (MetricKey("accuracy", *each) for each in slices("a", "b"))
    entries = {line_a: "1", line_b: "2"}
    best = {line_a: beside(40, 10, version="1"), line_b: beside(10, 10, version="2")}
    # On line a, version 1 is better still. On line b, version 2 is beaten, but the champion is not.
    assert inherited(beside(10, 30), best, entries) == {line_a: "1", line_b: "3"}
    assert inherited(beside(10, 10), best, entries) == {line_a: "1"}, "both are beaten on line b"


def test_entries_stay_that_could_not_be_compared():
    old, small = MetricKey("accuracy", "line", "old"), MetricKey("accuracy", "line", "small")
    entries = {RECALL: "1", ACCURACY: "2", old: "1"}
    assert inherited(beside(0, 0), {}, entries | {small: "2"}) == entries | {small: "2"}, "not scored, gone"
    assert inherited(case.broken(TEST, version="3")) == {ACCURACY: "3"}
    broken = {ACCURACY: case.broken(TEST, version="2")}
    assert inherited(beside(0, 0), broken, {ACCURACY: "2"})[ACCURACY] == "2"
    few = case.predictions(TARGET, right(30, 30), {"line": ["a"] * 60 + ["b"] * 20})
    assert inherited(beside(40, 40, test=few)) == {ACCURACY: "3", MetricKey("accuracy", "line", "a"): "3"}


def test_intervals_are_computed_only_where_the_estimate_is_higher(monkeypatch):
    asked = []
    monkeypatch.setattr(best_champion.PairedComparison, "difference", lambda self, metric, *_: asked.append(metric))
    inherited(beside(40, 40), metrics=METRICS)
    assert asked == []
    inherited(beside(40, 20))
    assert asked == ["accuracy"], "on line b alone"


def test_only_what_a_gate_asks_for_is_compared():
    entries = {MetricKey(metric, *slice_): "1" for metric in METRICS for slice_ in ((), *slices("a", "b", "gone"))}
    assert before(entries) == {ACCURACY: "1", BRIER: "1"}
    column = NonInferior(figure="recall", non_inferior_by=0.1, slice="line")
    assert list(before(entries, [column])) == [MetricKey("recall", *each) for each in slices("a", "b")]
    value = NonInferior(figure="recall", non_inferior_by=0.1, slice={"line": "b"})
    assert list(before(entries, [value])) == [MetricKey("recall", "line", "b")]
    few = case.predictions(TARGET, right(30, 30), {"line": ["a"] * 60 + ["b"] * 20})
    assert before(entries, [value], test=few) == {}, "a slice of 20 images is not judged"


def test_many_small_losses_are_compared_with_the_first_champion():
    """Each version is a little worse than the one before; the first one stays the reference."""
    tags, counts = {}, [39, 38, 37, 36]
    for version, count in enumerate(counts[1:], start=2):
        found = best_champions_before(tags, GATES[:1], 1, TEST)
        assert found == ({} if version == 2 else {ACCURACY: "1"})
        test = case.predictions(TARGET, right(count, count))
        first, last = (
            beside(39, 39, version="1", test=test),
            beside(count + 1, count + 1, version=str(version - 1), test=test),
        )
        tags = as_tags(inherited_best(tags, 1, last, {ACCURACY: first} if version > 2 else {}), tags)
    assert set(json.loads(tags[BEST]).values()) == {"1"}


def test_a_reset_removes_older_versions():
    entries = {ACCURACY: "1", BRIER: "5"}
    assert before(entries, since=2) == {BRIER: "5"}
    assert before(entries, since=6) == {}
    assert inherited(beside(40, 40), {}, entries, since=2)[ACCURACY] == "3"


# The tags


def test_the_tag_is_readable_and_that_of_older_versions_is_read():
    entries = {ACCURACY: "1"} | {MetricKey(metric, "line", "a"): "2" for metric in METRICS}
    entries |= {MetricKey("recall", "line", "b"): "1"}
    tags = as_tags(entries, {})
    assert tags == {BEST: '{"*|line=a": "2", "accuracy": "1", "recall|line=b": "1"}'}
    assert inherited_best(tags, 1, beside(0, 0), {}, ()) == entries
    assert best_champions_before({BEST: '{"accuracy": 1, "f1": "2"}'}, GATES, 1, TEST) == {ACCURACY: "1"}
    assert as_tags({}, {}) == {BEST: "{}"}


@pytest.mark.parametrize("text", ["=", "a=b", "%3D", "a|b", "x&y;z", '"\\', "\n\0", "ü 東", " ", "+"])
def test_columns_and_values_may_be_any_text(text):
    entries = {MetricKey("recall", text, text): "1", MetricKey("recall", "line", ""): "2"}
    assert inherited_best(as_tags(entries, {}), 1, beside(0, 0), {}, ()) == entries


def test_what_is_too_long_for_one_tag_continues_in_others(monkeypatch):
    monkeypatch.setattr(best_champion, "LONGEST_TAG", 100)
    entries = {MetricKey("recall", "line", str(number)): "1" for number in range(20)}
    tags = as_tags(entries, {})
    assert len(tags) > 2
    assert max(map(len, tags.values())) <= 100
    assert inherited_best(tags, 1, beside(0, 0), {}, ()) == entries
    # Judged again with fewer entries, a version keeps none of the old ones.
    again = tags | as_tags({ACCURACY: "4"}, tags)
    assert inherited_best(again, 1, beside(0, 0), {}, ()) == {ACCURACY: "4"}


@pytest.mark.parametrize(
    "tag",
    ["{", "[]", "[" * 50_000, '{"accuracy": 1e400}', '{"accuracy": "best"}', '{"accuracy": null}', "3", '{"f1|": 1}'],
)
def test_a_tag_that_cannot_be_read_is_an_error(tag):
    for name in (BEST, f"{BEST}.1"):
        with pytest.raises(RegistryError, match=r"twofold\.best.*correct it in MLflow"):
            best_champions_before({name: tag}, GATES, 1, TEST)
