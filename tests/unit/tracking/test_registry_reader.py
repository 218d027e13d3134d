"""A registered model read from MLflow's SQLite file, beside what MLflow's client says."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from twofold.core.errors import ArtifactError, RegistryError
from twofold.registry.version_catalog import compare, describe, history, list_versions, open_catalog
from twofold.tracking import registry_client
from twofold.tracking.database import SCHEMA
from twofold.tracking.registry_reader import NeedsMlflowError, local_file, logged_file, read_model


def test_it_is_what_mlflow_says(models_store):
    models_store.client.create_model_version("corner", "s3://elsewhere/model")
    models_store.client.delete_model_version("corner", "1")
    tags, aliases, found = read_model("corner")
    assert aliases == {
        name: int(number) for name, number in registry_client.registered(models_store, "corner").aliases.items()
    }
    assert tags == models_store.client.get_registered_model("corner").tags
    versions = registry_client.versions(models_store, "corner")
    assert [each.version for each in found] == [2, 3, 4] == [int(each.version) for each in versions]
    for one, other in zip(found, versions, strict=True):
        assert (one.tags, one.run_id or "") == (other.tags, other.run_id or "")
        assert one.creation_timestamp == other.creation_timestamp
    local, other = open_catalog("corner"), open_catalog("corner", models_store)
    assert list_versions(local) == list_versions(other)
    assert history(local) == history(other)
    for version in ("2", "champion"):
        assert describe(local, version) == describe(other, version)
    assert compare(local, "2", "challenger") == compare(other, "2", "challenger")
    assert read_model("nothing") == ({}, {}, [])


def test_other_stores_are_left_to_mlflow(models_store, monkeypatch, tmp_path):
    models_store.client.delete_model_version_tag("corner", "2", registry_client.FIGURES)
    with pytest.raises(NeedsMlflowError):  # its metrics are in its run
        list_versions(open_catalog("corner"))
    file = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'old'")
    with pytest.raises(NeedsMlflowError):
        read_model("corner")
    for address in (f"sqlite:///{tmp_path / 'gone.db'}", "http://127.0.0.1:9", f"sqlite:///{Path(__file__)}"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(NeedsMlflowError):
            read_model("corner")
    assert not (tmp_path / "gone.db").exists()


def test_files_that_are_elsewhere_or_gone_are_left_to_mlflow_and_altered_ones_refused(models_store):
    version = read_model("corner").find(3)
    predictions = logged_file(None, version.run_id, "evaluation/predictions.parquet", None)
    sealed = local_file(version.storage_location, "artifacts/sealed")
    models_store.client.create_model_version("corner", "s3://elsewhere/model", version.run_id, version.tags)
    local = open_catalog("corner")
    with pytest.raises(NeedsMlflowError):
        compare(local, "2", "4")
    predictions.rename(predictions.with_name("moved"))
    with pytest.raises(NeedsMlflowError):
        compare(local, "2", "3")
    with pytest.raises(RegistryError, match=r"predictions\.parquet of run .* cannot be fetched"):
        compare(open_catalog("corner", models_store), "2", "3")
    predictions.with_name("moved").rename(predictions)
    (sealed / "decision.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"decision\.json: altered"):
        compare(local, "2", "3")


def test_the_schema_is_that_of_the_installed_mlflow(mlflow_store):
    with sqlite3.connect(mlflow_store / "mlflow.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA,)]


@pytest.mark.parametrize(
    ("words", "heavy", "first"),
    [
        (["list"], ["mlflow", "torch", "numpy"], "version"),
        (["history"], ["mlflow", "torch", "numpy"], "1"),
        (["show", "champion"], ["mlflow", "torch"], "version"),
        (["compare", "1", "3"], ["mlflow", "torch", "pandas"], "version"),
    ],
)
def test_what_only_reads_does_without_mlflow(models_store, words, heavy, first):
    code = (
        "import sys; from twofold.cli.main import main\n"
        f"try: main(['models', *{words}, '--name', 'corner'])\nexcept SystemExit as end: assert end.code == 0\n"
        f"sys.exit(str(set({heavy}) & set(sys.modules) or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[0] == first
