"""The versions of a registered model as plain values: all of them, one of them, two compared, and their history.

Takes a store and a registered model's name. Returns JSON objects, which `twofold.registry.version_text` formats. Only
reads: the unfinished change of a killed process is reported and left as it is.
"""

from typing import Any

from twofold.core.drafts import scratch_folder
from twofold.registry import verdict_store
from twofold.registry.recorded_evaluation import fetch_evaluation
from twofold.registry.transitions import inspect_ledger
from twofold.registry.version_list import (
    comparison_values,
    history_values,
    last_verdict,
    runs_with_metrics,
    select_version,
    version_rows,
    version_values,
)
from twofold.tracking import registry_client
from twofold.tracking.runs import runs_by_id
from twofold.tracking.store import MlflowStore


def list_versions(store: MlflowStore, name: str) -> list[dict[str, Any]]:
    """Every version, latest first, with its status, main metrics and origin; one that Twofold did not make has none."""
    ledger, _ = inspect_ledger(store, name)
    versions = registry_client.versions(store, name)
    runs = runs_by_id(store, version_list.runs_with_metrics(versions))
    return version_list.version_rows(ledger, versions, {run_id: run.data.metrics for run_id, run in runs.items()})


def describe(store: MlflowStore, name: str, selector: str) -> dict[str, Any]:
    """One version: gates, metrics, lineage, links, and every decision on it."""
    ledger, _ = inspect_ledger(store, name)
    version = select_version(name, selector, ledger, registry_client.versions(store, name))
    run = runs_by_id(store, [version.run_id]).get(version.run_id or "")
    metrics, experiment_id = ({}, None) if run is None else (run.data.metrics, str(run.info.experiment_id))
    digest = version_list.last_verdict(ledger, int(version.version))
    gates = verdict_store.load_verdict(store, version, digest) if digest else []
    return version_list.version_values(name, ledger, version, metrics, experiment_id, gates)


def compare(store: MlflowStore, name: str, one: str, other: str) -> dict[str, Any]:
    """Compare two versions: metrics, predictions on the test images of both, and differences in lineage.

    Raises:
        RegistryError: a logged file of a version is gone, or an image has different labels in the two tests.
        ArtifactError: a version's files were altered, or lack the lists of its images.
    """
    ledger, versions = inspect_ledger(store, name)[0], registry_client.versions(store, name)
    with scratch_folder() as scratch:
        pair = [
            fetch_evaluation(store, select_version(name, selector, ledger, versions), scratch / str(place))
            for place, selector in enumerate((one, other))
        ]
        return comparison_values(name, ledger, *pair)


def history(store: MlflowStore, name: str) -> dict[str, Any]:
    """Every entry of the ledger in order, and the problems of the ledger and of the aliases."""
    return version_list.history_values(name, *inspect_ledger(store, name))
