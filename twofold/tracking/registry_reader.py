"""Reads a registered model from MLflow's SQLite file without MLflow, which takes more than a second to import."""

import json
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

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


class StoredVersion(NamedTuple):
    """A version, with the names of MLflow's ModelVersion."""

    version: int
    creation_timestamp: int | None
    run_id: str | None
    tags: Mapping[str, str]


class StoredModel(NamedTuple):
    """The tags of a registered model and its versions, oldest first; both are empty if there is none."""

    tags: Mapping[str, str]
    versions: list[StoredVersion]


def read_model(name: str) -> StoredModel | None:
    """Return a registered model; None if the store is no SQLite file with these tables, so that MLflow has to read it.

    Nothing is created or changed.
    """
    kind, _, path = address().partition(":///")
    if kind != "sqlite" or "?" in path:
        return None
    if not Path(path).exists():  # the first run creates the project's own; one that somebody has named is missing
        return None if "MLFLOW_TRACKING_URI" in os.environ else StoredModel({}, [])
    try:
        connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
        try:
            if connection.execute("SELECT version_num FROM alembic_version").fetchall() != [(SCHEMA,)]:
                return None
            tags, rows = (connection.execute(query, (name,)).fetchall() for query in (_TAGS, _VERSIONS))
        finally:
            connection.close()
    except sqlite3.Error:
        return None
    return StoredModel(dict(tags), [StoredVersion(a, b, c, json.loads(d)) for a, b, c, d in rows])
