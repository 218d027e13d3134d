"""A registered model read from MLflow's SQLite file, beside what MLflow's client says."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from twofold.registry.version_catalog import describe, history, list_versions
from twofold.registry.version_list import read_history, read_version, read_versions
from twofold.tracking import registry_client
from twofold.tracking.registry_reader import SCHEMA, read_model


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
    assert read_versions("corner") == (list_versions(models_store, "corner"), ())
    assert read_history("corner") == history(models_store, "corner")
    for version in ("2", "champion"):
        assert read_version("corner", version) == describe(models_store, "corner", version)
    assert read_model("nothing") == ({}, {}, [])


def test_other_stores_are_left_to_mlflow(models_store, monkeypatch, tmp_path):
    models_store.client.delete_model_version_tag("corner", "2", registry_client.FIGURES)
    assert read_versions("corner") is None  # its metrics are in its run
    file = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///"))
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'old'")
    assert read_model("corner") is None
    for address in (f"sqlite:///{tmp_path / 'gone.db'}", "http://127.0.0.1:9", f"sqlite:///{Path(__file__)}"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert read_model("corner") is None
    assert not (tmp_path / "gone.db").exists()


def test_the_schema_is_that_of_the_installed_mlflow(mlflow_store):
    with sqlite3.connect(mlflow_store / "mlflow.db") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA,)]


@pytest.mark.parametrize(
    ("words", "heavy", "first"),
    [
        (["list"], ["mlflow", "torch", "numpy"], "version"),
        (["history"], ["mlflow", "torch", "numpy"], "1"),
        (["show", "champion"], ["mlflow", "torch"], "version"),
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
