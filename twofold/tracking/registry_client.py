"""MLflow's model registry: logged models, versions, and the one place where an alias moves.

In: a store, a registered model's name, a packed model. Out: a logged model, a version with its tags, an alias.
Everything is found again by tags, so that a register that was killed goes on where it stopped.
"""

import os
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
from twofold.tracking.runs import Run, readable_file_errors
from twofold.tracking.store import MlflowStore, permission_error, without_credentials
from twofold.tracking.urls import is_foreign_server

KEY = "twofold.key"  # of a candidate: digest of model, decision and test images
SEAL = "twofold.seal"  # SHA-256 of seal.json
SMOKE_TESTED = "twofold.rehearsed"  # of a logged model: the largest difference in its rehearsal
JUDGED_AGAINST = "twofold.judged_against"  # of a version: the champion's version at the time, or nothing
CONDITIONS = "twofold.conditions"  # of a version: `gates` and `reference_since` that it was held to, as JSON
LONGEST_TAG = 100_000  # characters of a version's or a registered model's tag
DESCRIPTION = 5000  # characters that every store keeps

CHAMPION, CHALLENGER = "champion", "challenger"  # aliases of a version
REJECTED = "rejected"  # what a version without an alias may have come to


def version_by_alias(store: MlflowStore, name: str, alias: str = CHAMPION) -> ModelVersion | None:
    """The version that an alias points to now."""
    model = registered(store, name)
    found = None if model is None else model.aliases.get(alias)
    return None if found is None else store.client.get_model_version(name, str(found))


def version_of_candidate(store: MlflowStore, name: str, key: str) -> ModelVersion | None:
    """The version that holds this candidate, if it was registered before."""
    # Filtered here as well: not every store filters versions by tags.
    found = store.client.search_model_versions(f"name = '{name}' AND tags.`{KEY}` = '{key}'")
    versions = [version for version in found if version.tags.get(KEY) == key]
    return min(versions, key=lambda version: int(version.version), default=None)


def version(store: MlflowStore, name: str, number: str) -> ModelVersion | None:
    """A version by its number; None if it has been deleted."""
    try:
        return store.client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def logged_model(store: MlflowStore, experiment_id: str, key: str, seal: str) -> LoggedModel | None:
    """The logged model of this candidate and seal, whole or begun."""
    found = store.client.search_logged_models([experiment_id], f"tags.`{KEY}` = '{key}' AND tags.`{SEAL}` = '{seal}'")
    # A whole one before one whose upload was interrupted.
    return min(found, key=lambda model: model.status != LoggedModelStatus.READY, default=None)


def begin_model(store: MlflowStore, run: Run, name: str, tags: Mapping[str, str]) -> LoggedModel:
    """Make the logged model's entry, to which its files are then uploaded."""
    return store.client.create_logged_model(
        run.info.experiment_id, name=name, source_run_id=run.info.run_id, tags=dict(tags)
    )


def upload(store: MlflowStore, model: LoggedModel, packed: Path) -> None:
    """Upload a packed model's files and declare it whole."""
    with readable_file_errors(store):
        store.client.log_model_artifacts(model.model_id, str(packed))
    store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def name_output(store: MlflowStore, run: Run, model: LoggedModel) -> None:
    """Name a logged model as a run's output, once."""
    outputs = store.client.get_run(run.info.run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        store.client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])


def download(store: MlflowStore, model: LoggedModel, folder: Path) -> Path:
    """The files of a logged model as the store gives them back.

    Raises:
        RegistryError: they are not there, or the place where they lie cannot be reached.
    """
    place = model.artifact_location
    try:
        return Path(download_artifacts(place, dst_path=str(folder), tracking_uri=store.uri))
    except (MlflowException, OSError, BotoCoreError, ClientError) as error:
        reason = without_credentials(permission_error(error) or str(error))
        raise RegistryError(
            f"the files of logged model {model.model_id} cannot be fetched from {without_credentials(place)}: {reason}"
        ) from error


