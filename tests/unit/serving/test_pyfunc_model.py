"""The served model: its threshold and version, and its limits for a request."""

from types import SimpleNamespace

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from tests.support import sealed_case
from tests.support.registered_case import images
from twofold.core.errors import DataError
from twofold.serving.pyfunc_model import MOST, ServedModel, image_bytes, version
from twofold.serving.sealed_model import open_sealed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sealed_case.make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def served(folder):
    model = ServedModel()
    model.load_context(SimpleNamespace(artifacts={"sealed": str(folder)}))
    return model


def test_a_prediction_has_the_threshold_and_the_version(served, folder):
    found = served.predict(None, pd.DataFrame({"image": images(4)}))
    sealed = open_sealed(folder)
    assert list(found) == ["label", "probability", "positive", "threshold", "version"]
    assert set(found["threshold"]) == {sealed.threshold}
    assert set(found["version"]) == {f"sealed/{sealed.digest[:12]}"}


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ("model_name: twofold\nmodel_version: '3'\n", "twofold/3"),
        ("model_name: 'a b'\nmodel_version: 12\n", "a b/12"),
        ("model_name: null\nmodel_version: null\n", "sealed/0123456789ab"),
        ("model_name: twofold\n", "sealed/0123456789ab"),
        (None, "sealed/0123456789ab"),
    ],
)
def test_its_version_is_the_registered_one_or_its_seal(tmp_path, meta, expected):
    if meta is not None:
        (tmp_path / "registered_model_meta").write_text(meta)
    assert version(tmp_path / "artifacts" / "sealed", "0123456789abcdef") == expected


@pytest.mark.parametrize("count", [0, MOST + 1])
def test_too_many_images_and_none_are_refused_before_they_are_decoded(served, count):
    with pytest.raises(MlflowException, match=f"found {count} images in one request, allowed are 1 to 256") as caught:
        served.predict(None, pd.DataFrame({"image": [b"no image"] * count}, dtype=object))
    assert caught.value.get_http_status_code() == 400


def test_other_columns_and_cells_are_refused():
    with pytest.raises(MlflowException, match="expected the one column 'image'") as caught:
        ServedModel().predict(None, pd.DataFrame({"picture": [b""]}))
    assert caught.value.get_http_status_code() == 400
    with pytest.raises(DataError, match="found float"):
        image_bytes(0.5)
