"""`twofold export`: one file with the model's probabilities and complete metadata, for both backbones."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tests.support import sealed_case
from tests.support.registered_case import images
from tests.unit.serving.test_export import status
from twofold.core.errors import ArtifactError
from twofold.model import classifier as models
from twofold.serving import export
from twofold.serving.export import EXTRA, TOLERANCE, PixelsToProbability
from twofold.serving.sealed_model import open_sealed

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "onnx_predict.py"


# With these slopes the probabilities of a random network differ enough from image to image.
@pytest.fixture(scope="module", params=[("efficientnet_lite0", 0.5), ("resnet50", 10.0)], ids=lambda one: one[0])
def model(request, tmp_path_factory):
    backbone, slope = request.param
    return sealed_case.make(tmp_path_factory.mktemp("export"), backbone=backbone, size=64, scaling=(slope, 0.3))


def pixels_of(sealed, count):
    """A batch (count, 64, 64, 3) of `images`."""
    return np.stack([np.broadcast_to(image, (64, 64, 3)) for image in map(sealed.pixels, images(count))])


def run_example(file, images):
    """Run the example on its own and return its rows."""
    command = [sys.executable, "-I", EXAMPLE, file, *images]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=file.parent)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def pixels(model):
    sealed = open_sealed(model)
    batch = pixels_of(sealed, 256)
    expected = sealed.score(batch)
    assert expected.std() > 0.01
    return batch, expected


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """The folder with both files."""
    folder = tmp_path_factory.mktemp("written") / "deep" / "er"
    assert [status(kind, model, folder) for kind in ("onnx", "torch")] == [0, 0]
    return folder


def test_the_onnx_file_gives_the_models_probabilities(written, pixels):
    batch, expected = pixels
    session = onnxruntime.InferenceSession(written / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 2, 256):  # any number at once
        (found,) = session.run(None, {"pixels": batch[:count]})
        assert found.shape == (count,)
        assert np.abs(found - expected[:count]).max() <= TOLERANCE


def test_the_torch_file_gives_the_models_probabilities(written, pixels):
    batch, expected = pixels
    module = torch.export.load(written / "model.pt2").module()
    with torch.inference_mode():
        for count in (1, 2, 256):
            assert np.abs(module(torch.from_numpy(batch[:count])).numpy() - expected[:count]).max() <= TOLERANCE


def test_the_metadata_is_complete_and_the_same_in_both(written, model):
    sealed = open_sealed(model)
    inside = onnx.load(written / "model.onnx")
    onnx.checker.check_model(inside)
    about = {item.key: item.value for item in inside.metadata_props}
    with zipfile.ZipFile(written / "model.pt2") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(EXTRA))
        assert json.loads(archive.read(name)).items() <= about.items()
    assert float(about["threshold"]) == sealed.threshold
    assert json.loads(about["labels"]) == ["good", "bad"]
    assert (about["positive"], about["seal"]) == ("bad", sealed.digest)
    assert (float(about["platt_slope"]), float(about["platt_intercept"])) == sealed.scaling
    assert json.loads(about["preprocessing"]) == {
        "image_size": 64,
        "fit": "squash",
        "filter": "bilinear",
        "padding": 0,
        "exif_orientation": "applied",
        "grey_to_colour": "repeat",
        "jpeg_ample": 0,
        "limits": sealed_case.LIMITS,
    }
    assert sorted(path.name for path in written.iterdir()) == ["model.onnx", "model.pt2"]


def test_the_example_needs_only_the_file(written, model, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for path, data in zip(paths, images(20), strict=True):
        path.write_bytes(data)
    rows = run_example(written / "model.onnx", paths)
    sealed = open_sealed(model)
    expected = sealed.score(sealed.pixels(path.read_bytes()) for path in paths)
    assert [row[2] for row in rows] == list(map(str, paths))
    assert [float(row[1]) for row in rows] == pytest.approx(expected.tolist(), abs=TOLERANCE)
    assert [row[0] for row in rows] == ["bad" if one >= sealed.threshold else "good" for one in expected]


def test_a_very_confident_model_is_calibrated_like_the_sealed_one(tmp_path, monkeypatch):
    build = models.build_classifier

    def build_confident(*arguments):
        made = build(*arguments)
        with torch.no_grad():
            made.head[3].weight.mul_(-8)
        return made

    monkeypatch.setattr(models, "build_classifier", build_confident)
    sealed = open_sealed(sealed_case.make(tmp_path, size=64, scaling=(0.25, 0.0)))
    batch = pixels_of(sealed, 64)
    expected = sealed.score(batch)
    # Without calibration these float32 probabilities would all be 1.
    assert (expected > 1 / (1 + np.exp(-17 / 4))).any()
    assert ((expected > 0.9) & (expected < 0.9999)).any()
    with torch.inference_mode():
        found = PixelsToProbability(sealed).eval()(torch.from_numpy(batch)).numpy()
    assert np.abs(found - expected).max() <= TOLERANCE


def test_a_bfloat16_model_is_written_in_float32_on_request(tmp_path, capsys):
    folder = sealed_case.make(tmp_path / "model", size=64, scaling=(0.5, 0.0), precision="bfloat16")
    assert status("torch", folder, tmp_path, "--precision", "float32") == 0
    out = capsys.readouterr().out
    assert "it computes in float32 and the model in bfloat16: on random images, a probability differs from" in out
    sealed = open_sealed(folder)
    batch = pixels_of(sealed, 16)
    extra = {EXTRA: ""}
    module = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    with torch.inference_mode():
        found = module(torch.from_numpy(batch)).numpy()
    exact = replace(sealed, decision=sealed.decision | {"precision": "float32"})
    assert np.abs(found - exact.score(batch)).max() <= TOLERANCE < np.abs(found - sealed.score(batch)).max()
    about = json.loads(extra[EXTRA])
    assert (about["precision"], about["sealed_precision"]) == ("float32", "bfloat16")


def test_a_file_with_other_probabilities_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_run_torch", lambda path, batch: np.full(len(batch), np.nan))
    with pytest.raises(ArtifactError, match=r"export torch: a probability differs .* by nan, .*; nothing was written"):
        export.export("torch", str(model), tmp_path / "to", name=str, precision=None)
    assert not (tmp_path / "to").exists()
