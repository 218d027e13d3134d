"""Sealing and serving: altered files are refused, nothing is pickled, and each model runs its own code."""

import base64
import json
import math
import shutil
import sys

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations

from tests.support import sealed_case
from tests.support.makers import encode, pixels, scaled
from twofold.core.artifacts import read_json, write_json
from twofold.core.code_digest import ROOT, closure
from twofold.core.errors import ArtifactError
from twofold.data.decoding import Limits, decode
from twofold.model import classifier as models
from twofold.model.inference import probabilities
from twofold.serving import sealed_model_writer
from twofold.serving.mlflow_model import pinned_requirements, write_mlflow_model
from twofold.serving.sealed_model import FILES, open_sealed
from twofold.serving.sealed_model_writer import write_sealed_model

LIMITS = sealed_case.LIMITS
PIXELS = {"image_size": 32, "fit": "squash", "limits": LIMITS}
COLUMNS = ["label", "probability", "positive", "threshold", "version"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images):
    """A model folder with random weights, and a decision that calls two of the four images bad."""
    root = tmp_path_factory.mktemp("trained")
    sealed_case.save_model(root / "model")
    decision = {"labels": ["good", "bad"], "positive": "bad", "threshold": 0.5, "views": 2}
    draft = open_sealed(sealed_case.seal(root, decision, PIXELS, root))
    median = float(np.median(draft.score(draft.pixels(data) for data in images)))
    write_json(root / "decision.json", decision | {"threshold": median})
    return root


def write_sealed(trained, to, decision=None, pixels=PIXELS):
    return write_sealed_model(trained / "model", decision or trained / "decision.json", pixels, to)


@pytest.fixture(scope="module")
def seal(trained, tmp_path_factory):
    return write_sealed(trained, tmp_path_factory.mktemp("seal"))


