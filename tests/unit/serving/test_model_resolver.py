"""The model that a command names: an alias, a version, an address or a folder; anything else is an error."""

import shutil
from pathlib import Path

import pytest

from tests.support import registration_case as case
from twofold.core.errors import ArtifactError, ParameterError, RegistryError
from twofold.orchestration.params_file import get_value
from twofold.serving.model_resolver import resolve_model


@pytest.fixture
def registered(mlflow_store, tmp_path, monkeypatch):
    """The name of the registered model whose champion is version 1."""
    case.hurry(monkeypatch)
    verdict = case.run(case.make_candidate(tmp_path, case.make_data(tmp_path)), tmp_path)
    assert (verdict["version"], verdict["promoted"]) == (1, True)
    return lambda: "corner"


@pytest.mark.parametrize("word", ["champion", "1", "models:/corner@champion", "models:/corner/1"])
def test_a_registered_model_is_downloaded_and_verified_against_the_seal_in_its_tags(registered, word):
    with resolve_model(word, registered) as resolved:
        assert resolved.version == "corner/1"
        assert (resolved.folder / "seal.json").is_file()
        assert resolved.sealed.labels == ("good", "bad")
    assert not resolved.folder.exists()


def test_the_parameters_are_not_read_if_the_address_contains_the_name(registered, tmp_path):
    def missing():
        return get_value(tmp_path / "none.yaml", "register.model_name")

    with resolve_model("models:/corner/1", missing) as resolved:
        assert resolved.version == "corner/1"
    with pytest.raises(ParameterError, match=r"none\.yaml"), resolve_model("1", missing):
        pass


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("challenger", "the registered model 'corner' has no alias 'challenger' at sqlite"),
        ("7", "the registered model 'corner' has no version 7 at sqlite"),
        ("models:/other/1", "the registered model 'other' has no version 1"),
        ("models:/other@champion", "the registered model 'other' has no alias 'champion'"),
        ("models:/corner", "allowed are an alias"),
        ("./corner", "allowed are an alias"),
    ],
)
def test_a_missing_model_alias_or_version_is_named(registered, word, reason):
    with pytest.raises(RegistryError, match=reason), resolve_model(word, registered):
        pass


def test_a_model_altered_in_the_store_is_refused(registered, mlflow_store):
    (path,) = mlflow_store.rglob("artifacts/sealed/decision.json")
    path.write_text(path.read_text().replace("good", "evil"))
    with pytest.raises(ArtifactError, match=r"decision\.json: altered"), resolve_model("champion", registered):
        pass


def test_a_seal_rewritten_in_the_store_is_refused(registered, mlflow_store):
    (path,) = mlflow_store.rglob("artifacts/sealed/seal.json")
    path.write_text(path.read_text() + " ")
    with pytest.raises(ArtifactError, match=r"seal\.json: altered"), resolve_model("champion", registered):
        pass


def test_a_folder_is_a_sealed_model_or_an_mlflow_model_with_one(registered, mlflow_store, tmp_path, monkeypatch):
    (seal,) = mlflow_store.rglob("artifacts/sealed/seal.json")
    for folder in (seal.parent, seal.parents[2]):
        with resolve_model(str(folder), str) as resolved:
            assert resolved.folder == seal.parent
            assert resolved.version == f"sealed/{resolved.sealed.digest[:12]}"
    # A folder without a sealed model does not hide an alias of the same name.
    monkeypatch.chdir(tmp_path)
    Path("champion").mkdir()
    with resolve_model("champion", registered) as resolved:
        assert resolved.version == "corner/1"
    shutil.copytree(seal.parent, "champion/sealed")
    with resolve_model("champion", registered) as resolved:
        assert resolved.version.startswith("sealed/")
