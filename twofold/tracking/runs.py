"""The candidate's run in MLflow, which records one judgement of one model.

There is one run for each set of parameters and model. Every function can be repeated: after an interruption the run is
opened again and receives what it lacks, without duplicates.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, ViewType
from mlflow.entities import Run as Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from requests import RequestException

from twofold.core.errors import ArtifactError, RegistryError
from twofold.tracking import store as tracking
from twofold.tracking.live_run import PARENT, RESUME, STEP
from twofold.tracking.store import DIGEST, MlflowStore, all_pages, explain_error, may_pass

RUN_KEY = "twofold.run_key"  # digest of the model's key and of all parameters
OUTCOME = "twofold.outcome"  # digest of the verdict; set last, so a run that has it is complete
TEST_FINGERPRINT = "twofold.test_fingerprint"  # SHA-256 over the test images and their labels
LONGEST_NAME, DIGITS = 500, 12  # characters of a data set's name that MLflow keeps, and of its digest that it shows


def open_run(store: MlflowStore, experiment_id: str, found: Run | None, name: str, tags: Mapping[str, str]) -> Run:
    """Create the run, or open the one that was found, with these tags."""
    if found is None:
        return tracking.create_run(store, experiment_id, RUN_KEY, tags, name)
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


def log_main_metrics(store: MlflowStore, run: Run, metrics: Mapping[str, Any], model_id: str | None = None) -> None:
    """Log the numbers of metrics.json on the run and, if given, on the logged model.

    The metrics of slices and of perturbed images, and the intervals, stay in the tables and pages that the run logs.
    """
    # With the run's start time, so that logging the same metric twice does not duplicate it.
    start, run_id = run.info.start_time, run.info.run_id
    model = {"model_id": model_id, "run_id": run_id} if model_id else {}
    found = {key: float(value) for key, value in metrics.items() if isinstance(value, int | float)}
    tracking.log_metrics(store, run_id, [Metric(key, value, start, 0, **model) for key, value in found.items()])


def log_datasets(store: MlflowStore, run: Run, source: str, splits: Mapping[str, tuple[str, dict[str, int]]]) -> None:
    """Log the data of each split as an input of the run; no image is read.

    Args:
        source: where the images come from, which becomes the name.
        splits: by name, the SHA-256 of the split's images and labels, and its number of images by label.
    """
    inputs = []
    for split, (digest, counts) in splits.items():
        profile = {"num_rows": sum(counts.values()), **counts, "sha256": digest}
        kind = "s3" if source.startswith("s3://") else "local"
        place, shown = json.dumps({"uri": source}), json.dumps(profile)
        data = Dataset(source[:LONGEST_NAME], digest[:DIGITS], kind, place, profile=shown)
        inputs.append(DatasetInput(data, [InputTag(MLFLOW_DATASET_CONTEXT, split)]))
    store.client.log_inputs(run.info.run_id, inputs)


def link_training(store: MlflowStore, run: Run, step: str, digest: str, history: Path) -> str:
    """Link the candidate's run to the run that trained an artifact, found by the artifact's digest; return its id.

    The training is nested in the first candidate that used it, because MLflow allows one parent. If there is none (the
    artifact comes from a cache, or the store was unavailable), it is made from history.csv.
    """
    own = run.info.run_id
    found = tracking.runs_with(store, run.info.experiment_id, DIGEST, digest)
    # A run that trained within this run takes precedence, otherwise the newest.
    nested = [other for other in found if other.data.tags.get(PARENT) == own]
    training = next(iter(nested or found), None) or replay(store, run, step, digest, history)
    parent = training.data.tags.get(PARENT)
    if parent != own:
        first = runs_by_id(store, [parent]).get(parent or "")
        if first is None or first.info.lifecycle_stage != "active":
            set_tags(store, training, {PARENT: own})
    set_tags(store, run, {f"twofold.run.{step}": training.info.run_id})
    return str(training.info.run_id)


def replay(store: MlflowStore, run: Run, step: str, digest: str, history: Path) -> Run:
    """Make a training's run, nested in the candidate's, from its history.csv: each column with the epoch as its step.

    Raises:
        ArtifactError: the file is missing, has no `epoch` column, or contains a value that is not a number.
    """
    rows: list[tuple[int, dict[str, float]]] = []
    try:
        with history.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                epoch = int(row.pop("epoch"))
                rows.append((epoch, {key: float(value) for key, value in row.items() if value}))
    except OSError as error:
        raise ArtifactError(f"{history}: {error.strerror}; has the training run?") from None
    except (KeyError, ValueError) as error:
        raise ArtifactError(f"{history}: needs a column 'epoch' and numbers, found {error}") from None
    tags = {
        STEP: step,
        RESUME: digest,
        PARENT: run.info.run_id,
        "mlflow.source.name": f"twofold.steps.{step}",
        "mlflow.note.content": "Curves from history.csv: this experiment has no live run of this training.",
    }
    place = run.info.experiment_id
    begun = tracking.runs_with(store, place, RESUME, digest)
    training = begun[0] if begun else tracking.create_run(store, place, RESUME, tags, step)
    start = training.info.start_time
    points = [Metric(key, value, start, epoch) for epoch, values in rows for key, value in values.items()]
    tracking.log_metrics(store, training.info.run_id, points)
    close_run(store, training, {DIGEST: digest}, terminate=True)
    return training


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


def close_run(store: MlflowStore, run: Run, complete: Mapping[str, str], *, terminate: bool) -> None:
    """End the run if `terminate`, and set the tag that marks it as complete: OUTCOME or DIGEST."""
    if terminate:
        store.client.set_terminated(run.info.run_id, "FINISHED")
    # The very last write: without it, the run is completed when register runs again.
    set_tags(store, run, complete)
