"""Read from MLflow about `corner`, the registered model of registration_case."""

from mlflow import MlflowClient

from twofold.registry import ledger as ledgers
from twofold.tracking import registry_client
from twofold.tracking import store as tracking


def client() -> MlflowClient:
    """The client of the current store."""
    return tracking.connect().client


def champion() -> int | None:
    """The version with the alias `champion`."""
    found = registry_client.version_by_alias(tracking.connect(), "corner")
    return None if found is None else int(found.version)


def ledger() -> tuple[ledgers.Entry, ...]:
    """The valid entries."""
    return ledgers.read(client().get_registered_model("corner").tags).entries


def versions() -> list[int]:
    """The numbers of all versions, latest first."""
    return [int(version.version) for version in client().search_model_versions("name = 'corner'")]
