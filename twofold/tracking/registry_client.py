"""MLflow's model registry: logged models, versions with their tags, and aliases.

Logged models and versions are found by their tags, so that an interrupted register step resumes where it stopped.
`set_alias` is the only function that moves an alias.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from mlflow import set_tracking_uri
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModel as LoggedModel
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion as ModelVersion
from mlflow.entities.model_registry import RegisteredModel as RegisteredModel
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from twofold.core.errors import RegistryError
from twofold.core.progress import waiting
from twofold.tracking import registry_reader
from twofold.tracking.runs import Run, readable_file_errors
from twofold.tracking.store import MlflowStore, all_pages, explain_error, may_pass
from twofold.tracking.urls import is_foreign_server

KEY, FIGURES = registry_reader.KEY, registry_reader.FIGURES
CHAMPION, CHALLENGER, REJECTED = registry_reader.CHAMPION, registry_reader.CHALLENGER, registry_reader.REJECTED
SEAL = registry_reader.SEAL
SMOKE_TESTED = "twofold.rehearsed"  # of a logged model: the largest difference in its smoke test
JUDGED_AGAINST, CONDITIONS = registry_reader.JUDGED_AGAINST, registry_reader.CONDITIONS
LONGEST_TAG = 65_000  # bytes of a version's tag that every database keeps: MySQL's TEXT
LONGEST_MODEL_TAG = 5000  # characters of a registered model's tag that MLflow's own tables keep
DESCRIPTION = 5000  # characters that every store keeps


def version_by_alias(store: MlflowStore, name: str, alias: str = CHAMPION) -> ModelVersion | None:
    """Return the version that an alias points to now, or None."""
    model = registered(store, name)
    found = None if model is None else model.aliases.get(alias)
    return None if found is None else store.client.get_model_version(name, str(found))


def versions_of_candidate(store: MlflowStore, name: str, key: str) -> list[ModelVersion]:
    """Return the versions of this candidate, oldest first: none, one, or those that a repeated request has made."""
    found = store.client.search_model_versions(f"name = '{name}' AND tags.`{KEY}` = '{key}'")
    # Not every store filters versions by tags.
    versions = [version for version in found if version.tags.get(KEY) == key]
    return sorted(versions, key=lambda version: int(version.version))


def version(store: MlflowStore, name: str, number: str) -> ModelVersion | None:
    """Return a version by its number; None if it does not exist or has been deleted."""
    with _ignore("RESOURCE_DOES_NOT_EXIST"):
        return store.client.get_model_version(name, number)
    return None


def logged_model(store: MlflowStore, experiment_id: str, key: str, seal: str) -> LoggedModel | None:
    """Return the logged model of this candidate and seal, complete if possible, otherwise partly uploaded."""
    found = store.client.search_logged_models([experiment_id], f"tags.`{KEY}` = '{key}' AND tags.`{SEAL}` = '{seal}'")
    first = sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))
    return min(first, key=lambda model: model.status != LoggedModelStatus.READY, default=None)


def begin_model(store: MlflowStore, run: Run, name: str, tags: Mapping[str, str]) -> LoggedModel:
    """Create a logged model, once, to which files can then be uploaded."""
    place, source = run.info.experiment_id, run.info.run_id
    made = store.client.create_logged_model(place, name=name, source_run_id=source, tags=dict(tags))
    first = logged_model(store, place, tags[KEY], tags[SEAL]) or made
    if first.model_id != made.model_id:  # the request was repeated after a lost answer
        store.client.delete_logged_model(made.model_id)
    return first


def upload(store: MlflowStore, model: LoggedModel, packed: Path) -> None:
    """Upload the files of a packaged model and mark the logged model as complete."""
    with readable_file_errors(store):
        store.client.log_model_artifacts(model.model_id, str(packed))
    store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def name_output(store: MlflowStore, run: Run, model: LoggedModel) -> None:
    """Record a logged model as an output of a run, once."""
    outputs = store.client.get_run(run.info.run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        store.client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])


def download(store: MlflowStore, model: LoggedModel, folder: Path) -> Path:
    """Download the files of a logged model; raise RegistryError if they or their location cannot be reached."""
    return fetch(store, f"the files of logged model {model.model_id}", model.artifact_location, "", folder)


def fetch(store: MlflowStore, what: str, place: str, path: str, folder: Path) -> Path:
    """Download a path below a location; raise RegistryError if it cannot be reached."""
    try:
        with waiting(f"files from {place}"):
            return Path(download_artifacts(f"{place}{path}", dst_path=str(folder), tracking_uri=store.uri))
    except (MlflowException, OSError, BotoCoreError, ClientError) as error:
        message = f"{what} cannot be fetched from {place}: {explain_error(error)}"
        raise RegistryError(message, transient=may_pass(error)) from error


def refuse_foreign_server(store: MlflowStore, place: str) -> None:
    """Raise a RegistryError if files are on another server, which would receive the user's name and password."""
    if is_foreign_server(store.uri, place):
        raise RegistryError(
            f"the address of its files is {place}, which is not the MLflow server "
            f"{store.uri}: nothing is fetched, because that server would receive your user and "
            "password; register the version from files on the MLflow server itself"
        )


