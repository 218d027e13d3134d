"""The best champion before: handed on from version to version, and forgotten only where a person says so."""

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


def test_a_model_without_a_champion_before_it_is_the_best():
    assert best_champions_before(None, GATES, 1) == {}
    assert inherited_best(None, GATES, 1, None, {}) == {}


def test_a_worse_candidate_names_the_champion_as_the_better_one_a_better_one_itself():
    better, worse = beside([True] * 4, "3"), beside([False] * 4, "3")
    assert inherited_best(None, GATES, 1, better, {}) == {"accuracy": "3", "brier": "3"}
    assert inherited_best(None, GATES, 1, worse, {}) == {}
    equal = case.beside(TEST, TEST.probability, version="3")
    assert inherited_best(None, GATES, 1, equal, {}) == {}, "as good is good enough"


def test_in_each_figure_the_best_is_handed_on_for_itself():
    tag = as_tag({"accuracy": "1", "brier": "2", "f1": "1", "roc_auc": "1"})
    assert best_champions_before(tag, GATES, 1) == {"accuracy": "1", "brier": "2"}
    champion, first, second = beside([False] * 4, "3"), beside([True] * 4, "1"), beside([False] * 4, "2")
    handed = inherited_best(tag, GATES, 1, champion, {"accuracy": first, "brier": second})
    # Not as good as version 1, but better than version 2; what no gate asks for stays as it was.
    assert handed == {"accuracy": "1", "f1": "1", "roc_auc": "1"}


def test_small_steps_down_do_not_add_up():
    """Each a little worse than the one before: the first one stays the reference."""
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


def test_a_reset_forgets_the_versions_before_it():
    tag = as_tag({"accuracy": "1", "brier": "5"})
    assert best_champions_before(tag, GATES, 2) == {"brier": "5"}
    assert best_champions_before(tag, GATES, 6) == {}
    assert inherited_best(tag, GATES[3:], 2, beside([True] * 4, "7"), {}) == {"brier": "5"}


@pytest.mark.parametrize(
    "tag", ["{", "[]", "[" * 50_000, '{"accuracy": 1e400}', '{"accuracy": "best"}', '{"accuracy": null}', "3"]
)
def test_a_tag_that_cannot_be_read_stops_it(tag):
    with pytest.raises(RegistryError, match=r"twofold\.best.*set it right"):
        best_champions_before(tag, GATES, 1)


def test_a_champion_that_could_not_be_compared_stays_the_best():
    assert inherited_best(None, GATES[:1], 1, case.broken(TEST, version="3"), {}) == {"accuracy": "3"}
