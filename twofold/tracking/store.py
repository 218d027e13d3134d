"""MLflow's tracking store: where it is, how it is reached, and the live runs of the two trainings.

In: MLFLOW_TRACKING_URI (else a SQLite file in the main checkout), MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_ID (a run to
join), TWOFOLD_LIVE=off (no live runs). Out: runs in that store. Every touch of MLflow's client lies here, in
`runs.py` or in `registry.py`.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.core.errors import RegistryError
from twofold.tracking.urls import is_foreign_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

DIGEST = "twofold.digest"  # tag of a training run: the SHA-256 of the artifact that it wrote
CHUNK = 100  # params or metrics a request; MLflow allows 100 and 1,000
LONGEST = 6000  # characters of a parameter's value that MLflow keeps

# What of the server's addresses belongs to which thing that permissions are given on.
_THINGS = {
    "registered-models": "registered model",
    "model-versions": "registered model",
    "experiments": "experiment",
    "runs": "experiment",
    "metrics": "experiment",
    "logged-models": "experiment",
    "artifacts": "experiment",
}
_READS = {"get", "get-by-name", "get-download-uri", "get-history", "get-latest-versions", "list", "search"}
_ASKED = re.compile(r"/mlflow(?:-artifacts)?/([a-z-]+)(?:/([a-z-]+)(?=[\s?]|$))?")


@dataclass(frozen=True)
class MlflowStore:
    """A tracking store and registry, and the folder for new experiments' files (None: the server decides)."""

    client: "MlflowClient"
    uri: str
    files: Path | None


def main_checkout() -> Path:
    """The main checkout of the git repository around the current folder; without one, the current folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        # `dvc exp run --temp` works in a clone below .dvc/tmp that is deleted afterwards, and a store with it.
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    command = ["git", "rev-parse", "--path-format=absolute", "--git-common-dir", "--show-toplevel"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=here).stdout.splitlines()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return here
    common, top = Path(answer[0]), Path(answer[1])
    # A submodule's common folder lies in its parent's .git/modules.
    return common.parent if common.name == ".git" else top


def address() -> str:
    """The tracking address: MLFLOW_TRACKING_URI, else the SQLite file of the main checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{main_checkout() / 'mlflow.db'}"


def connect() -> MlflowStore:
    """The store at `address()`.

    Raises:
        RegistryError: it is a SQLite file in a folder that does not exist or cannot be written.
    """
    silence_mlflow()
    uri = address()
    files = None
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).absolute()
        # MLflow itself would try for minutes to open it.
        if not os.access(database.parent, os.W_OK):
            raise RegistryError(f"{database}: its folder does not exist or cannot be written; see MLFLOW_TRACKING_URI")
        uri, files = f"sqlite:///{database}", database.parent / "mlartifacts"
    return MlflowStore(_client(uri), uri, files)


def silence_mlflow() -> None:
    """Before MLflow is imported: no telemetry, no migration log; what the user has set stays."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A sealed model pins what it was tried with; MLflow would copy a lock file that happens to lie in this folder.
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")


def _client(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def readable_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's errors into one that names the store."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    # Files go by requests itself, so that a refusal to take one is not an error of MLflow's.
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        raise RegistryError(without_credentials(f"MLflow at {uri}: {permission_error(error) or error}")) from error


def without_credentials(text: str) -> str:
    """An address, or a text with addresses, without the names and passwords that they may hold."""
    return re.sub(r"(?<=://)[^/@\s]*@", "", text)


def experiment(store: MlflowStore, name: str) -> str:
    """The id of the experiment of that name, made if there is none.

    Raises:
        RegistryError: the experiment has been deleted in MLflow, or its files lie on another server.
    """
    from mlflow.exceptions import MlflowException

    found = store.client.get_experiment_by_name(name)
    if found is None:
        place = (store.files / re.sub(r"[^\w.-]", "_", name)).as_uri() if store.files else None
        try:
            return str(store.client.create_experiment(name, artifact_location=place))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = store.client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise RegistryError(
            f"experiment '{name}' has been deleted in MLflow at {without_credentials(store.uri)}: restore it (`mlflow experiments "
            "restore`) or set register.experiment to another name"
        )
    if is_foreign_server(store.uri, found.artifact_location):
        raise RegistryError(
            f"experiment '{name}': its files are said to lie at {without_credentials(found.artifact_location)}, which is not the "
            f"MLflow server {without_credentials(store.uri)}: nothing is sent there, as it would be told your user and password; set "
            "register.experiment to another name"
        )
    return str(found.experiment_id)


def runs_with(store: MlflowStore, experiment_id: str, tag: str, value: str) -> "list[Run]":
    """The runs of an experiment with this tag, newest first."""
    found = store.client.search_runs(
        [experiment_id], f"tags.`{tag}` = '{value}'", max_results=100, order_by=["attributes.start_time DESC"]
    )
    return list(found)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as MLflow's parameters: `a.b` -> text; equal values give the same text, in whatever order."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            flat |= flatten(value, name)
        else:
            text = json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, list) else str(value)
            flat[name] = text[:LONGEST]
    return flat


def log_params(store: MlflowStore, run: "Run", values: Mapping[str, str]) -> None:
    """Log the parameters that the run does not have yet; MLflow refuses to change one."""
    from mlflow.entities import Param

    new = [Param(key, value) for key, value in values.items() if key not in run.data.params]
    for start in range(0, len(new), CHUNK):
        store.client.log_batch(run.info.run_id, params=new[start : start + CHUNK])


def log_metrics(store: MlflowStore, run_id: str, metrics: "list[Metric]") -> None:
    """Log metrics; a point that is already there (same key, step, time and value) is not doubled."""
    for start in range(0, len(metrics), CHUNK):
        store.client.log_batch(run_id, metrics=metrics[start : start + CHUNK])


def permission_error(error: Exception) -> str | None:
    """What a server's refusal means, or None if the error is none."""
    return explain_refusal(getattr(error, "error_code", ""), str(error))


def explain_refusal(code: str, text: str) -> str | None:
    """A refusal in plain words.

    Args:
        code: MLflow's, as `PERMISSION_DENIED`; empty where the error has none (a file sent or fetched).
        text: of the error.
    """
    if code == "UNAUTHENTICATED" or "401 Client Error" in text:
        return (
            f"the server does not take the login of {_user()}: set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD (docs/mlflow.md)"
        )
    denied = code == "PERMISSION_DENIED" and "Permission denied" in text
    if not denied and "403 Client Error" not in text:
        return None
    found = _ASKED.search(text)
    thing = _THINGS.get(found[1], "server") if found else "server"
    need = "READ" if found and found[2] in _READS else "EDIT (MANAGE where something is removed)"
    asked = f" ({found[0].strip('/')})" if found and not text.startswith("403") else ""
    return (
        f"permission denied: {_user()} lacks {need} on the {thing}{asked}; an administrator of the server can grant "
        "it (docs/mlflow.md)"
    )


def _user() -> str:
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return f"user '{name}'" if name else "this process (MLFLOW_TRACKING_USERNAME is not set)"
