"""Reads a registered model from MLflow's SQLite file without MLflow, which takes more than a second to import."""

import json
import math
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import unquote

from twofold.core.errors import RegistryError
from twofold.tracking.database import SCHEMA
from twofold.tracking.store import MlflowStore, address

KEY = "twofold.key"  # tag of a candidate: digest of model, decision and test images
FIGURES = "twofold.figures"  # tag of a version: its main metrics on its test images, as JSON
CHAMPION, CHALLENGER = "champion", "challenger"  # aliases of a version
JUDGED_AGAINST = "twofold.judged_against"  # of a version: the champion's version at the time, or nothing
CONDITIONS = "twofold.conditions"  # of a version: `gates`, `reference_since`, test reuse of its judgement, as JSON
SEAL = "twofold.seal"  # of a version: the SHA-256 of its seal.json
REJECTED = "rejected"  # outcome of a version without an alias
_TAGS = "SELECT key, value FROM registered_model_tags WHERE name = ? AND workspace = 'default'"
_ALIASES = "SELECT alias, version FROM registered_model_aliases WHERE name = ? AND workspace = 'default'"
_METRICS = "SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ?"
_VERSIONS = """SELECT version, creation_time, run_id, storage_location, (
        SELECT json_group_object(key, value) FROM model_version_tags t
        WHERE t.name = v.name AND t.version = v.version AND t.workspace = v.workspace)
    FROM model_versions v
    WHERE name = ? AND workspace = 'default' AND current_stage != 'Deleted_Internal' ORDER BY version"""


class NeedsMlflowError(RegistryError):
    """Only MLflow can read this."""


class StoredModel(NamedTuple):
    """A registered model's tags, its versions by alias, and all versions like MLflow's, oldest first."""

    tags: dict[str, str]
    aliases: dict[str, int]
    versions: list[Any]

    def find(self, number: int) -> Any:
        """Return a version; None if it does not exist or has been deleted."""
        return next((each for each in self.versions if each.version == number), None)


def read_model(name: str) -> StoredModel:
    """Return a registered model, which is empty if there is none. Nothing is created or changed.

    Raises:
        NeedsMlflowError: the store is no SQLite file with these tables.
    """
    path = address().partition(":///")[2]
    if "MLFLOW_TRACKING_URI" not in os.environ and not Path(path).exists():  # the first run creates it
        return StoredModel({}, {}, [])
    tags, aliases, rows = _read(name, _TAGS, _ALIASES, _VERSIONS)
    keys = ("version", "creation_timestamp", "run_id", "storage_location")
    versions = [SimpleNamespace(**dict(zip(keys, row, strict=False)), tags=json.loads(row[-1])) for row in rows]
    for version in versions:
        version.name = name
    return StoredModel(dict(tags), dict(aliases), versions)


def read_run(run_id: str) -> tuple[dict[str, float], str | None]:
    """Return a run's last metrics and its experiment; nothing if it is gone."""
    metrics, runs = _read(run_id, _METRICS, "SELECT experiment_id FROM runs WHERE run_uuid = ?")
    return {key: math.nan if is_nan else value for key, value, is_nan in metrics}, str(runs[0][0]) if runs else None


def logged_file(store: MlflowStore | None, run_id: str, path: str, folder: Path) -> Path:
    """Return a file that a run has logged, downloaded into a folder, or without a store where it lies."""
    if store is not None:
        from twofold.tracking.runs import fetch_file

        return fetch_file(store, run_id, path, folder)
    (rows,) = _read(run_id, "SELECT artifact_uri FROM runs WHERE run_uuid = ?")
    return local_file(str(rows[0][0]) if rows else "", path)


def local_file(place: str, path: str) -> Path:
    """Return a file or folder below an address of MLflow's; raise NeedsMlflowError unless it is on this machine."""
    found = Path(unquote(place.removeprefix("file://"))) / path
    if place.startswith("file:///") and found.exists():
        return found
    raise NeedsMlflowError(place)


def _read(name: str, *queries: str) -> list[list[Any]]:
    kind, _, path = address().partition(":///")
    if kind == "sqlite" and "?" not in path:
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)) as connection,
        ):
            if connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA,)]:
                return [connection.execute(query, (name,)).fetchall() for query in queries]
    raise NeedsMlflowError(address())
