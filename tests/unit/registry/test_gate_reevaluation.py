"""Gates evaluated again from logged predictions: on the images of both models, by the recorded gates, or not at all."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.judging_case import answered, predictions
from twofold.core.artifacts import write_json
from twofold.core.errors import RegistryError
from twofold.metrics.classification import metrics_summary
from twofold.promotion.gate_slices import MetricKey
from twofold.registry import gate_reevaluation
from twofold.registry.gate_reevaluation import reevaluate_gates
from twofold.registry.recorded_evaluation import RecordedEvaluation, compare_on_common_images, compare_with
from twofold.tracking import registry_client

TARGET = [number % 2 for number in range(40)]
NAMES = [f"{number:03}" for number in range(40)]
GATES = [{"figure": "accuracy", "min": 0.5}, {"figure": "accuracy", "non_inferior_by": 0.3}]


@pytest.fixture
def make(tmp_path):
    """Make the recorded evaluation of a version that is right on some images and learned from others."""

    def evaluation(
        number,
        right,
        *,
        names=NAMES,
        target=TARGET,
        learned=(),
        gates=GATES,
        best=None,
        metrics=None,
        since=1,
        champions=None,
    ):
        test = predictions(target, answered(right, target)).take(np.arange(len(target)))
        test.sha256[:] = names
        folder = tmp_path / str(number)
        folder.mkdir()
        write_json(folder / "splits.json", {"train": sorted(learned), "validation": [], "test": sorted(names)})
        for size, name in ((100, "model.safetensors"), (20, "meta.json"), (3, "decision.json")):
            (folder / name).write_text("x" * size)
        tags = {registry_client.CONDITIONS: json.dumps({"gates": gates, "reference_since": since})}
        tags |= {} if best is None else {"twofold.best": json.dumps(best)}
        return RecordedEvaluation(
            version=SimpleNamespace(version=str(number), tags=tags),
            run=SimpleNamespace(data=SimpleNamespace(metrics=metrics or {})),
            test=test,
            decision={"threshold": 0.5},
            champions=champions or {},
            digests={},
            metrics=metrics_summary(test.target, test.probability, 0.5),
            sealed=folder,
        )

    return evaluation


def first(count):
    """Right on the first `count` of 40 images."""
    return [number < count for number in range(40)]


def evaluate(candidate, champion, tmp_path):
    return reevaluate_gates(None, "corner", candidate, champion, tmp_path)


def test_without_a_champion_the_absolute_gates_decide(make, tmp_path):
    found = evaluate(make(1, first(30)), None, tmp_path)
    assert (found.version, found.verdict.passed, found.champion, found.inherited_best) == (1, True, None, {})
    assert [(gate.value, gate.applies) for gate in found.verdict.gates] == [(0.75, True), (0.75, False)]
    assert not evaluate(make(2, first(19)), None, tmp_path).verdict.passed


def test_with_a_champion_the_paired_difference_decides(make, tmp_path):
    champion = make(4, first(32))
    found = evaluate(make(5, first(32)), champion, tmp_path)
    relative = found.verdict.gates[1]
    # Tango's one-sided bound for no disagreement among 40: z^2 / (n + z^2), z = 1.6449.
    assert relative.bound == pytest.approx(-2.7055 / (40 + 2.7055), abs=1e-4)
    assert (relative.value, relative.other, relative.against, relative.passed) == (0.8, 0.8, "4", True)
    assert (found.champion.version, found.champion.left_out["champion_train"]) == ("4", 0)
    worse = evaluate(make(6, first(22)), champion, tmp_path).verdict
    assert (worse.passed, worse.gates[1].value - worse.gates[1].other) == (False, pytest.approx(-0.25))


def test_the_error_rate_is_the_one_recorded_with_the_version(make, tmp_path):
    candidate = make(5, first(32))
    conditions = json.loads(candidate.version.tags[registry_client.CONDITIONS])
    looks = {"candidate": 37, "promoted": 3, "uncounted": 0, "allowed": 50, "error_rate": 0.002}
    candidate.version.tags[registry_client.CONDITIONS] = json.dumps(conditions | {"test_reuse": looks})
    found = evaluate(candidate, make(4, first(32)), tmp_path)
    # z = 2.8782
    assert found.verdict.gates[1].bound == pytest.approx(-8.2838 / (40 + 8.2838), abs=1e-4)
    assert found.looks.words == "candidate 37 (limit 50) on these test images, 3 promoted before"


def test_images_that_either_model_learned_from_are_left_out_and_need_no_prediction(make, tmp_path):
    # The champion has no predictions for images 30 to 39: it learned from them.
    champion = make(4, first(30)[:30], names=NAMES[:30], target=TARGET[:30], learned=NAMES[30:])
    candidate = make(5, first(30), learned=NAMES[:2])
    found = evaluate(candidate, champion, tmp_path).champion
    assert len(found.test) == 28
    assert found.left_out == {
        "candidate_train": 2,
        "candidate_validation": 0,
        "champion_train": 10,
        "champion_validation": 0,
    }


def test_an_image_unknown_to_the_champion_needs_register(make, tmp_path):
    champion = make(4, first(30)[:38], names=NAMES[:38], target=TARGET[:38], learned=NAMES[38:39])
    with pytest.raises(RegistryError, match=r"1 were not in the test of version 4 .*\(039\); .*run register again"):
        evaluate(make(5, first(30)), champion, tmp_path)


def test_an_image_whose_label_has_changed_needs_register(make, tmp_path):
    turned = [1 - TARGET[0], *TARGET[1:]]
    match = r"0 were not in the test .* 1 had another label \(000\); .*, run register again"
    with pytest.raises(RegistryError, match=match):
        evaluate(make(5, first(30), target=turned), make(4, first(30)), tmp_path)


def test_vanished_test_images_of_the_champion_are_counted_and_gated(make, tmp_path):
    gates = [*GATES, {"figure": "vanished_test_images", "max": 1}]
    champion = make(4, first(30))
    for number, kept, passed in ((5, 39, True), (6, 38, False)):
        few = make(number, first(30)[:kept], names=NAMES[:kept], target=TARGET[:kept], gates=gates)
        last = evaluate(few, champion, tmp_path).verdict.gates[-1]
        assert (last.value, last.passed) == (40 - kept, passed)


def test_values_measured_by_register_are_compared_with_their_limits(make, tmp_path):
    gates = [GATES[0], {"figure": "model_bytes", "max": 123}, {"figure": "latency_ms", "max": 5}]
    fast = evaluate(make(1, first(30), gates=gates, metrics={"latency_ms": 4.0}), None, tmp_path)
    assert (fast.verdict.passed, fast.verdict.gates[1].value) == (True, 123.0)
    assert not evaluate(make(2, first(30), gates=gates, metrics={"latency_ms": 6.0}), None, tmp_path).verdict.passed
    unknown = evaluate(make(3, first(30), gates=gates), None, tmp_path).verdict
    assert (unknown.passed, "metric 'latency_ms' is missing" in unknown.reasons[0]) == (False, True)


def test_the_best_champion_before_guards_against_slow_decline(make, tmp_path, monkeypatch):
    best = make(2, first(40))
    monkeypatch.setattr(registry_client, "version", lambda store, name, number: best.version if number == "2" else None)
    monkeypatch.setattr(gate_reevaluation, "fetch_evaluation", lambda store, version, folder: best)
    monkeypatch.setattr(gate_reevaluation, "require_sound", lambda evaluation: evaluation)
    champion = make(4, first(33), best={"accuracy": "2"})
    candidate = make(5, first(28))
    found = evaluate(candidate, champion, tmp_path)
    assert [(gate.against, gate.passed) for gate in found.verdict.gates] == [(None, True), ("4", True), ("2", False)]
    assert found.inherited_best[MetricKey("accuracy")] == "2"
    # A reset: champions before version 3 no longer count.
    found = evaluate(make(6, first(28), since=3), champion, tmp_path)
    assert [(gate.against, gate.passed) for gate in found.verdict.gates] == [(None, True), ("4", True)]
    assert found.inherited_best[MetricKey("accuracy")] == "4"
    # The best champion was tested on fewer images: the error names the remedy.
    more = make(8, [True] * 41, names=[*NAMES, "040"], target=[*TARGET, 0])
    new = make(9, [True] * 41, names=[*NAMES, "040"], target=[*TARGET, 0], best={"accuracy": "2"})
    with pytest.raises(
        RegistryError, match=r"version 2: .*run register again.*, or set register\.reference_since above 2"
    ):
        evaluate(more, new, tmp_path)
    # Unless register has logged its predictions.
    logged = make(10, [True] * 42, **MORE, champions={"2": answers([True] * 42)})
    found = evaluate(logged, make(11, [True] * 42, **MORE, best={"accuracy": "2"}), tmp_path)
    assert [(gate.against, gate.passed) for gate in found.verdict.gates] == [(None, True), ("11", True), ("2", True)]
    # A deleted best champion cannot be compared with: refused, with the remedy.
    champion = make(7, first(33), best={"accuracy": "1"})
    refused = evaluate(candidate, champion, tmp_path).verdict
    assert "set register.reference_since above 1, then run register again" in "".join(refused.reasons)


def test_a_champion_without_the_lists_of_its_images_is_not_compared(make, tmp_path):
    champion = make(4, first(30))
    (champion.sealed / "splits.json").unlink()
    verdict = evaluate(make(5, first(30)), champion, tmp_path).verdict
    assert not verdict.passed
    assert "splits.json: cannot be read" in verdict.reasons[-1]


MORE = {"names": [*NAMES, "040", "041"], "target": [*TARGET, 0, 1]}


def answers(right, target=MORE["target"]):
    """The predictions of a champion on a test of two more images, as register logs them."""
    test = predictions(target, answered(right, target))
    test.sha256[:] = MORE["names"]
    return test


def test_after_the_test_has_grown_the_predictions_that_register_logged_count(make, tmp_path):
    champion = make(4, first(30))
    candidate = make(5, [*first(32), True, True], **MORE, champions={"4": answers([*first(30), True, False])})
    found = evaluate(candidate, champion, tmp_path)
    assert (found.verdict.passed, len(found.champion.test)) == (True, 42)
    assert (found.champion.own["accuracy"], found.champion.metrics["accuracy"]) == (34 / 42, 31 / 42)
    # An image whose label has changed since is judged by its present label.
    turned = [0, 0, *MORE["target"][2:]]
    logged = answers([True, False, *first(30)[2:], True, False], turned)
    relabelled = make(6, [*first(32), True, True], names=MORE["names"], target=turned, champions={"4": logged})
    assert evaluate(relabelled, champion, tmp_path).champion.metrics["accuracy"] == 30 / 42


def test_a_champion_that_was_not_yet_champion_then_counts_by_its_own_test(make, tmp_path):
    logged = {"4": answers([*first(30), True, False])}
    candidate = make(5, [*first(32), True, True], **MORE, champions=logged)
    champion = make(6, [*first(30), True, True], **MORE)
    assert evaluate(candidate, champion, tmp_path).champion.metrics["accuracy"] == 32 / 42
    match = (
        r"version 5 with version 7: of the 42 test images of version 5, 2 were not in the test of version 7 and 0 .*"
    )
    match += r"\(040, 041\); with the data and the model of version 5, run register again \(`twofold run register "
    with pytest.raises(RegistryError, match=match):
        evaluate(candidate, make(7, first(30)), tmp_path)


@pytest.mark.parametrize(("precision", "noise", "wrong"), [("float32", 5e-5, 2e-4), ("bfloat16", 0.01, 0.03)])
def test_predictions_of_a_champion_that_contradict_each_other_are_refused(make, tmp_path, precision, noise, wrong):
    champion = make(4, first(30))
    champion.decision["precision"] = precision
    logged = answers([*first(30), True, False])
    candidate = make(5, [*first(32), True, True], **MORE, champions={"4": logged})
    logged.probability[7] += noise
    assert evaluate(candidate, champion, tmp_path).verdict.passed
    logged.probability[7] += wrong - noise
    match = "records of versions 4 and 5 contradict each other.* of image 007 by version 4 is .* in its own test, and "
    with pytest.raises(RegistryError, match=match):
        evaluate(candidate, champion, tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"gates": [{"figure": "f1"}], "reference_since": 1}', "null"])
def test_missing_conditions_need_register(make, tmp_path, text):
    candidate = make(5, first(30))
    candidate.version.tags[registry_client.CONDITIONS] = text
    with pytest.raises(RegistryError, match=r"version 5: .*run register again"):
        evaluate(candidate, None, tmp_path)


def test_two_versions_are_compared_on_their_common_test_images(make):
    one = make(1, first(40)[:30], names=NAMES[:30], target=TARGET[:30])
    other = make(2, first(15)[10:], names=NAMES[10:], target=TARGET[10:])
    found = compare_on_common_images(one, other)
    assert found.test.sha256.tolist() == NAMES[10:30]
    assert (found.own["accuracy"], found.metrics["accuracy"]) == (1.0, 5 / 20)
    assert compare_on_common_images(one, make(3, first(40)[30:], names=NAMES[30:], target=TARGET[30:])) is None
    turned = [1 - value for value in TARGET[10:]]
    with pytest.raises(RegistryError, match="20 had another label"):
        compare_on_common_images(one, make(4, first(15)[10:], names=NAMES[10:], target=turned))
    assert compare_with(one, make(5, first(30))).metrics["accuracy"] == 1.0
