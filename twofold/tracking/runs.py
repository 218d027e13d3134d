"""The candidate's run in MLflow, which records one judgement of one model.

There is one run for each set of parameters and model. Every function can be repeated: after an interruption the run is
opened again and receives what it lacks, without duplicates.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.entities import Metric, ViewType
from mlflow.entities import Run as Run
from mlflow.exceptions import MlflowException
from requests import RequestException

from twofold.core.errors import ArtifactError, RegistryError
from twofold.tracking.live_run import PARENT, STEP
from twofold.tracking.store import (
    DIGEST,
    MlflowStore,
    all_pages,
    create_run,
    explain_error,
    log_metrics,
    may_pass,
    runs_with,
)

RUN_KEY = "twofold.run_key"  # digest of the model's key and of all parameters
OUTCOME = "twofold.outcome"  # digest of the verdict; set last, so a run that has it is complete
TEST_FINGERPRINT = "twofold.test_fingerprint"  # SHA-256 over the test images and their labels
MOST_VALUES = 50  # keys of a nested metric that is logged
LONGEST_NAME = 250  # characters that MLflow keeps


def open_run(store: MlflowStore, experiment_id: str, found: Run | None, name: str, tags: Mapping[str, str]) -> Run:
    """Create the run, or open the one that was found, with these tags."""
    if found is None:
        return create_run(store, experiment_id, RUN_KEY, tags, name)
    if found.info.status != "RUNNING":
        store.client.update_run(found.info.run_id, status="RUNNING")
    set_tags(store, found, tags)
    return store.client.get_run(found.info.run_id)


def candidate_runs(store: MlflowStore, name: str) -> list[Run]:
    """Return the runs that judged candidates of a registered model, in every experiment, oldest first.

    Deleted runs and those of deleted experiments are among them, until `mlflow gc` removes them.
    """
    return _search_everywhere(store, f"tags.`{STEP}` = 'register' AND params.`register.model_name` = '{name}'")


def runs_by_id(store: MlflowStore, ids: Iterable[str | None]) -> dict[str, Run]:
    """Return the runs with these ids, also deleted ones, in a few requests; a run that is gone is left out."""
    names = ", ".join(sorted({f"'{each}'" for each in ids if each and each.isalnum()}))
    found = _search_everywhere(store, f"attributes.run_id IN ({names})") if names else []
    return {run.info.run_id: run for run in found}


def _search_everywhere(store: MlflowStore, condition: str) -> list[Run]:
    experiments = all_pages(store.client.search_experiments, 1000, view_type=ViewType.ALL)
    query = {
        "experiment_ids": [each.experiment_id for each in experiments],
        "filter_string": condition,
        "run_view_type": ViewType.ALL,
        "order_by": ["attributes.start_time ASC"],
    }
    return all_pages(store.client.search_runs, 200, **query) if experiments else []


def set_tags(store: MlflowStore, run: Run, tags: Mapping[str, str]) -> None:
    """Set the tags that the run lacks or has with another value."""
    for key, value in tags.items():
        if run.data.tags.get(key) != value:
            store.client.set_tag(run.info.run_id, key, value)


def log_nested_metrics(
    store: MlflowStore, run: Run, metrics: Mapping[str, Any], model_id: str | None = None, step: int = 0
) -> None:
    """Log every number of nested metrics as `a.b`, on the run and, if given, on the logged model."""
    # With the run's start time, so that logging the same metric twice does not duplicate it.
    start, run_id = run.info.start_time, run.info.run_id
    model = {"model_id": model_id, "run_id": run_id} if model_id else {}
    log_metrics(store, run_id, [Metric(key, value, start, step, **model) for key, value in numbers(metrics).items()])


def numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers among nested metrics as `a.b`; characters other than letters, digits, `_-.` and spaces, which
    MLflow does not allow in names, become `_`.
    """
    found: dict[str, float] = {}
    for key, value in values.items():
        name = prefix + "".join(c if c.isascii() and (c.isalnum() or c in "_-. ") else "_" for c in str(key))
        if key == "intervals" and prefix:
            continue  # those of slices and of perturbed images are in slices.csv and robustness.csv
        if isinstance(value, Mapping):
            # A slice column with hundreds of values is readable as a table (slices.csv), not as hundreds of charts.
            found |= numbers(value, f"{name}.") if len(value) <= MOST_VALUES else {}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name[:LONGEST_NAME]] = float(value)
    return found


def link_training(store: MlflowStore, run: Run, step: str, digest: str, history: Path) -> str | None:
    """Link the candidate's run to the live run that trained an artifact, which is found by the artifact's digest.

    If there is none (the artifact comes from a cache, or the store was unavailable), history.csv is logged into the
    candidate's run instead, each column as `<step>.<column>`. Returns the id of the training run, or None.
    """
    found = runs_with(store, run.info.experiment_id, DIGEST, digest)
    if not found:
        replay(store, run, step, history)
        return None
    # A run that trained within this run takes precedence, otherwise the newest.
    parent = run.info.run_id
    best = next((other for other in found if other.data.tags.get(PARENT) == parent), found[0])
    set_tags(store, run, {f"twofold.run.{step}": best.info.run_id})
    return str(best.info.run_id)


def replay(store: MlflowStore, run: Run, step: str, history: Path) -> None:
    """Log a training's history.csv into a run, each column as `<step>.<column>` with the epoch as its step.

    Raises:
        ArtifactError: the file is missing, has no `epoch` column, or contains a value that is not a number.
    """
    points = []
    try:
        with history.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                epoch = int(row.pop("epoch"))
                values = {key: float(value) for key, value in row.items() if value}
                points += [Metric(f"{step}.{key}", value, run.info.start_time, epoch) for key, value in values.items()]
    except OSError as error:
        raise ArtifactError(f"{history}: {error.strerror}; has the training run?") from None
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"{history}: needs a column 'epoch' and numbers, found {error}") from None
    log_metrics(store, run.info.run_id, points)


def fetch_file(store: MlflowStore, run_id: str, path: str, folder: Path) -> Path:
    """Download a file that a run has logged; raise RegistryError if it is not in the store, or no longer."""
    try:
        return Path(store.client.download_artifacts(run_id, path, str(folder)))
    except (MlflowException, OSError, BotoCoreError, ClientError) as error:
        message = f"{path} of run {run_id} cannot be fetched: {explain_error(error)}"
        raise RegistryError(message, transient=may_pass(error)) from error


def log_folder(store: MlflowStore, run: Run, folder: Path, name: str) -> None:
    """Log a folder's files under a name; raise RegistryError if the store's file storage does not accept them."""
    with readable_file_errors(store):
        store.client.log_artifacts(run.info.run_id, str(folder), name)


@contextmanager
def readable_file_errors(store: MlflowStore) -> Iterator[None]:
    """Turn an error of the store's file storage, such as a bucket, into one that names the store."""
    try:
        yield
    except RequestException:
        raise  # from MLflow's own server; `store.readable_errors` explains it better
    except (OSError, BotoCoreError, ClientError, Boto3Error) as error:
        raise RegistryError(
            f"MLflow at {store.uri}: its file storage did not accept the files: "
            f"{explain_error(error)}; once it does, run register again: it continues from here",
            transient=may_pass(error),
        ) from error


def close_run(store: MlflowStore, run: Run, outcome: str, *, terminate: bool) -> None:
    """End the run if `terminate`, and mark it as complete with the digest of its outcome."""
    if terminate:
        store.client.set_terminated(run.info.run_id, "FINISHED")
    # The very last write: a run with this tag is never changed again.
    set_tags(store, run, {OUTCOME: outcome})
