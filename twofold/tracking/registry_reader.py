"""Reads a registered model from MLflow's SQLite file without MLflow, which takes more than a second to import."""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twofold.tracking.store import address

KEY = "twofold.key"  # tag of a candidate: digest of model, decision and test images
FIGURES = "twofold.figures"  # tag of a version: its main metrics on its test images, as JSON
CHAMPION, CHALLENGER = "champion", "challenger"  # aliases of a version
REJECTED = "rejected"  # outcome of a version without an alias
SCHEMA = "dc11669786a5"  # of the tables, by the MLflow that pyproject.toml allows
_TAGS = "SELECT key, value FROM registered_model_tags WHERE name = ? AND workspace = 'default'"
_VERSIONS = """SELECT version, creation_time, run_id, (
        SELECT json_group_object(key, value) FROM model_version_tags t
        WHERE t.name = v.name AND t.version = v.version AND t.workspace = v.workspace)
    FROM model_versions v
    WHERE name = ? AND workspace = 'default' AND current_stage != 'Deleted_Internal' ORDER BY version"""


def read_model(name: str) -> tuple[dict[str, str], list[Any]] | None:
    """Return a registered model's tags, and its versions like MLflow's, oldest first; both are empty if there is none.

    None if the store is no SQLite file with these tables, so that MLflow has to read it. Nothing is created or changed.
    """
    kind, _, path = address().partition(":///")
    if kind != "sqlite" or "?" in path:
        return None
    if not Path(path).exists():  # the first run creates the project's own; one that somebody has named is missing
        return None if "MLFLOW_TRACKING_URI" in os.environ else ({}, [])
    try:
        with closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if connection.execute("SELECT version_num FROM alembic_version").fetchall() != [(SCHEMA,)]:
                return None
            tags, rows = (connection.execute(query, (name,)).fetchall() for query in (_TAGS, _VERSIONS))
    except sqlite3.Error:
        return None
    keys = ("version", "creation_timestamp", "run_id")
    return dict(tags), [SimpleNamespace(**dict(zip(keys, row, strict=False)), tags=json.loads(row[3])) for row in rows]
