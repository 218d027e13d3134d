"""Resolve the model that a command names to the folder of a verified sealed model.

| name | meaning |
|---|---|
| `champion`, `3` | an alias or a version of the registered model that params.yaml names |
| `models:/NAME@champion`, `models:/NAME/3` | an alias or a version of any registered model |
| a folder | a sealed model, or an MLflow model that contains one |

Files from a registry are downloaded and checked against the SHA-256 in the version's tags; no code among them runs.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mlflow.entities.model_registry import ModelVersion as ModelVersion

from twofold.core.drafts import scratch_folder
from twofold.core.errors import RegistryError
from twofold.model.device import device, make_deterministic, warn_if_emulated
from twofold.serving.sealed_model import SEAL as SEAL_FILE
from twofold.serving.sealed_model import SealedModel, check_seal, open_sealed
from twofold.tracking import registry_client
from twofold.tracking.registry_client import SEAL, fetch, refuse_foreign_server
from twofold.tracking.store import MlflowStore, connect, readable_errors
from twofold.tracking.urls import require_server

DIGITS = 12  # of a seal's SHA-256, where it stands for a version, as in twofold/serving/pyfunc_model.py
_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<number>\d+)|@(?P<alias>[^/@]+))")
_WORD = re.compile(r"(?P<number>\d+)|(?P<alias>[A-Za-z][\w.-]*)", re.ASCII)


class ResolvedModel(NamedTuple):
    """A verified sealed model, its folder, and its version: `twofold/3` in a registry, `sealed/1f2e…` in a folder."""

    folder: Path
    sealed: SealedModel
    version: str


@contextmanager
def resolve_model(model: str, name: Callable[[], str]) -> Iterator[ResolvedModel]:
    """Find the model, download it for the duration of the block if it is in a registry, and verify all of its files.

    Args:
        model: see the table above.
        name: returns the name of the registered model; called only if `model` does not contain one.

    Raises:
        RegistryError: there is no such model, alias or version.
        ArtifactError: a file of the model is missing or altered.
    """
    for folder in (Path(model), Path(model) / "sealed", Path(model) / "artifacts" / "sealed"):
        if (folder / SEAL_FILE).is_file():
            sealed = open_sealed(folder)
            yield ResolvedModel(folder, sealed, f"sealed/{sealed.digest[:DIGITS]}")
            return
    match = _ADDRESS.fullmatch(model) or _WORD.fullmatch(model)
    if match is None:
        raise RegistryError(
            f"model: found {model!r}, which is not the folder of a sealed model; allowed are an alias (champion), a "
            "version (3), models:/NAME@ALIAS, models:/NAME/VERSION, or the folder of a sealed model"
        )
    parts = match.groupdict()
    registered_name = parts.get("name") or name()
    store = connect()
    require_server(store.uri)
    with scratch_folder() as scratch:
        with readable_errors(store.uri):
            version = _find_version(store, registered_name, parts["number"], parts["alias"])
            folder = fetch_sealed(store, version, scratch)
        yield ResolvedModel(folder, open_sealed(folder, version.tags[SEAL]), f"{registered_name}/{version.version}")


def _find_version(store: MlflowStore, name: str, number: str | None, alias: str | None) -> ModelVersion:
    if number is not None:
        version, what = registry_client.version(store, name, number), f"version {number}"
    else:
        version, what = registry_client.version_by_alias(store, name, str(alias)), f"alias '{alias}'"
    if version is None:
        raise RegistryError(f"the registered model '{name}' has no {what} at {store.uri} (MLFLOW_TRACKING_URI)")
    return version


def fetch_sealed(store: MlflowStore, version: ModelVersion, folder: Path) -> Path:
    """Download a version's sealed model and verify it against the seal in the version's tags.

    A download that fails leaves no file in `folder`.

    Raises:
        RegistryError: the version was not sealed by Twofold, or its files cannot be fetched from the store.
        ArtifactError: a file is missing, altered or added.
    """
    seal = version.tags.get(SEAL)
    if not seal:
        raise RegistryError(f"version {version.version} has no tag {SEAL}: it was not sealed by Twofold")
    place = store.client.get_model_version_download_uri(version.name, version.version)
    refuse_foreign_server(store, place)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as draft:
        files = fetch(store, "its files", place, "/artifacts/sealed", Path(draft))
        check_seal(files, seal)
        return files.rename(folder / files.name)


def prepare_inference(sealed: SealedModel) -> None:
    """Make inference deterministic, move the model to TWOFOLD_DEVICE, and warn if its precision is emulated there."""
    make_deterministic()
    warn_if_emulated(sealed.precision, device())
    sealed.classifier.to(device())
