"""`twofold export`: one file that says what the model says, with all that it takes to use it, for either backbone."""

import csv
import io
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
from twofold.cli import main
from twofold.core.errors import ArtifactError
from twofold.model import classifier as models
from twofold.serving import export
from twofold.serving.export import EXTRA, TOLERANCE, PixelsToProbability
from twofold.serving.sealed_model import open_sealed

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "onnx_predict.py"


# At these temperatures the probabilities of a random network differ enough from image to image.
@pytest.fixture(scope="module", params=[("efficientnet_lite0", 2.0), ("resnet50", 0.1)], ids=lambda one: one[0])
def model(request, tmp_path_factory):
    backbone, temperature = request.param
    return sealed_case.make(tmp_path_factory.mktemp("export"), backbone=backbone, size=64, temperature=temperature)


@pytest.fixture(scope="module")
def pixels(model):
    sealed = open_sealed(model)
    batch = np.stack([np.broadcast_to(one, (64, 64, 3)) for one in map(sealed.pixels, images(256))])
    expected = sealed.score(batch)
    assert expected.std() > 0.01
    return batch, expected


def call(*words):
    with pytest.raises(SystemExit) as caught:
        main.main(["export", *map(str, words)])
    return caught.value.code


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """The folder with both files."""
    folder = tmp_path_factory.mktemp("written") / "deep" / "er"
    assert [call(kind, model, folder) for kind in ("onnx", "torch")] == [0, 0]
    return folder


def test_onnxruntime_says_what_the_model_says(written, pixels):
    batch, expected = pixels
    session = onnxruntime.InferenceSession(written / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 2, 256):  # any number at once
        (found,) = session.run(None, {"pixels": batch[:count]})
        assert found.shape == (count,)
        assert np.abs(found - expected[:count]).max() <= TOLERANCE


def test_torch_says_what_the_model_says(written, pixels):
    batch, expected = pixels
    module = torch.export.load(written / "model.pt2").module()
    with torch.inference_mode():
        for count in (1, 2, 256):
            assert np.abs(module(torch.from_numpy(batch[:count])).numpy() - expected[:count]).max() <= TOLERANCE


def test_the_metadata_is_all_that_it_takes_and_the_same_in_both(written, model):
    sealed = open_sealed(model)
    inside = onnx.load(written / "model.onnx")
    onnx.checker.check_model(inside)
    about = {item.key: item.value for item in inside.metadata_props}
    with zipfile.ZipFile(written / "model.pt2") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(EXTRA))
        assert json.loads(archive.read(name)).items() <= about.items()
    assert float(about["threshold"]) == sealed.threshold
    assert json.loads(about["labels"]) == ["good", "bad"]
    assert (about["positive"], about["seal"], float(about["temperature"])) == (
        "bad",
        sealed.digest,
        sealed.temperature,
    )
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


def test_the_example_needs_nothing_but_the_file(written, model, tmp_path):
    paths = []
    for number, data in enumerate(images(20)):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-I", EXAMPLE, written / "model.onnx", *paths],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    rows = list(csv.reader(io.StringIO(done.stdout), delimiter="\t"))
    sealed = open_sealed(model)
    expected = sealed.score(sealed.pixels(path.read_bytes()) for path in paths)
    assert [row[2] for row in rows] == list(map(str, paths))
    assert [float(row[1]) for row in rows] == pytest.approx(expected.tolist(), abs=TOLERANCE)
    assert [row[0] for row in rows] == ["bad" if one >= sealed.threshold else "good" for one in expected]


def test_a_model_that_is_very_sure_is_calibrated_as_it_is_sealed(tmp_path, monkeypatch):
    build = models.build_classifier

    def loud(backbone, dropout):
        made = build(backbone, dropout)
        with torch.no_grad():
            made.head[3].weight.mul_(-8)
        return made

    monkeypatch.setattr(models, "build_classifier", loud)
    sealed = open_sealed(sealed_case.make(tmp_path, size=64, temperature=4.0))
    batch = np.stack([np.broadcast_to(one, (64, 64, 3)) for one in map(sealed.pixels, images(64))])
    expected = sealed.score(batch)
    # Without the temperature, of float32 these would all be 1.
    assert (expected > 1 / (1 + np.exp(-17 / 4))).any()
    assert ((expected > 0.9) & (expected < 0.9999)).any()
    with torch.inference_mode():
        found = PixelsToProbability(sealed).eval()(torch.from_numpy(batch)).numpy()
    assert np.abs(found - expected).max() <= TOLERANCE


def test_a_bfloat16_model_is_written_in_float32_for_who_asks_for_it(tmp_path, capsys):
    folder = sealed_case.make(tmp_path / "model", size=64, temperature=2.0, precision="bfloat16")
    assert call("torch", folder, tmp_path, "--precision", "float32") == 0
    said = capsys.readouterr().out
    assert "it computes in float32 and the model in bfloat16: on random images, a probability differs from" in said
    sealed = open_sealed(folder)
    batch = np.stack([np.broadcast_to(one, (64, 64, 3)) for one in map(sealed.pixels, images(16))])
    extra = {EXTRA: ""}
    module = torch.export.load(tmp_path / "model.pt2", extra_files=extra).module()
    with torch.inference_mode():
        found = module(torch.from_numpy(batch)).numpy()
    exact = replace(sealed, decision=sealed.decision | {"precision": "float32"})
    assert np.abs(found - exact.score(batch)).max() <= TOLERANCE < np.abs(found - sealed.score(batch)).max()
    about = json.loads(extra[EXTRA])
    assert (about["precision"], about["sealed_precision"]) == ("float32", "bfloat16")


def test_what_does_not_say_the_same_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_answers_torch", lambda path, batch: np.full(len(batch), np.nan))
    with pytest.raises(ArtifactError, match=r"export torch: a probability differs .* by nan, .*; nothing was written"):
        export.export("torch", str(model), tmp_path / "to", name=str, precision=None)
    assert not (tmp_path / "to").exists()
