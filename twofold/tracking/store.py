"""MLflow's tracking store: its address, the connection, experiments, parameters and metrics, and readable errors.

The address is MLFLOW_TRACKING_URI, by default a SQLite file in the main checkout. MLflow's client is used only in this
wing and in `twofold/serving`.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from twofold.core.errors import TRANSIENT_STATUSES, RegistryError, is_transient
from twofold.core.progress import waiting
from twofold.core.redaction import redact, without_credentials
from twofold.tracking.database import check_database
from twofold.tracking.urls import is_foreign_server, waiting_for_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

DIGEST = "twofold.digest"  # tag of a training run: the SHA-256 of the artifact that it wrote
LOOKS = "twofold.test_reuse"  # tag of a candidate's run: the use of the test images up to it, as JSON
CHUNK = 100  # params or metrics per request; MLflow allows 100 and 1,000
LONGEST = 6000  # characters of a parameter's value that MLflow keeps

# Part of the API's path -> the object on which permission is granted.
_OBJECTS = {
    **dict.fromkeys(("registered-models", "model-versions"), "registered model"),
    **dict.fromkeys(("experiments", "runs", "metrics", "logged-models", "artifacts"), "experiment"),
}
_READS = {"get", "get-by-name", "get-download-uri", "get-history", "get-latest-versions", "list", "search"}
_ENDPOINT = re.compile(r"/mlflow(?:-artifacts)?/([a-z-]+)(?:/([a-z-]+)(?=[\s?]|$))?")
# In messages of MLflow's client, which may report several files at once: an answer's status, a server's own failure
# (but no answer that MLflow did not write), and a request without an answer.
_STATUS = re.compile(r"error code (\d{3}) != |\b(\d{3}) (?:Client|Server) Error|too many (\d{3}) error responses")
_FAILURE = re.compile(r"(?:INTERNAL_ERROR|TEMPORARILY_UNAVAILABLE|RE\w+_(?:EXCEEDED|EXHAUSTED)): (?!Response: )")
_NO_ANSWER = re.compile(r"Max retries exceeded|Read timed out|Connection aborted|[Cc]onnection refused")
_DATABASE = re.compile(r"(?:sqlite|postgresql|mysql|mssql)[:+]")
_PAGE = re.compile(r"<(?:!doctype )?html.*?<title>\s*(.*?)\s*</title>[^']*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class MlflowStore:
    """A tracking store and registry, and the folder for new experiments' files (None: the server decides)."""

    client: "MlflowClient"
    uri: str
    files: Path | None


@dataclass
class _ClientWithProgress:
    """MLflow's client; while a call lasts, a line every ten seconds says so."""

    client: "MlflowClient"
    uri: str

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.client, name)
        return waiting_for_server(self.uri)(value) if callable(value) else value


def main_checkout() -> Path:
    """Return the main checkout of the git repository around the current folder, or the current folder without git."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        # `dvc exp run --temp` works in a clone below .dvc/tmp and deletes it afterwards, with any store in it.
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    command = ["git", "rev-parse", "--path-format=absolute", "--git-common-dir", "--show-toplevel"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=here).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return here
    common, top = map(Path, output.splitlines()[:2])
    # The common folder of a submodule is below its parent's .git/modules.
    return common.parent if common.name == ".git" else top


def address() -> str:
    """Return MLFLOW_TRACKING_URI, or the address of the main checkout's SQLite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{main_checkout() / 'mlflow.db'}"


def ui_command() -> str:
    """Return the command that opens the MLflow UI on the store at `address()`."""
    return f"mlflow ui --backend-store-uri {without_credentials(address())}"


def connect(*, create: bool = False) -> MlflowStore:
    """Return the store at `address()`, which `create` lets MLflow create; a RegistryError says why it cannot open."""
    silence_mlflow()
    uri, files = address(), None
    what = f"MLflow at {without_credentials(uri)}"
    try:
        if _DATABASE.match(uri) and (file := waiting(what)(check_database)(uri, create=create)):
            _, mark, query = uri.partition("?")
            uri, files = f"sqlite:///{file}{mark}{query}", file.parent / "mlartifacts"
        return MlflowStore(cast("MlflowClient", _ClientWithProgress(_client(uri), uri)), uri, files)
    # A driver, SQLAlchemy, alembic and MLflow raise whatever they like at a wrong address.
    except Exception as error:
        missing = f"the Python package '{error.name}' is not installed" if isinstance(error, ImportError) else ""
        message = f"{what} cannot be opened: {missing or explain_error(error)} (MLFLOW_TRACKING_URI)"
        raise RegistryError(message, transient=may_pass(error)) from error


def silence_mlflow() -> None:
    """Before MLflow is imported, switch off its telemetry, migration log and progress bar, unless the user set them."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A sealed model pins the versions that it was tested with; MLflow would copy any lock file in the current folder.
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")


def report_first_answers() -> None:
    """Let MLflow's client report a server's error answer at once, where it asks again for minutes and then hides it."""
    silence_mlflow()
    from mlflow.utils import request_utils, rest_utils

    send, codes = rest_utils.http_request, request_utils._TRANSIENT_FAILURE_RESPONSE_CODES
    send.__defaults__ = tuple(frozenset() if value is codes else value for value in send.__defaults__ or ())


def _client(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def impatient() -> Iterator[None]:
    """Let MLflow's client give up in seconds instead of minutes, unless the user has set how long it tries."""
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    limits = {key: value for key, value in limits.items() if key not in os.environ}
    os.environ.update(limits)
    try:
        yield
    finally:
        for key in limits:
            del os.environ[key]


