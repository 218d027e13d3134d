"""Champion and challenger in a real registry: compared on the same images, and what is recorded of it."""

import hashlib
import json
from itertools import count
from types import SimpleNamespace

import pytest

from tests.support import registration_case as case
from tests.support.corner_store import client
from twofold.core.artifacts import read_csv, read_json, write_json
from twofold.metrics.classification import METRICS
from twofold.promotion import best_champion, champion_challenger
from twofold.promotion.candidate import read_candidate
from twofold.promotion.gates import Maximum, Minimum, NonInferior
from twofold.promotion.test_reuse import EarlierTest
from twofold.registry import earlier_candidates
from twofold.serving.sealed_model import sha256
from twofold.tracking import registry_client

# Images by their grey: 30 moved from train to test, 90 from test to validation, and the bad one of 110 is gone.
OTHER = [image for image in case.IMAGES if image[1] not in (30, 110, 90)]
OTHER += [("test", 30, False), ("validation", 90, False)]
ANY = Minimum(figure="accuracy", min=0.0)
LOOSE = [ANY, NonInferior(figure="accuracy", non_inferior_by=0.95)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models on the same data, and one on data with another test split."""
    root = tmp_path_factory.mktemp("candidates")
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        data = case.make_data(root)
        slopes = {"good": 8.0, "backwards": -8.0, "again": -9.0}
        found = {name: case.make_candidate(root / name, data, slope) for name, slope in slopes.items()}
        patch.setattr(case, "IMAGES", OTHER)
        return found | {"moved": case.make_candidate(root / "moved", case.make_data(root / "other"), 9.0)}


@pytest.fixture(autouse=True)
def fast_registration(monkeypatch, mlflow_store):
    case.hurry(monkeypatch)


def gated(gates, since=1):
    return case.PARAMS.model_copy(update={"gates": gates, "reference_since": since})


def image(grey):
    return hashlib.sha256(case.image(grey)).hexdigest()


def test_the_splits_are_sealed_with_the_model(made, tmp_path, mlflow_store):
    case.run(made["good"], tmp_path)
    (path,) = mlflow_store.rglob("artifacts/sealed/splits.json")
    sealed = read_json(path)
    expected = {split: sorted(image(grey) for where, grey, _ in case.IMAGES if where == split) for split in sealed}
    assert sealed == expected
    assert set(sealed) == {"train", "validation", "test"}
    assert read_json(path.with_name("seal.json"))["files"]["splits.json"] == sha256(path)


def test_the_reasons_of_a_refusal_say_that_seven_images_cannot_prove_as_much(made, tmp_path):
    refused = case.run(made["good"], tmp_path, gated([ANY, Minimum(figure="accuracy", min=0.9, bound="lower")]))
    assert "below 0.9000; even a perfect model fails this on 7 test images (4 good, 3 bad): " in refused["reasons"][0]
    assert "would be enough" in refused["gates"][1]["detail"]


def test_images_that_the_champion_learned_from_are_left_out_and_vanished_ones_are_named(made, tmp_path):
    case.run(made["good"], tmp_path)
    gates = [*LOOSE, Maximum(figure="vanished_test_images", max=2)]
    verdict = case.run(made["moved"], tmp_path, gated(gates))
    beside = verdict["comparison"]
    # 10, 50, 150, 125 and 240 are in both tests.
    assert (beside["version"], beside["n"], beside["left_out"]["champion_train"]) == (1, 5, 1)
    lines = sorted(f"{image(grey)}\0{'bad' if grey in (125, 240) else 'good'}\n" for grey in (10, 50, 150, 125, 240))
    assert beside["test_fingerprint"] == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert verdict["gates"][1]["test_fingerprint"] == beside["test_fingerprint"]
    assert verdict["candidate"]["test_fingerprint"] != beside["test_fingerprint"]
    found = {row["sha256"]: row["now"] for row in read_csv(tmp_path / "registration" / "vanished.csv")}
    assert found == {image(110): "no longer in the data", image(90): "in validation"}
    assert (verdict["gates"][2]["value"], verdict["gates"][2]["passed"], verdict["promoted"]) == (2.0, True, True)
    strict = case.run(made["moved"], tmp_path, gated([*LOOSE, Maximum(figure="vanished_test_images", max=1)]))
    assert strict["reasons"][0] == "vanished_test_images at most 1: 2 is above 1"


def test_any_reason_why_an_image_has_vanished_is_one_cell(made, tmp_path, monkeypatch):
    now = ['left out: repeats "a, b", across splits', "=1+1"]
    monkeypatch.setattr(champion_challenger, "locate_images", lambda _, images: dict(zip(images, now, strict=False)))
    case.run(made["good"], tmp_path)
    case.run(made["moved"], tmp_path, gated(LOOSE))
    assert [row["now"] for row in read_csv(tmp_path / "registration" / "vanished.csv")] == now


def test_images_that_the_champion_learned_from_do_not_lower_the_candidates_number(made, tmp_path, monkeypatch):
    case.run(made["good"], tmp_path)
    twelve = EarlierTest(frozenset(image(grey) for grey in (10, 50, 150, 125, 240)), 12, 1)
    monkeypatch.setattr(earlier_candidates, "earlier_candidates", lambda *arguments: ([twelve], None))
    # The sixth test image, 30, was not judged before, but the champion was trained on it.
    looks = case.run(made["moved"], tmp_path, gated(LOOSE))["test_reuse"]
    assert (looks["candidate"], looks["promoted"]) == (13, 1)


def test_the_comparison_is_in_the_verdict_the_table_the_model_card_and_mlflow(made, tmp_path):
    case.run(made["good"], tmp_path)
    verdict = case.run(made["backwards"], tmp_path, gated(LOOSE))
    beside = verdict["comparison"]
    assert (beside["figures"]["accuracy"]["candidate"], beside["figures"]["accuracy"]["champion"]) == (2 / 7, 5 / 7)
    assert beside["figures"]["accuracy"]["low"] < -3 / 7 < beside["figures"]["accuracy"]["high"]
    table = read_csv(tmp_path / "registration" / "disagreements.csv")
    sides = [row["right"] for row in table]
    counts = {"candidate": beside["mcnemar"]["candidate_only"], "champion": beside["mcnemar"]["champion_only"]}
    assert {side: sides.count(side) for side in counts} == counts
    assert counts["champion"] - counts["candidate"] == 3
    assert beside["test_fingerprint"] in (tmp_path / "registration" / "model_card.md").read_text()
    store = client()
    assert store.get_run(verdict["run_id"]).data.metrics["vanished_test_images"] == 0
    logged = [info.path for info in store.list_artifacts(verdict["run_id"], "registration")]
    assert {"registration/disagreements.csv", "registration/vanished.csv"} <= set(logged)


def test_small_losses_do_not_add_up_until_a_person_resets_the_reference(made, tmp_path):
    case.run(made["good"], tmp_path)
    case.run(made["backwards"], tmp_path, gated(LOOSE))
    entries = json.loads(client().get_model_version("corner", "2").tags[best_champion.BEST])
    assert entries == dict.fromkeys(METRICS, "1"), "gated or not"
    # As good as the champion, but worse than the champion before it.
    gates = [ANY, NonInferior(figure="accuracy", non_inferior_by=0.3)]
    refused = case.run(made["again"], tmp_path, gated(gates))
    assert [(gate["against"], gate["passed"]) for gate in refused["gates"]] == [(None, True), ("2", True), ("1", False)]
    assert (refused["promoted"], refused["best_before"]["accuracy"]["version"]) == (False, 1)
    passed = case.run(made["again"], tmp_path, gated(gates, since=2))
    assert (passed["promoted"], passed["best_before"]) == (True, {})
    entries = json.loads(client().get_model_version("corner", "3").tags[best_champion.BEST])
    assert entries == dict.fromkeys(METRICS, "2"), "not proven to be better than the champion"


def test_a_deleted_best_champion_fails_the_gate_and_the_remedy_is_named(made, tmp_path):
    case.run(made["good"], tmp_path)
    case.run(made["backwards"], tmp_path, gated(LOOSE))
    client().delete_model_version("corner", "1")
    verdict = case.run(made["again"], tmp_path, gated(LOOSE))
    assert (verdict["promoted"], verdict["champion"]) == (False, 2)
    assert "set register.reference_since above 1" in verdict["reasons"][0]
    assert case.run(made["again"], tmp_path, gated(LOOSE, since=2))["promoted"] is True


def test_a_champion_sealed_without_its_splits_is_not_compared(made, tmp_path, mlflow_store):
    case.run(made["good"], tmp_path)
    (path,) = mlflow_store.rglob("artifacts/sealed/splits.json")
    seal = path.with_name("seal.json")
    files = {name: digest for name, digest in read_json(seal)["files"].items() if name != "splits.json"}
    path.unlink()
    write_json(seal, read_json(seal) | {"files": files})
    client().set_model_version_tag("corner", "1", registry_client.SEAL, sha256(seal))
    verdict = case.run(made["backwards"], tmp_path, gated(LOOSE))
    assert (verdict["registered"], verdict["champion"]) == (False, 1)
    assert "splits.json: cannot be read" in verdict["reasons"][-1]
    assert "make another version champion with `twofold models rollback" in verdict["reasons"][-1]


def test_size_and_latency_are_measured_once_and_judged(made, tmp_path, monkeypatch):
    gates = [ANY, Maximum(figure="model_bytes", max=10_000_000), Maximum(figure="latency_ms", max=60_000)]
    monkeypatch.setattr(champion_challenger, "time", SimpleNamespace(perf_counter=count(0, 0.25).__next__))
    ready = []
    monkeypatch.setattr(champion_challenger, "prepare_inference", ready.append)
    verdict = case.run(made["good"], tmp_path, gated(gates))
    assert verdict["promoted"] is True
    model = made["good"].model
    sizes = [(model / "model.safetensors"), (model / "meta.json"), made["good"].evaluation / "decision.json"]
    assert verdict["measured"]["model_bytes"] == sum(path.stat().st_size for path in sizes)
    assert verdict["measured"]["latency_ms"] == 250
    assert len(ready) == 1
    monkeypatch.setattr(champion_challenger, "measure_latency", lambda candidate: pytest.fail("measured again"))
    watched = case.watch(monkeypatch)
    again = case.run(made["good"], tmp_path, gated(gates))
    assert (again["nothing_new"], again["measured"], watched.writes) == (True, verdict["measured"], [])
    slow = [ANY, Maximum(figure="latency_ms", max=1e-6)]
    assert case.run(made["good"], tmp_path, gated(slow))["passed"] is False


def test_latency_is_measured_only_for_a_gate(made, tmp_path, monkeypatch):
    monkeypatch.setattr(champion_challenger, "measure_latency", lambda candidate: pytest.fail("measured"))
    assert "latency_ms" not in case.run(made["good"], tmp_path)["measured"]


@pytest.mark.parametrize(("more", "way"), [(0, "prepared"), (1, "decoded")])
def test_a_champion_of_another_preprocessing_gets_the_files_and_not_the_prepared_pixels(made, monkeypatch, more, way):
    monkeypatch.setattr(champion_challenger, "prepare_inference", lambda sealed: None)
    candidate = read_candidate(*made["good"])
    pixels = dict(candidate.prepared.meta["pixels"])
    sealed = SimpleNamespace(
        preprocessing=pixels | {"image_size": pixels["image_size"] + more},
        pixels=lambda data: data,
        probabilities=lambda batches: ("prepared", sum(map(len, batches))),
        score=lambda images: ("decoded", len(list(images))),
    )
    assert champion_challenger.probabilities(sealed, candidate) == (way, 7)
