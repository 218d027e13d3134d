"""The MLflow model: its own code in a package of its own name, and the packages that it needs."""

import shutil

import pytest

from twofold.core.errors import ArtifactError
from twofold.serving import mlflow_model, sealed_model_writer
from twofold.serving.mlflow_model import find_differences, pinned_requirements
from twofold.serving.sealed_model import ARCHITECTURE, WEIGHTS


@pytest.mark.parametrize("line", ["import twofold.model", "from twofold import model as m", "from . import model"])
def test_code_that_cannot_be_renamed_is_refused(monkeypatch, tmp_path, line):
    (tmp_path / "twofold").mkdir()
    (tmp_path / "twofold" / "odd.py").write_text(f"def f():\n    {line}\n")
    monkeypatch.setattr(sealed_model_writer, "ROOT", tmp_path)
    monkeypatch.setattr(sealed_model_writer, "closure", lambda module: [tmp_path / "twofold" / "odd.py"])
    if line.startswith("from twofold import"):
        package, files = sealed_model_writer.served_code()
        assert f"from {package} import model" in files["odd.py"]
    else:
        with pytest.raises(ArtifactError, match=r"odd\.py: write its imports as"):
            sealed_model_writer.served_code()


def test_the_local_version_of_a_build_is_not_pinned(monkeypatch):
    monkeypatch.setattr(mlflow_model.metadata, "version", lambda name: "1.2+cu130")
    assert set(pinned_requirements.__wrapped__()) >= {"torch==1.2", "numpy==1.2"}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    root = tmp_path_factory.mktemp("sealed")
    for name in (WEIGHTS, ARCHITECTURE, "decision.json"):
        (root / name).write_text("{}")
    return sealed_model_writer.write_sealed_model(root, root / "decision.json", {}, root / "seal")


@pytest.fixture
def packed(sealed, tmp_path):
    """The files of an MLflow model."""
    folder = tmp_path / "packed"
    shutil.copytree(sealed.directory / "sealed", folder / "artifacts" / "sealed")
    shutil.copytree(sealed.directory / "code", folder / "code")
    (folder / "served.py").write_text(mlflow_model._ENTRY.format(package=sealed.package))
    (folder / "MLmodel").write_text("")
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "the sealed model is incomplete"),
        (lambda folder: (folder / "artifacts/sealed" / WEIGHTS).unlink(), "no such file"),
        (lambda folder: (folder / "artifacts/sealed" / WEIGHTS).write_text("others"), "altered"),
        (lambda folder: (folder / "artifacts/sealed/more").write_text(""), "added"),
        (lambda folder: shutil.rmtree(folder / "code"), "is missing or differs"),
        (
            lambda folder: next((folder / "code").rglob("sealed_model.py")).write_text("x"),
            "sealed_model.py is missing or",
        ),
        (lambda folder: (folder / "served.py").write_text("import os"), "served.py is missing or differs"),
        (lambda folder: (folder / "MLmodel").unlink(), "MLmodel is missing"),
    ],
)
def test_a_missing_or_changed_file_is_named(sealed, packed, damage, message):
    assert find_differences(packed, sealed) == ""
    damage(packed)
    assert message in find_differences(packed, sealed)
