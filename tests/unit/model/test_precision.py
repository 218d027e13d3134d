"""A model's precision is chosen once and applies wherever the model answers."""

import copy
import csv
import io
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.support import registration_case as case
from tests.support import sealed_case
from tests.support.evaluation_case import PARAMS, known_backbone, run_evaluate
from tests.support.registered_case import images
from twofold.cli import main
from twofold.core.artifacts import file_sha256, read_json, write_json
from twofold.core.errors import ArtifactError, ParameterError
from twofold.core.params import check_section
from twofold.evaluation import gradcam, predictions
from twofold.metrics.platt_scaling import recorded_scaling
from twofold.model import device, inference
from twofold.model.classifier import build_classifier
from twofold.model.fused_classifier import FusedClassifier
from twofold.promotion import champion_challenger
from twofold.promotion.candidate import read_candidate
from twofold.serving.pyfunc_model import ServedModel
from twofold.serving.sealed_model import TOLERANCES, open_sealed
from twofold.steps.evaluate import Evaluate


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same weights sealed in either precision, and without one, as by older versions."""
    root = tmp_path_factory.mktemp("sealed")
    kinds = {"float32": "float32", "bfloat16": "bfloat16", "before": None}
    return {name: sealed_case.make(root / name, precision=precision) for name, precision in kinds.items()}


@pytest.fixture(scope="module")
def sealed(folders):
    return {name: open_sealed(folder) for name, folder in folders.items()}


def score(model, files):
    return model.score(model.pixels(data) for data in files)


def directly(model, precision):
    """The probabilities of `images(16)` from `inference.probabilities`."""
    pixels = [model.pixels(data) for data in images(16)]
    batch = np.stack([np.broadcast_to(one, (*one.shape[:2], 3)) for one in pixels])
    about = model.architecture
    return inference.probabilities(
        model.classifier, [batch], mean=about["mean"], std=about["std"], views=4, precision=precision
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_sealed_model_answers_in_its_precision(sealed, precision):
    found = score(sealed[precision], images(16))
    assert np.array_equal(found, directly(sealed[precision], precision))
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    assert np.abs(found - directly(sealed[precision], other)).max() > 1e-4


def test_a_model_sealed_without_a_precision_answers_in_float32(sealed):
    assert "precision" not in sealed["before"].decision
    assert sealed["before"].precision == "float32"
    assert np.array_equal(score(sealed["before"], images(16)), score(sealed["float32"], images(16)))


def reseal(folder, place, decision=(), **seal):
    """A copy of a sealed model with other values in its decision and its seal."""
    copied = shutil.copytree(folder, place / "sealed")
    write_json(copied / "decision.json", read_json(copied / "decision.json") | dict(decision))
    about = read_json(copied / "seal.json") | seal
    about["files"]["decision.json"] = file_sha256(copied / "decision.json")
    write_json(copied / "seal.json", about)
    return copied


def test_seals_of_all_schema_versions_are_read_and_no_others(folders, tmp_path):
    assert read_json(folders["bfloat16"] / "seal.json")["schema_version"] == 3
    assert open_sealed(reseal(folders["before"], tmp_path / "1", schema_version=1)).precision == "float32"
    with pytest.raises(ArtifactError, match="not the seal of a model of schema version 1 or 2 or 3"):
        open_sealed(reseal(folders["before"], tmp_path / "4", schema_version=4))


@pytest.mark.parametrize("value", ["float16", 16, None, ["bfloat16"]])
def test_an_unknown_precision_is_an_error(folders, tmp_path, value):
    folder = reseal(folders["before"], tmp_path, {"precision": value})
    with pytest.raises(ArtifactError, match=r"decision\.json: precision: found .*, allowed are float32, bfloat16"):
        open_sealed(folder)


def test_the_served_model_answers_in_the_sealed_precision_in_every_batch(folders, sealed):
    served = ServedModel()
    served.load_context(SimpleNamespace(artifacts={"sealed": str(folders["bfloat16"])}))
    files = images(20)
    expected = score(sealed["bfloat16"], files)
    together = served.predict(None, pd.DataFrame({"image": files}))["probability"].to_numpy()
    assert np.array_equal(together, expected)
    alone = [served.predict(None, pd.DataFrame({"image": [one]}))["probability"][0] for one in files]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-6)


def test_predict_answers_in_the_sealed_precision(folders, sealed, tmp_path, capsys):
    for number, data in enumerate(images(4)):
        (tmp_path / f"{number}.png").write_bytes(data)
    with pytest.raises(SystemExit) as caught:
        main.main(["predict", str(folders["bfloat16"]), str(tmp_path), "--csv"])
    assert caught.value.code == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["probability"]) for row in rows] == score(sealed["bfloat16"], images(4)).tolist()


def test_a_champion_answers_in_its_own_precision(sealed, tmp_path, monkeypatch):
    case.know_corner(monkeypatch)
    candidate = read_candidate(*case.make_candidate(tmp_path, case.make_data(tmp_path)))
    assert candidate.decision["precision"] == "float32"
    answered = {name: champion_challenger.probabilities(sealed[name], candidate) for name in ("float32", "bfloat16")}
    pixels = candidate.prepared.pixels(candidate.rows)
    colour = np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels
    for name, found in answered.items():
        model = sealed[name]
        about = {"mean": model.architecture["mean"], "std": model.architecture["std"], "views": 4, "precision": name}
        assert np.abs(found - inference.probabilities(model.classifier, [colour], **about)).max() < 1e-6
    assert np.abs(answered["float32"] - answered["bfloat16"]).max() > 1e-5


def test_evaluate_computes_everything_in_its_precision(tmp_path, monkeypatch):
    known_backbone(monkeypatch)
    made, asked = [], []
    init, predict = FusedClassifier.__init__, inference.predict_views
    monkeypatch.setattr(FusedClassifier, "__init__", lambda *a: made.append(a[2]) or init(*a))
    monkeypatch.setattr(inference, "predict_views", lambda *a, **k: asked.append(a[0].precision) or predict(*a, **k))
    evaluation, metrics = run_evaluate(tmp_path, precision="bfloat16")
    assert made == ["bfloat16"]
    # Two splits and six perturbations.
    assert asked == ["bfloat16"] * 8
    decision = read_json(evaluation / "decision.json")
    assert decision["precision"] == "bfloat16"
    assert read_json(evaluation / "meta.json")["params"]["precision"] == "bfloat16"
    assert "16-bit floating point (bfloat16)" in (evaluation / "evaluation.html").read_text()
    # Pixels and the feature are rounded to eight bits: 150 / 255 to 0.58984375, 125 / 255 to 0.490234375.
    found = predictions.read(evaluation / predictions.PREDICTIONS).of("test")
    for grey, rounded in ((150, 0.58984375), (125, 0.490234375)):
        expected = recorded_scaling(decision).calibrate(1 / (1 + np.exp(4 - 8 * rounded)))
        (at,) = np.flatnonzero(np.isclose(found.probability, expected, atol=1e-6))
        assert found.target[at] == (grey == 125)
    assert metrics["n"] == 7


def test_a_gradcam_map_is_computed_in_the_precision():
    torch.manual_seed(0)
    classifier = build_classifier("efficientnet_lite0", 0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    scale = {"mean": [0.5] * 3, "std": [0.5] * 3}
    plain = gradcam.gradcam_maps(copy.deepcopy(classifier), "global_pool", pixels, [1, 0], **scale)
    fused = [FusedClassifier(classifier, precision) for precision in ("float32", "bfloat16")]
    exact, rounded = (gradcam.gradcam_maps(each, "global_pool", pixels, [1, 0], **scale) for each in fused)
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(exact, plain, atol=1e-3)
    assert 1e-3 < np.abs(rounded - plain).max() < 0.3


@pytest.fixture
def emulated(monkeypatch):
    """A device without bfloat16, about which nothing has been logged yet."""
    monkeypatch.setattr(device, "has_bf16", lambda where: False)
    device.warn_if_emulated.cache_clear()
    yield
    device.warn_if_emulated.cache_clear()


def test_emulation_is_logged_once(emulated, monkeypatch):
    logged = []
    monkeypatch.setattr(device, "say", logged.append)
    for _ in range(3):
        device.warn_if_emulated("bfloat16", torch.device("cpu"))
        device.warn_if_emulated("float32", torch.device("cpu"))
    (line,) = logged
    assert line.startswith("bfloat16: this cpu has no instructions for it; the model still computes in bfloat16")
    device.warn_if_emulated.cache_clear()
    monkeypatch.setattr(device, "has_bf16", lambda where: True)
    device.warn_if_emulated("bfloat16", torch.device("cpu"))
    assert len(logged) == 1


def test_evaluate_logs_emulation(emulated, tmp_path, monkeypatch, capsys):
    known_backbone(monkeypatch)
    run_evaluate(tmp_path, precision="bfloat16", robustness=0)
    assert capsys.readouterr().err.count("bfloat16: this cpu has no instructions for it") == 1


def test_the_tolerance_between_machines_is_larger_for_bfloat16(sealed):
    tolerances = {name: model.tolerance for name, model in sealed.items()}
    assert tolerances == {"float32": 1e-4, "bfloat16": TOLERANCES["bfloat16"], "before": 1e-4}
    assert 1e-3 < TOLERANCES["bfloat16"] < 0.05


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_exporting_a_bfloat16_model_needs_an_explicit_precision(folders, tmp_path, kind, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["export", kind, str(folders["bfloat16"]), str(tmp_path / "to")])
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert "computes in bfloat16, a file in float32, with other probabilities" in said
    assert "add --precision float32 to export it anyway, or set evaluate.precision: float32" in said
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("precision", ["float16", "bf16", 16, None, True])
def test_evaluate_accepts_two_precisions_and_no_other(precision):
    values = PARAMS.model_dump()
    with pytest.raises(ParameterError, match=r"evaluate\.precision: found .*float32.*bfloat16"):
        check_section(Evaluate, "evaluate", values | {"precision": precision})
    del values["precision"]
    with pytest.raises(ParameterError, match=r"evaluate\.precision: missing"):
        check_section(Evaluate, "evaluate", values)
