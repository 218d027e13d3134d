"""The sealed model in a fresh process: it predicts as evaluate did, with pickles forbidden and without Twofold."""

import shutil
import warnings

import cloudpickle
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest

from tests.support import registered_case, sealed_case
from tests.support import registration_case as case
from twofold.core.artifacts import read_json, write_json
from twofold.core.errors import RegistryError
from twofold.metrics.decision_threshold import DECISION
from twofold.promotion.candidate import read_candidate, sample_files
from twofold.serving.mlflow_model import write_mlflow_model
from twofold.serving.sealed_model import TOLERANCES
from twofold.serving.sealed_model_writer import write_sealed_model
from twofold.serving.smoke_test import run_smoke_test

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The artifacts that register reads, of a random EfficientNet-Lite0."""
    with pytest.MonkeyPatch.context() as patch:
        return registered_case.make(tmp_path_factory.mktemp("made"), patch)


@pytest.fixture(scope="module")
def packed(made, tmp_path_factory):
    return make_packed(made, tmp_path_factory.mktemp("packed"), made.evaluation / DECISION)


def make_packed(made, folder, decision, **pixels):
    preprocessing = read_json(made.data / "meta.json")["pixels"] | pixels
    write_mlflow_model(write_sealed_model(made.model, decision, preprocessing, folder / "seal"), folder / "model")
    return folder / "model"


def smoke_test(made, packed):
    candidate = read_candidate(*made)
    images, expected = sample_files(candidate, 16)
    options = {name: candidate.decision[name] for name in ("threshold", "precision")}
    return run_smoke_test(packed, images, expected, labels=candidate.labels, **options)


def test_a_registered_model_is_promoted_and_served(made, mlflow_store, tmp_path, monkeypatch):
    verdict = case.run(made, tmp_path, registered_case.ANY)
    assert verdict["promoted"] is True
    assert verdict["rehearsal"]["largest_difference"] < 1e-6
    assert verdict["rehearsal"]["tolerance"] == 1e-4
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    served = mlflow.pyfunc.load_model("models:/corner@champion")
    candidate = read_candidate(*made)
    images, expected = sample_files(candidate, 16)
    answers = served.predict(pd.DataFrame({"image": images}))
    np.testing.assert_allclose(answers["probability"], expected, atol=1e-6)
    assert answers["positive"].tolist() == (expected >= candidate.decision["threshold"]).tolist()


def test_a_bfloat16_model_is_tested_promoted_and_served_in_bfloat16(mlflow_store, tmp_path, monkeypatch):
    made = registered_case.make(tmp_path / "made", monkeypatch, precision="bfloat16")
    verdict = case.run(made, tmp_path, registered_case.ANY)
    assert verdict["promoted"] is True
    # On one machine the probabilities are the same; the wider tolerance is for other machines.
    assert verdict["rehearsal"]["largest_difference"] < 1e-6
    assert verdict["rehearsal"]["tolerance"] == TOLERANCES["bfloat16"]
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    served = mlflow.pyfunc.load_model("models:/corner@champion")
    images, expected = sample_files(read_candidate(*made), 16)
    np.testing.assert_allclose(served.predict(pd.DataFrame({"image": images}))["probability"], expected, atol=1e-6)
    card = (tmp_path / "registration" / "model_card.md").read_text()
    assert "test-time augmentation: 4 view(s); computed in bfloat16." in card
    # In float32 the same model gives other probabilities, so the served model computes in bfloat16.
    write_json(tmp_path / DECISION, read_json(made.evaluation / DECISION) | {"precision": "float32"})
    other = mlflow.pyfunc.load_model(str(make_packed(made, tmp_path / "other", tmp_path / DECISION)))
    assert np.abs(other.predict(pd.DataFrame({"image": images}))["probability"] - expected).max() > 1e-4


def test_other_pixels_are_detected(made, tmp_path):
    with pytest.raises(RegistryError, match="does not predict what evaluate did"):
        smoke_test(made, make_packed(made, tmp_path, made.evaluation / DECISION, image_size=40))


def test_swapped_labels_are_detected(made, tmp_path):
    decision = read_json(made.evaluation / DECISION)
    write_json(tmp_path / DECISION, decision | {"labels": decision["labels"][::-1]})
    with pytest.raises(RegistryError, match="the label sealed with it is wrong"):
        smoke_test(made, make_packed(made, tmp_path, tmp_path / DECISION))


def test_altered_weights_do_not_load(made, packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "model")
    sealed_case.flip_byte(folder / "artifacts" / "sealed" / "model.safetensors")
    with pytest.raises(RegistryError, match=r"model\.safetensors: altered"):
        smoke_test(made, folder)


def test_a_model_that_needs_an_installed_twofold_does_not_load(made, packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "model")
    entry = folder / "served.py"
    entry.write_text("import twofold.core.errors\n" + entry.read_text())
    with pytest.raises(RegistryError, match="does not load in a fresh process"):
        smoke_test(made, folder)


def test_a_pickle_does_not_load(made, tmp_path):
    class Pickled(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: pd.DataFrame) -> pd.DataFrame:
            return model_input

    folder = tmp_path / "model"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns of pickles
        pinned = [f"cloudpickle=={cloudpickle.__version__}"]
        mlflow.pyfunc.save_model(folder, python_model=Pickled(), pip_requirements=pinned)
    with pytest.raises(RegistryError, match="pickle is disallowed"):
        smoke_test(made, folder)