@pytest.fixture(scope="module")
def packed(seal, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "model"
    write_mlflow_model(seal, folder, model_id="m-1", run_id="r-1")
    return folder


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    grey = [encode(pixels(rng, 48, bad)) for bad in (True, False, True)]
    return [*grey, encode(pixels(rng, 40, True, channels=3), "JPEG")]


@pytest.fixture(scope="module")
def served(packed):
    """The model as MLflow loads it, pickles forbidden."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        return mlflow.pyfunc.load_model(str(packed))


def copied(seal, place):
    return shutil.copytree(seal.directory / "sealed", place / "sealed")


def test_a_sealed_model_gives_the_probabilities_of_the_model(trained, seal, images):
    classifier, about = models.load_classifier(trained / "model")
    arrays = [scaled(decode(data, Limits(**LIMITS)).pixels, 32, "squash") for data in images]
    colour = np.stack([np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array for array in arrays])
    expected = probabilities(classifier, [colour], mean=about["mean"], std=about["std"], views=2, precision="float32")
    sealed = open_sealed(seal.directory / "sealed", seal.digest)
    found = sealed.score(sealed.pixels(data) for data in images)
    assert len(set(found)) == 4
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("sealed", "factor"),
    [
        ({"platt_slope": 2.0, "platt_intercept": math.log(3)}, 3),
        ({"temperature": 0.5}, 1),  # of a model that was sealed before there was an intercept
    ],
)
def test_a_sealed_calibration_applies_to_the_probabilities(trained, seal, images, tmp_path, sealed, factor):
    # A slope of 2 squares the odds, the intercept multiplies them; without either, probabilities are the network's.
    decision = read_json(trained / "decision.json")
    plain = open_sealed(seal.directory / "sealed")
    assert plain.scaling == (1.0, 0.0)
    write_json(tmp_path / "decision.json", decision | sealed)
    sharp = open_sealed(write_sealed(trained, tmp_path, tmp_path / "decision.json").directory / "sealed")
    before = plain.score(plain.pixels(data) for data in images)
    after = sharp.score(sharp.pixels(data) for data in images)
    np.testing.assert_allclose(after / (1 - after), factor * (before / (1 - before)) ** 2, rtol=1e-4)


def test_sealing_twice_gives_the_same_seal(trained, seal, tmp_path):
    again = write_sealed(trained, tmp_path)
    assert (again.digest, again.package) == (seal.digest, seal.package)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_in_any_file_is_refused(seal, tmp_path, name):
    sealed_case.flip_byte(copied(seal, tmp_path) / name)
    with pytest.raises(ArtifactError, match=f"{name}: altered.*do not use this model"):
        open_sealed(tmp_path / "sealed")


@pytest.mark.parametrize("name", [*FILES, "seal.json"])
def test_a_missing_file_is_refused(seal, tmp_path, name):
    (copied(seal, tmp_path) / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: .*incomplete"):
        open_sealed(tmp_path / "sealed")


def test_a_link_in_the_place_of_a_file_is_refused(seal, tmp_path):
    path = copied(seal, tmp_path) / "model.safetensors"
    path.unlink()
    path.symlink_to(seal.directory / "sealed" / "model.safetensors")
    with pytest.raises(ArtifactError, match="incomplete"):
        open_sealed(tmp_path / "sealed")


def test_a_rewritten_seal_is_refused_by_the_expected_digest(seal, tmp_path):
    folder = copied(seal, tmp_path)
    sealed_case.change_json(folder, "decision.json", {"threshold": 0.99})
    assert open_sealed(folder).threshold == 0.99
    with pytest.raises(ArtifactError, match=r"seal\.json: altered"):
        open_sealed(folder, seal.digest)


@pytest.mark.parametrize(
    "content", [b"not json", b"[]", b"{}", json.dumps({"schema_version": 1, "files": {"a": "b"}}).encode()]
)
def test_other_content_of_a_seal_is_refused(seal, tmp_path, content):
    (copied(seal, tmp_path) / "seal.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"seal\.json"):
        open_sealed(tmp_path / "sealed")


def test_a_sealed_model_with_missing_keys_is_refused(trained, tmp_path):
    made = write_sealed(trained, tmp_path, pixels={"image_size": 32})
    with pytest.raises(ArtifactError, match="lacks fit, limits"):
        open_sealed(made.directory / "sealed")


def test_the_sealed_code_is_complete_and_does_not_import_twofold(seal):
    names = {path.relative_to(ROOT / "twofold").as_posix() for path in closure(sealed_model_writer.SERVED)}
    modules = "core/errors core/redaction data/decoding data/file_validation data/resizing metrics/platt_scaling "
    modules += "model/classifier model/fused_classifier model/inference serving/pyfunc_model serving/sealed_model"
    assert names == {f"{module}.py" for module in modules.split()}
    home = seal.directory / "code" / seal.package
    packages = {f"{wing}/__init__.py" for wing in ("core", "data", "metrics", "model", "serving")} | {"__init__.py"}
    assert {path.relative_to(home).as_posix() for path in home.rglob("*.py")} == names | packages
    assert not [path for path in home.rglob("*.py") if "from twofold." in path.read_text()]


def test_the_mlflow_model_has_no_pickle_no_local_path_and_no_large_files_but_its_weights(packed, seal):
    files = [path for path in packed.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pyc", ".joblib")]
    assert sum(path.stat().st_size for path in files if path.name != "model.safetensors") < 100_000
    text = (packed / "MLmodel").read_text()
    assert str(seal.directory) not in text
    assert "loader_module: mlflow.pyfunc.loaders.code_model" in text
    assert "model_id: m-1" in text
    assert "run_id: r-1" in text


def test_requirements_are_pinned_to_the_installed_versions(packed):
    lines = (packed / "requirements.txt").read_text().split()
    assert lines == pinned_requirements()
    names = {line.split("==")[0] for line in lines if "==" in line}
    assert {"mlflow", "torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "pandas"} == names
    assert f"torch=={torch.__version__.partition('+')[0]}" in lines


def test_the_served_model_accepts_raw_bytes_and_base64_text(served, seal, images):
    sealed = open_sealed(seal.directory / "sealed")
    expected = sealed.score(sealed.pixels(data) for data in images)
    for column in (images, [base64.b64encode(data).decode() for data in images], [bytearray(d) for d in images]):
        found = served.predict(pd.DataFrame({"image": column}))
        np.testing.assert_allclose(found["probability"], expected, atol=1e-7)
        assert found["positive"].tolist() == (expected >= sealed.threshold).tolist()
        assert found["label"].tolist() == ["bad" if flag else "good" for flag in found["positive"]]
        assert sorted(found["label"]) == ["bad", "bad", "good", "good"]


@pytest.mark.parametrize("orient", ["dataframe_split", "dataframe_records"])
def test_the_served_model_answers_json_requests_as_mlflows_server_parses_them(served, images, orient):
    texts = [base64.b64encode(data).decode() for data in images]
    records = [{"image": text} for text in texts]
    body = {"columns": ["image"], "data": [[text] for text in texts]} if orient.endswith("split") else records
    answer = invocations(json.dumps({orient: body}), "application/json", served, served.metadata.get_input_schema())
    assert answer.status == 200
    predictions = json.loads(answer.response)["predictions"]
    assert [list(row) for row in predictions] == [COLUMNS] * 4
    direct = served.predict(pd.DataFrame({"image": images}))["probability"]
    assert [row["probability"] for row in predictions] == pytest.approx(direct.tolist(), abs=1e-9)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (pd.DataFrame({"image": [b"GIF89a not an image"]}), "row 0: not an image of an accepted format"),
        (pd.DataFrame({"image": ["%%%"]}), "row 0: not base64 text"),
        (pd.DataFrame({"image": [b""]}), "row 0: the file is empty"),
        (pd.DataFrame({"image": [encode(np.zeros((4, 4), np.uint8))]}), "row 0: 4x4"),
    ],
)
def test_a_file_that_is_not_an_image_is_a_client_error(served, frame, reason):
    with pytest.raises(MlflowException, match=reason) as caught:
        served.predict(frame)
    assert caught.value.get_http_status_code() == 400


def test_a_served_model_with_altered_weights_does_not_load(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "model")
    sealed_case.flip_byte(folder / "artifacts" / "sealed" / "model.safetensors")
    with pytest.raises(Exception, match=r"model\.safetensors: altered"):
        mlflow.pyfunc.load_model(str(folder))


def test_two_versions_of_the_code_run_in_one_process(trained, served, images, tmp_path, monkeypatch):
    """The second version inverts its probabilities; the first one, loaded before, must not change, nor the reverse."""
    changed = tmp_path / "source"
    shutil.copytree(ROOT / "twofold", changed / "twofold", ignore=shutil.ignore_patterns("__pycache__"))
    path = changed / "twofold" / "model" / "inference.py"
    path.write_text(path.read_text().replace("softmax(dim=1)[:, 1]", "softmax(dim=1)[:, 0]"))
    monkeypatch.setattr(sealed_model_writer, "ROOT", changed)
    monkeypatch.setattr(sealed_model_writer, "closure", lambda module: closure(module, changed))
    write_mlflow_model(write_sealed(trained, tmp_path / "seal"), tmp_path / "packed")
    newer = mlflow.pyfunc.load_model(str(tmp_path / "packed"))
    frame = pd.DataFrame({"image": images})
    one, two = served.predict(frame)["probability"], newer.predict(frame)["probability"]
    np.testing.assert_allclose(one + two, 1.0, atol=1e-6)
    assert len({name.partition(".")[0] for name in sys.modules if name.startswith("twofold_sealed_")}) == 2
