"""The best former champion: inherited from version to version, and reset only by a person."""

import numpy as np
import pytest

from tests.support import judging_case as case
from twofold.core.errors import RegistryError
from twofold.promotion.best_champion import as_tag, best_champions_before, inherited_best
from twofold.promotion.gates import Better, Minimum, NonInferior

GATES = [
    NonInferior(figure="accuracy", non_inferior_by=0.1),
    NonInferior(figure="brier", non_inferior_by=0.1),
    Better(figure="f1", better_by=0.0),
    Minimum(figure="recall", min=0.1),
]
TARGET = [1, 1, 0, 0]
TEST = case.predictions(TARGET, [0.9, 0.4, 0.2, 0.1])  # 3 of 4 right


def beside(right, version):
    return case.beside(TEST, case.answered(right, TARGET), version=version)


def test_a_model_without_a_former_champion_is_the_best():
    assert best_champions_before(None, GATES, 1) == {}
    assert inherited_best(None, GATES, 1, None, {}) == {}


def test_a_worse_candidate_names_the_champion_and_a_better_one_nobody():
    better, worse = beside([True] * 4, "3"), beside([False] * 4, "3")
    assert inherited_best(None, GATES, 1, better, {}) == {"accuracy": "3", "brier": "3"}
    assert inherited_best(None, GATES, 1, worse, {}) == {}
    equal = case.beside(TEST, TEST.probability, version="3")
    assert inherited_best(None, GATES, 1, equal, {}) == {}, "as good is good enough"


def test_the_best_of_each_metric_is_inherited_separately():
    tag = as_tag({"accuracy": "1", "brier": "2", "f1": "1", "roc_auc": "1"})
    assert best_champions_before(tag, GATES, 1) == {"accuracy": "1", "brier": "2"}
    champion, first, second = beside([False] * 4, "3"), beside([True] * 4, "1"), beside([False] * 4, "2")
    inherited = inherited_best(tag, GATES, 1, champion, {"accuracy": first, "brier": second})
    # Worse than version 1, but better than version 2; metrics without a gate keep their entry.
    assert inherited == {"accuracy": "1", "f1": "1", "roc_auc": "1"}


def test_many_small_losses_are_compared_with_the_first_champion():
    """Each version is a little worse than the one before; the first one stays the reference."""
    tag = None
    qualities = [0.95, 0.9, 0.85, 0.8]
    for version, quality in enumerate(qualities[1:], start=2):
        test = case.predictions(TARGET, np.where(np.array(TARGET) == 1, quality, 1 - quality))
        before = best_champions_before(tag, GATES[1:2], 1).get("brier", str(version - 1))
        assert before == "1"
        first, last = (
            case.beside(test, np.where(np.array(TARGET) == 1, was, 1 - was), version=name)
            for was, name in ((qualities[0], "1"), (qualities[version - 2], str(version - 1)))
        )
        tag = as_tag(inherited_best(tag, GATES[1:2], 1, last, {"brier": first} if version > 2 else {}))
    assert tag == '{"brier": "1"}'


def test_a_reset_removes_older_versions():
    tag = as_tag({"accuracy": "1", "brier": "5"})
    assert best_champions_before(tag, GATES, 2) == {"brier": "5"}
    assert best_champions_before(tag, GATES, 6) == {}
    assert inherited_best(tag, GATES[3:], 2, beside([True] * 4, "7"), {}) == {"brier": "5"}


@pytest.mark.parametrize(
    "tag", ["{", "[]", "[" * 50_000, '{"accuracy": 1e400}', '{"accuracy": "best"}', '{"accuracy": null}', "3"]
)
def test_a_tag_that_cannot_be_read_is_an_error(tag):
    with pytest.raises(RegistryError, match=r"twofold\.best.*correct it in MLflow"):
        best_champions_before(tag, GATES, 1)


def test_a_champion_that_could_not_be_compared_stays_the_best():
    assert inherited_best(None, GATES[:1], 1, case.broken(TEST, version="3"), {}) == {"accuracy": "3"}
