"""The model that a command names: in comes a word, out comes a sealed model's folder, held to its seal.

| the word | is |
|---|---|
| `champion`, `3` | an alias or a version of the registered model that params.yaml names |
| `models:/NAME@champion`, `models:/NAME/3` | the same of any registered model |
| a folder | a sealed model's, or that of an MLflow model that holds one |

What lies in a registry is fetched as files and checked against the SHA-256 in the version's tags; nothing of it is run.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion as ModelVersion
from mlflow.exceptions import MlflowException

from twofold.core.errors import RegistryError
from twofold.serving.sealed_model import check_seal
from twofold.tracking.registry_client import SEAL, refuse_foreign_server
from twofold.tracking.store import MlflowStore, permission_error, without_credentials

if TYPE_CHECKING:
    from twofold.serving.sealed_model import SealedModel

    pass

DIGITS = 12  # of a seal's SHA-256, where it stands for a version, as in twofold/serving/pyfunc_model.py
_SEAL = "seal.json"
_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<number>\d+)|@(?P<alias>[^/@]+))")
_WORD = re.compile(r"(?P<number>\d+)|(?P<alias>[A-Za-z][\w.-]*)", re.ASCII)


class ResolvedModel(NamedTuple):
    """A model: its folder, which lasts as long as the block does, and which one it is: `twofold/3`, `sealed/1f2e…`."""

    folder: Path
    sealed: "SealedModel"
    version: str


@contextmanager
def resolve_model(model: str, name: Callable[[], str]) -> Iterator[ResolvedModel]:
    """Find the model, fetch it if it lies in a registry, and check every file of it.

    Args:
        model: the word, see above.
        name: gives the name of the registered model; called only where the word names none.

    Raises:
        RegistryError: there is no such model, alias or version.
        ArtifactError: a file of it is missing or altered.
    """
    from twofold.serving.sealed_model import open_sealed

    if (local := _local(Path(model))) is not None:
        sealed = open_sealed(local)
        yield ResolvedModel(local, sealed, f"sealed/{sealed.digest[:DIGITS]}")
        return
    found = _ADDRESS.fullmatch(model) or _WORD.fullmatch(model)
    if found is None:
        raise RegistryError(
            f"model: found {model!r}, which is no folder of a sealed model; allowed are an alias (champion), a version "
            "(3), models:/NAME@ALIAS, models:/NAME/VERSION, or the folder of a sealed model"
        )
    parts = found.groupdict()
    registered = parts.get("name") or name()
    with tempfile.TemporaryDirectory(prefix="twofold-model-") as scratch:
        folder, seal, number = _fetch(registered, parts["number"], parts["alias"], Path(scratch))
        yield ResolvedModel(folder, open_sealed(folder, seal), f"{registered}/{number}")


def _local(path: Path) -> Path | None:
    for folder in (path, path / "sealed", path / "artifacts" / "sealed"):
        if (folder / _SEAL).is_file():
            return folder
    return None


def _fetch(name: str, number: str | None, alias: str | None, folder: Path) -> tuple[Path, str, str]:
    """The sealed folder of a version, the seal in its tags, and its number."""
    from twofold.tracking import registry_client
    from twofold.tracking import store as tracking

    store = tracking.connect()
    with tracking.readable_errors(store.uri):
        if number is not None:
            version = registry_client.version(store, name, number)
        else:
            version = registry_client.version_by_alias(store, name, str(alias))
        if version is None:
            what = f"version {number}" if number is not None else f"alias '{alias}'"
            where = tracking.without_credentials(store.uri)
            raise RegistryError(f"the registered model '{name}' has no {what} at {where} (MLFLOW_TRACKING_URI)")
        return (
            fetch_sealed(store, version, folder),
            version.tags[registry_client.SEAL],
            str(version.version),
        )


def fetch_sealed(store: MlflowStore, version: ModelVersion, folder: Path) -> Path:
    """Download a version's sealed folder and hold it to the seal in the version's tags; nothing of it is run.

    What is not the sealed model is not left in `folder`.

    Raises:
        RegistryError: the version was not sealed by Twofold, or its files are not in the store.
        ArtifactError: a file is missing, altered or added.
    """
    seal = version.tags.get(SEAL)
    if not seal:
        raise RegistryError(f"version {version.version} has no tag {SEAL}: it was not sealed by Twofold")
    place = store.client.get_model_version_download_uri(version.name, version.version)
    refuse_foreign_server(store, place)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as draft:
        try:
            found = Path(download_artifacts(f"{place}/artifacts/sealed", dst_path=draft, tracking_uri=store.uri))
        except (MlflowException, OSError, BotoCoreError, ClientError) as error:
            reason = without_credentials(permission_error(error) or str(error))
            raise RegistryError(f"its files cannot be fetched from {without_credentials(place)}: {reason}") from error
        check_seal(found, seal)
        return found.rename(folder / found.name)
