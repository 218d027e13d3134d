"""Gates that even a perfect model fails: found from the test images alone, with the number of images that they need."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.support import judging_case as case
from tests.support.makers import UNAUDITED, make_folder, make_prepared, make_raw
from tests.test_contract import ROOT
from twofold.data.prepared import PreparedDataset
from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import metric_interval
from twofold.orchestration.params_file import check_all, load_yaml
from twofold.promotion.attainable_gates import explain_refusal, find_in_prepared, find_unattainable_gates
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gates import Better, Maximum, Minimum, NonInferior
from twofold.steps.preprocess import Preprocess

TARGET = [0] * 19 + [1] * 19
TEST = case.predictions(TARGET, [0.3] * 38)
AREA = Minimum(figure="roc_auc", min=0.95, bound="lower")
ACCURATE = Minimum(figure="accuracy", min=0.95, bound="lower")


def fits(gate, target, **slices):
    return not find_unattainable_gates([gate], case.predictions(target, [0.3] * len(target), slices))


def test_a_perfect_model_on_38_images_does_not_prove_an_area_and_the_images_that_do_are_named():
    (found,) = find_unattainable_gates([AREA], TEST)
    assert found.gate == "roc_auc, lower bound, at least 0.95"
    assert found.seen.startswith("even a perfect model fails this on 38 test images (19 good, 19 bad): 1.0000, its low")
    each = int(re.match(r"\d+ test images \((\d+) good, \1 bad\) would be enough: add images,", found.remedy)[1])
    assert fits(AREA, [0] * each + [1] * each)
    assert not fits(AREA, [0] * int(each * 0.97) + [1] * int(each * 0.97))


def test_the_bound_is_that_of_the_method_and_the_ratio_of_the_classes_is_kept():
    target = [0] * 30 + [1] * 10
    (found,) = find_unattainable_gates([ACCURATE], case.predictions(target, [0.3] * 40))
    bound = metric_interval("accuracy", target, ModelOutputs(target, 0.5)).low
    assert f"its lower bound {bound:.4f} is below 0.9500" in found.seen
    n, good, bad = map(int, re.match(r"(\d+) test images \((\d+) good, (\d+) bad\) would be", found.remedy).groups())
    assert (n, good) == (good + bad, pytest.approx(3 * bad, abs=3))
    assert fits(ACCURATE, [0] * good + [1] * bad)


@pytest.mark.parametrize(
    "gate",
    [
        Minimum(figure="accuracy", min=0.95),
        Minimum(figure="accuracy", min=0.95, bound="upper"),
        Maximum(figure="accuracy", max=0.2, bound="upper"),
        Minimum(figure="brier", min=0.2, bound="lower"),
        Minimum(figure="accuracy", min=0.9, bound="lower"),
        Maximum(figure="ece", max=0.3, bound="upper"),
        NonInferior(figure="roc_auc", non_inferior_by=0.3),
        Better(figure="accuracy", better_by=0.5),
        Maximum(figure="model_bytes", max=1),
        Minimum(figure="n", min=1000, bound="lower"),
    ],
)
def test_gates_that_a_perfect_model_passes_or_that_say_nothing_about_it_are_left_out(gate):
    assert find_unattainable_gates([gate], TEST) == []


@pytest.mark.parametrize(
    "gate", [Maximum(figure="brier", max=0.3, bound="upper"), NonInferior(figure="log_loss", non_inferior_by=0.01)]
)
def test_a_metric_whose_method_needs_more_images_of_a_class_names_them(gate):
    (found,) = find_unattainable_gates([gate], TEST)
    assert f"19 images of the negative class are too few for an interval of {gate.figure}: it needs 100" in found.seen
    n, each = map(int, re.match(r"(\d+) test images \((\d+) good, \2 bad\) would be enough", found.remedy).groups())
    assert (n, each) == (2 * each, pytest.approx(101, abs=1.5))


def test_a_margin_that_not_even_two_perfect_models_are_proven_to_keep():
    (found,) = find_unattainable_gates([NonInferior(figure="accuracy", non_inferior_by=0.05)], TEST)
    assert "even a perfect model beside a perfect champion fails this on 38 test images" in found.seen
    each = int(re.match(r"\d+ test images \((\d+) good, \1 bad\) would be enough", found.remedy)[1])
    margin = NonInferior(figure="accuracy", non_inferior_by=0.05)
    assert fits(margin, [0] * each + [1] * each)
    assert not fits(margin, [0] * (each - 2) + [1] * (each - 2))


def test_no_number_of_images_makes_up_for_a_limit_of_1_or_for_a_champion_too_good_to_be_surpassed():
    (found,) = find_unattainable_gates([Minimum(figure="accuracy", min=1, bound="lower")], TEST)
    assert found.remedy == "relax the limit: 10000 test images would not be enough"
    target = [0] * 100 + [1] * 100
    champion = case.beside(case.predictions(target, [0.3] * 200), case.answered([False, False, *[True] * 198], target))
    gates = [Better(figure="accuracy", better_by=limit) for limit in (0.02, 0.0)]
    hopeless, small = find_unattainable_gates(gates, champion.test, champion)
    assert "even a perfect model beside that champion fails this on 200 test images" in hopeless.seen
    assert hopeless.remedy.startswith("relax the limit")
    assert "would be enough" in small.remedy


def test_every_slice_that_is_judged_counts_and_names_its_own_images():
    kinds = ["a"] * 10 + ["b"] * 60 + ["c"] * 130
    test = case.predictions([0, 1] * 100, [0.3] * 200, {"kind": kinds})
    (found,) = find_unattainable_gates([Minimum(figure="accuracy", min=0.95, bound="lower", slice="kind")], test)
    assert (found.gate.split(",")[0], "on 60 test images (30 good, 30 bad)" in found.seen) == (
        "accuracy (kind: b)",
        True,
    )
    assert 60 < int(re.match(r"(\d+) test images .* would be enough", found.remedy)[1]) < 130
    (found,) = find_unattainable_gates([Minimum(figure="accuracy", min=0.5, slice="typ", bound="lower")], test)
    assert "there is no slice column 'typ'" in found.seen
    assert found.remedy == "correct the gate, or add such images"


def test_a_larger_test_has_more_groups_and_not_larger_ones(monkeypatch):
    seen = []

    def watched(gates, inputs, champion, error_rate):
        groups, counts = np.unique(inputs.test.unit.astype(str), return_counts=True)
        seen.append((len(inputs.test), len(groups), int(counts.max())))
        return evaluate_gates(gates, inputs, champion)

    monkeypatch.setattr("twofold.promotion.attainable_gates.evaluate_gates", watched)
    pairs = np.array([f"{number // 2}" for number in range(38)], object)
    assert find_unattainable_gates([AREA], replace(TEST, unit=pairs))
    assert all(largest == 2 for _, _, largest in seen)
    assert all(groups >= n / 2 for n, groups, _ in seen)


def test_a_refusal_says_where_a_perfect_model_would_have_failed_too():
    test = case.predictions(TARGET, case.answered([True] * 38, TARGET))
    gates = [AREA, Minimum(figure="accuracy", min=0.99), Minimum(figure="f1", min=1.1), ACCURATE]
    verdict = evaluate_gates(gates, case.subject(test), None)
    told = explain_refusal(verdict, gates, test, None, 0.05)
    assert [each.passed for each in told.gates] == [False, True, False, False]
    for before, after, hopeless in zip(verdict.gates, told.gates, (True, False, False, True), strict=True):
        assert after.detail.startswith(before.detail)
        assert ("even a perfect model fails this on 38 test images" in after.detail) is hopeless
    assert told.reasons == tuple(f"{each.name}: {each.detail}" for each in told.gates if not each.passed)
    passing = evaluate_gates(gates[1:2], case.subject(test), None)
    assert explain_refusal(passing, gates, test, None, 0.05) is passing
    assert explain_refusal(verdict, gates, test, None, 0.0) is verdict, "the budget is spent, whatever the model"


def test_a_champion_that_could_not_be_scored_is_no_matter_of_images():
    gates = [NonInferior(figure="accuracy", non_inferior_by=0.05), AREA]
    assert [each.gate for each in find_unattainable_gates(gates, TEST, case.broken(TEST))] == [
        "roc_auc, lower bound, at least 0.95"
    ]


def test_two_folders_of_80_images_and_a_gate_that_their_test_cannot_prove(tmp_path):
    raw = make_raw(make_folder(tmp_path / "images", per_class=80, size=16), tmp_path / "raw")
    prepared = PreparedDataset.open(make_prepared(raw, tmp_path / "data", test_fraction=0.2))
    sections = check_all(load_yaml(ROOT / "tests" / "params.yaml"))
    sections["register"] = sections["register"].model_copy(update={"gates": [AREA]})
    made = {"preprocess": Preprocess(**prepared.meta["params"], audit=UNAUDITED)}
    (found,) = find_in_prepared(prepared.directory, sections | made)
    bad, good = (int((prepared.target[prepared.rows("test")] == value).sum()) for value in (1, 0))
    assert f"fails this on {good + bad} test images ({good} good, {bad} bad): 1.0000, its lower bound" in found.seen
    assert str(found) == f"{found.gate}: {found.seen}; {found.remedy}"
    assert find_in_prepared(prepared.directory, sections) == []  # it was made with other parameters
    assert find_in_prepared(tmp_path / "none", sections | made) == []