def create_version(
    store: MlflowStore, name: str, model: LoggedModel, run: Run, tags: Mapping[str, str], card: str, about: str
) -> ModelVersion:
    """Create a version of a logged model with its tags in one write, and the registered model if there is none.

    Args:
        card: the model card, which becomes the version's description.
        about: the registered model's description, unless it has one.
    """
    with _ignore("RESOURCE_ALREADY_EXISTS"):
        store.client.create_registered_model(name, description=about)
    if not getattr(registered(store, name), "description", None):  # made by an earlier Twofold
        store.client.update_registered_model(name, about)
    with _default_store(store):
        made = store.client.create_model_version(
            name,
            source=f"models:/{model.model_id}",
            run_id=run.info.run_id,
            model_id=model.model_id,
            tags=dict(tags),
            description=version_description(card),
        )
    first, *others = versions_of_candidate(store, name, tags[KEY]) or [made]
    for other in others:  # the request was repeated after a lost answer
        store.client.delete_model_version(name, str(other.version))
    return first


def registered(store: MlflowStore, name: str) -> RegisteredModel | None:
    """Return a registered model with its tags and aliases, read at once; None if there is none."""
    with _ignore("RESOURCE_DOES_NOT_EXIST"):
        return store.client.get_registered_model(name)
    return None


def versions(store: MlflowStore, name: str) -> list[ModelVersion]:
    """Return every version of a registered model, oldest first."""
    found: list[ModelVersion] = all_pages(store.client.search_model_versions, 1000, filter_string=f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version))


def set_alias(store: MlflowStore, name: str, alias: str, version: int | None) -> None:
    """Move an alias to a version, or delete it with None; this is the only function that moves aliases.

    Only `twofold.registry.transitions` may call it, which holds the lock and has written the reason into the ledger.
    """
    if version is None:
        store.client.delete_registered_model_alias(name, alias)
    else:
        store.client.set_registered_model_alias(name, alias, str(version))


def tag_model(store: MlflowStore, name: str, key: str, value: str) -> None:
    """Set a tag of a registered model, of at most LONGEST_MODEL_TAG characters."""
    if len(value) > LONGEST_MODEL_TAG:
        raise RegistryError(f"tag {key} of '{name}': {len(value)} characters, at most {LONGEST_MODEL_TAG} are kept")
    store.client.set_registered_model_tag(name, key, value)


def create_unique(store: MlflowStore, name: str, tags: Mapping[str, str], description: str = "") -> bool:
    """Create a registered model, which only one process can do; return False if another process has done it."""
    # The last two: MLflow's database reads the existing model, which may be gone by then, or the database is busy.
    with _ignore("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "TEMPORARILY_UNAVAILABLE"):
        store.client.create_registered_model(name, tags=dict(tags), description=description)
        return True
    return False


def models_named(store: MlflowStore, prefix: str) -> list[RegisteredModel]:
    """Return the registered models whose names begin with a prefix, with their tags."""
    query = f"name LIKE '{prefix}%'"
    found: list[RegisteredModel] = all_pages(store.client.search_registered_models, 100, filter_string=query)
    # In the query, `_` matches any character, and SQLite ignores case.
    return [model for model in found if model.name.startswith(prefix)]


def remove(store: MlflowStore, name: str) -> None:
    """Delete a registered model without versions; ignore one that is gone or that the user may not delete."""
    with _ignore("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"):
        store.client.delete_registered_model(name)


def try_write(write: Callable[[], None]) -> str:
    """Try an optional write, and return the error's message, or nothing if it succeeded."""
    try:
        write()
    except (MlflowException, SQLAlchemyError, OSError) as error:
        return explain_error(error)
    return ""


def tag_version(store: MlflowStore, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Set the tags that the version lacks or has with another value."""
    for key, value in tags.items():
        if version.tags.get(key) != value:
            store.client.set_model_version_tag(version.name, version.version, key, value)


def version_description(card: str) -> str:
    """Return a model card as the description of a version that every store keeps.

    The MLflow UI draws no space between the cells of a table, so each gets one. A card that is too long is cut after
    its last section that fits.
    """
    lines = (re.sub(r" \| (?!---)", " | &ensp;", line) if line[:2] == "| " else line for line in card.split("\n"))
    description = "\n".join(lines)
    if len(description) <= DESCRIPTION:
        return description
    end = "\n\n(The whole card is `registration/model_card.md` of the run.)"
    front = description[: DESCRIPTION - len(end)]
    return (front.rpartition("\n## ")[0].rstrip() or front) + end


@contextmanager
def _ignore(*codes: str) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


@contextmanager
def _default_store(store: MlflowStore) -> Iterator[None]:
    # A SQL registry looks logged models up in MLflow's process-wide store, not in the client's.
    before = os.environ.get("MLFLOW_TRACKING_URI")
    set_tracking_uri(store.uri)
    try:
        yield
    finally:
        set_tracking_uri(None)  # type: ignore[arg-type]
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