def refuse_foreign_server(store: MlflowStore, place: str) -> None:
    """Refuse files that lie on another server: it would be sent the user's name and password."""
    if is_foreign_server(store.uri, place):
        raise RegistryError(
            f"its files are said to lie at {without_credentials(place)}, which is not the MLflow server {without_credentials(store.uri)}: not "
            "asked, as it would be told your user and password; register the version from files on the server itself"
        )


def create_version(
    store: MlflowStore, name: str, model: LoggedModel, run: Run, tags: Mapping[str, str], description: str
) -> ModelVersion:
    """Make a version of a logged model, its tags in the same write; the registered model is made if need be."""
    try:
        store.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with _default(store):
        return store.client.create_model_version(
            name,
            source=f"models:/{model.model_id}",
            run_id=run.info.run_id,
            model_id=model.model_id,
            tags=dict(tags),
            description=shorten_description(description),
        )


def registered(store: MlflowStore, name: str) -> RegisteredModel | None:
    """A registered model with its tags and aliases, as one read gives them; None if there is none."""
    try:
        return store.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def versions(store: MlflowStore, name: str) -> list[ModelVersion]:
    """Every version of a registered model, oldest first."""
    found: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = store.client.search_model_versions(f"name = '{name}'", max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def set_alias(store: MlflowStore, name: str, alias: str, version: int | None) -> None:
    """Give an alias to a version, or with None to nothing: the one function through which aliases move.

    It is for `twofold.registry.transitions` alone, which holds the lock and has written into the ledger why it moves.
    """
    if version is None:
        store.client.delete_registered_model_alias(name, alias)
    else:
        store.client.set_registered_model_alias(name, alias, str(version))


def tag_model(store: MlflowStore, name: str, key: str, value: str) -> None:
    """Set a tag of a registered model."""
    store.client.set_registered_model_tag(name, key, value)


def create_unique(store: MlflowStore, name: str, tags: Mapping[str, str]) -> bool:
    """Create a registered model of that name, which one process alone can do; False if another has done it."""
    try:
        store.client.create_registered_model(name, tags=dict(tags))
    except MlflowException as error:
        # MLflow's database looks up what was there first, which may be gone by then; or it is busy, and cannot tell.
        if error.error_code in ("RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "TEMPORARILY_UNAVAILABLE"):
            return False
        raise
    return True


def models_named(store: MlflowStore, prefix: str) -> list[RegisteredModel]:
    """The registered models whose names begin so, with their tags."""
    found: list[RegisteredModel] = []
    token: str | None = None
    while True:
        page = store.client.search_registered_models(f"name LIKE '{prefix}%'", max_results=100, page_token=token)
        # `_` in a pattern stands for any letter, and SQLite knows no capitals there.
        found += [model for model in page if model.name.startswith(prefix)]
        token = page.token
        if not token:
            return found


def remove(store: MlflowStore, name: str) -> None:
    """Delete a registered model that has no versions; one that is gone, or is someone else's to delete, stays so."""
    try:
        store.client.delete_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED"):
            raise


def try_write(write: Callable[[], None]) -> str:
    """Try a write on which nothing hangs; why it did not work, or nothing."""
    try:
        write()
    except (MlflowException, SQLAlchemyError, OSError) as error:
        return str(error)
    return ""


def tag_version(store: MlflowStore, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Set the tags that the version lacks or has with another value."""
    for key, value in tags.items():
        if version.tags.get(key) != value:
            store.client.set_model_version_tag(version.name, version.version, key, value)


def shorten_description(description: str) -> str:
    """A description that every store keeps whole: of one that is too long, the sections in front that fit."""
    if len(description) <= DESCRIPTION:
        return description
    end = "\n\n(The whole card is `registration/model_card.md` of the run.)"
    front = description[: DESCRIPTION - len(end)]
    return (front.rpartition("\n## ")[0].rstrip() or front) + end


@contextmanager
def _default(store: MlflowStore) -> Iterator[None]:
    # A SQL registry looks a logged model up in MLflow's process-wide store, not in the client's.
    before = os.environ.get("MLFLOW_TRACKING_URI")
    set_tracking_uri(store.uri)
    try:
        yield
    finally:
        set_tracking_uri(None)  # type: ignore[arg-type]
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before