@contextmanager
def readable_errors(uri: str) -> Iterator[None]:
    """Turn MLflow's errors into a RegistryError that names the store."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    # MLflow sends files with requests and does not wrap the errors of these transfers.
    except (MlflowException, RequestException, SQLAlchemyError) as error:
        message = f"MLflow at {uri}: {explain_error(error)}"
        raise RegistryError(message, transient=may_pass(error)) from error


def explain_error(error: Exception) -> str:
    """Return what an error of MLflow, or of the bucket behind it, says, in one line and without credentials."""
    refusal = explain_refusal(getattr(error, "error_code", ""), str(error))
    return refusal or " ".join(_PAGE.sub(r"\1", redact(str(error))).split())


def may_pass(error: Exception) -> bool:
    """Whether an error of MLflow, or of the bucket behind it, is transient; a refusal is not."""
    text = str(error)
    statuses = {int(number) for match in _STATUS.findall(text) for number in match if number}
    if statuses:
        return statuses <= TRANSIENT_STATUSES
    return bool(_FAILURE.match(text)) or is_transient(ConnectionError(text) if _NO_ANSWER.search(text) else error)


def experiment(store: MlflowStore, name: str) -> str:
    """Return the id of the experiment of that name, and create it if there is none.

    Raises:
        RegistryError: the experiment has been deleted in MLflow, or its files are on another server.
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
            f"experiment '{name}' has been deleted in MLflow at {store.uri}: restore it (`mlflow experiments restore`) "
            "or set register.experiment to another name"
        )
    if is_foreign_server(store.uri, found.artifact_location):
        raise RegistryError(
            f"experiment '{name}': the address of its files is {found.artifact_location}, which is not the MLflow "
            f"server {store.uri}: nothing is sent there, because it would receive your user and password; set "
            "register.experiment to another name"
        )
    return str(found.experiment_id)


def runs_with(store: MlflowStore, experiment_id: str, tag: str, value: str) -> "list[Run]":
    """Return the runs of an experiment with this tag, newest first."""
    query = f"tags.`{tag}` = '{value}'"
    return list(
        store.client.search_runs([experiment_id], query, max_results=100, order_by=["attributes.start_time DESC"])
    )


def create_run(store: MlflowStore, experiment_id: str, key: str, tags: Mapping[str, str], name: str) -> "Run":
    """Create a run with tags, once; `key` names the one by which it is found again."""
    run = store.client.create_run(experiment_id, tags=dict(tags), run_name=name)
    for other in runs_with(store, experiment_id, key, tags[key]):
        # A request that is repeated after a lost answer makes another run, with the same start.
        if other.info.start_time == run.info.start_time and other.info.run_id != run.info.run_id:
            store.client.delete_run(other.info.run_id)
    return run


def all_pages(search: Callable[..., Any], page_size: int, **query: Any) -> list[Any]:
    """Return every result of one of the client's searches, page by page."""
    page = search(**query, max_results=page_size)
    found = list(page)
    while page.token:
        page = search(**query, max_results=page_size, page_token=page.token)
        found += page
    return found


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted names, `a.b` -> value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def as_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Return nested values as MLflow's parameters; equal values in any order give the same text."""

    def text(value: Any) -> str:
        return json.dumps(value, sort_keys=True, ensure_ascii=False) if isinstance(value, list) else str(value)

    return {name: text(value)[:LONGEST] for name, value in flatten(values).items()}


def log_params(store: MlflowStore, run: "Run", values: Mapping[str, str]) -> None:
    """Log the parameters that the run does not have yet; MLflow does not allow changing one."""
    from mlflow.entities import Param

    new = [Param(key, value) for key, value in values.items() if key not in run.data.params]
    for start in range(0, len(new), CHUNK):
        store.client.log_batch(run.info.run_id, params=new[start : start + CHUNK])


def log_metrics(store: MlflowStore, run_id: str, metrics: "list[Metric]") -> None:
    """Log metrics; a point that is already there (same key, step, time and value) is not duplicated."""
    for start in range(0, len(metrics), CHUNK):
        store.client.log_batch(run_id, metrics=metrics[start : start + CHUNK])


def explain_refusal(code: str, text: str) -> str | None:
    """Explain an error in which the server denies the login or a permission; None for any other error.

    Args:
        code: MLflow's error code, such as `PERMISSION_DENIED`; empty if it has none (file transfers).
        text: the error's message.
    """
    if code == "UNAUTHENTICATED" or "401 Client Error" in text:
        return (
            f"the server rejects the login of {_user()}: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD "
            "(docs/guides/mlflow.md)"
        )
    denied = code == "PERMISSION_DENIED" and "Permission denied" in text
    if not denied and "403 Client Error" not in text:
        return None
    match = _ENDPOINT.search(text)
    target = _OBJECTS.get(match[1], "server") if match else "server"
    needed = "READ" if match and match[2] in _READS else "EDIT (MANAGE where something is removed)"
    endpoint = f" ({match[0].strip('/')})" if match and not text.startswith("403") else ""
    return (
        f"permission denied: {_user()} lacks {needed} on the {target}{endpoint}; an administrator of the server can "
        "grant it (docs/guides/mlflow.md)"
    )


def _user() -> str:
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return f"user '{name}'" if name else "this process (MLFLOW_TRACKING_USERNAME is not set)"
