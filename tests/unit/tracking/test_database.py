"""Stores that cannot be opened: one line that names the store, at once, and nothing created or upgraded."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from twofold.cli import main
from twofold.core.errors import RegistryError
from twofold.tracking import database
from twofold.tracking import store as tracking
from twofold.tracking.live_run import live_run

# Address, the store as it is named, and what is said of it.
WRONG = [
    ("mysql://me:s3cret@127.0.0.1/db", "mysql://127.0.0.1/db", "'MySQLdb' is not installed"),
    ("mssql+pyodbc://me:s3cret@h/db", "mssql+pyodbc://h/db", "'pyodbc' is not installed"),
    ("postgresql+asyncpg://me:s3cret@h/db", "postgresql+asyncpg://h/db", "'asyncpg' is not installed"),
    ("postgresql+psycopg2://me:s3/cret@127.0.0.1:1/db", "postgresql+psycopg2://127.0.0.1:1/db", "refused"),
    ("postgresql://me:s3cret@h:abc/db", "postgresql://h:abc/db", "'abc'"),
    ("postgres://me:s3cret@h/db?password=s3cret", "postgres://h/db?password=***", "unsupported URI"),
    ("htp://me:s3cret@host", "htp://host", "unsupported URI"),
    ("sqllite:///x.db", "sqllite:///x.db", "unsupported URI"),
    ("localhost:5000", "localhost:5000", "unsupported URI"),
    ("./mlruns", "./mlruns", "migrate-filestore"),
    ("sqlite:////", "sqlite:////", "unable to open"),
]


def set_schema(file, revision):
    with closing(sqlite3.connect(file)) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = ?", [revision])


@pytest.mark.parametrize(("uri", "name", "reason"), WRONG)
def test_a_store_that_cannot_be_opened_is_named_in_one_line_and_no_training_fails(
    uri, name, reason, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "x.png").touch()
    for words in (["models", "list", "--name", "x"], ["predict", "models:/x/1", "x.png"]):
        with pytest.raises(SystemExit) as ended:
            main.main(words)
        (line,) = capsys.readouterr().err.splitlines()
        assert (ended.value.code, f": error: MLflow at {name} cannot be opened: " in line) == (1, True), line
        assert reason in line
        assert "cret" not in line
    with live_run("train_head", {}, resume_key="k") as live:
        live.log(0, {"a": 1.0})
        live.finish("d")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: MLflow at {name} cannot be opened: ")
    assert reason in line
    assert "cret" not in line


@pytest.mark.parametrize("table", ["", "jobs"])
@pytest.mark.parametrize(("revision", "reason"), [("4465047574b1", "an older"), ("0123456789ab", "a newer")])
def test_the_tables_of_another_version_are_neither_used_nor_upgraded(mlflow_store, table, revision, reason):
    set_schema(mlflow_store / "mlflow.db", revision)
    if table:  # MLflow upgrades a database that lacks one of its tables
        with closing(sqlite3.connect(mlflow_store / "mlflow.db")) as opened, opened:
            opened.execute(f"DROP TABLE {table}")
    before = (mlflow_store / "mlflow.db").read_bytes()
    with pytest.raises(RegistryError, match=rf"MLflow at sqlite:///.*mlflow\.db cannot be opened: .*{reason}"):
        tracking.connect(create=True)
    assert (mlflow_store / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("create", [False, True])
def test_tables_that_mlflow_is_making_are_not_taken_for_those_of_an_older_version(mlflow_store, create):
    set_schema(mlflow_store / "mlflow.db", "4465047574b1")
    with closing(sqlite3.connect(mlflow_store / "mlflow.db")) as opened, opened:
        opened.execute("DELETE FROM experiments")
    with pytest.raises(RegistryError, match=r"mlflow\.db cannot be opened: MLflow is making its tables; try again"):
        tracking.connect(create=create)


@pytest.mark.parametrize("uri", ["sqlite:///new.db", "sqlite+pysqlite:///new.db", "sqlite:///empty.db", "sqlite://"])
def test_a_command_that_only_reads_creates_no_database(uri, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (tmp_path / "empty.db").touch()
    for words in (["list"], ["show", "1"], ["history"], ["approve", "--reason", "x"]):
        with pytest.raises(SystemExit) as ended:
            main.main(["models", words[0], "--name", "x", *words[1:]])
        assert (ended.value.code, "a training or register creates them" in capsys.readouterr().err) == (1, True)
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("empty.db", 0)]


def test_a_database_is_created_for_what_writes_and_its_address_keeps_its_options(tmp_path, monkeypatch, empty_store):
    monkeypatch.chdir(tmp_path)
    database.check_database("sqlite:///new.db", create=True)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db?timeout=30")
    assert tracking.connect().uri == f"sqlite:///{tmp_path}/mlflow.db?timeout=30"
