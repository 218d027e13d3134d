"""The versions of a registered model as plain values: all of them, one of them, two compared, and their history.

Takes a store and a registered model's name. Returns JSON objects, which `twofold.registry.version_text` formats. Only
reads: the unfinished change of a killed process is reported and left as it is.
"""

import json
from dataclasses import asdict
from typing import Any

from twofold.core.drafts import scratch_folder
from twofold.core.errors import RegistryError
from twofold.core.redaction import without_credentials
from twofold.metrics.classification import METRICS, classification_metrics
from twofold.promotion.test_reuse import Looks
from twofold.registry import verdict_store
from twofold.registry.approval import find_version
from twofold.registry.gate_reevaluation import compare_on_common_images
from twofold.registry.lineage import recorded_lineage
from twofold.registry.recorded_evaluation import fetch_evaluation
from twofold.registry.transitions import inspect_ledger
from twofold.registry.version_list import runs_with_metrics, status, version_rows
from twofold.tracking import registry_client
from twofold.tracking.registry_client import CONDITIONS, JUDGED_AGAINST, ModelVersion
from twofold.tracking.runs import runs_by_id
from twofold.tracking.store import MlflowStore, flatten, ui_command
from twofold.tracking.urls import LOCAL_UI, ui_page


def list_versions(store: MlflowStore, name: str) -> list[dict[str, Any]]:
    """Every version, latest first, with its status, main metrics and origin; one that Twofold did not make has none."""
    ledger, _ = inspect_ledger(store, name)
    versions = registry_client.versions(store, name)
    runs = runs_by_id(store, runs_with_metrics(versions))
    return version_rows(ledger, versions, {run_id: run.data.metrics for run_id, run in runs.items()})


def describe(store: MlflowStore, name: str, selector: str) -> dict[str, Any]:
    """One version: gates, metrics, lineage, links, and every decision on it."""
    ledger, _ = inspect_ledger(store, name)
    version = find_version(store, name, selector, ledger)
    number = int(version.version)
    run = runs_by_id(store, [version.run_id]).get(version.run_id or "")
    metrics = {} if run is None else run.data.metrics
    entries = [entry for entry in ledger.entries if entry.version == number]
    conditions = _conditions(version)
    last_verdict = next((entry.gates for entry in reversed(entries) if entry.gates), None)
    return {
        "name": name,
        "version": number,
        "standing": status(ledger, number),
        "foreign": registry_client.KEY not in version.tags,
        "judged_against": version.tags.get(JUDGED_AGAINST) or None,
        "gates": [] if last_verdict is None else verdict_store.load_verdict(store, version, last_verdict),
        "conditions": conditions,
        "test_reuse": Looks.model_validate(conditions["test_reuse"]).words if "test_reuse" in conditions else None,
        "figures": {key: metrics[key] for key in (*METRICS, "threshold", "n") if key in metrics},
        "lineage": recorded_lineage(version),
        "decisions": [asdict(entry) for entry in entries],
        "links": _links(store, version, None if run is None else run.info.experiment_id),
    }


def _links(store: MlflowStore, version: ModelVersion, experiment_id: str | None) -> dict[str, str]:
    """The model and the run in the MLflow UI, and the reports among the run's files."""
    uri = without_credentials(store.uri).rstrip("/")
    base = uri if uri.startswith("http") else LOCAL_UI
    links = {"version": f"{base}/{ui_page('models', version.name, 'versions', str(version.version))}"}
    if experiment_id is not None:
        links["run"] = f"{base}/{ui_page('experiments', experiment_id, 'runs', version.run_id or '')}"
        links["decision page"] = f"registration/decision.html of run {version.run_id}"
        links["report"] = f"evaluation/evaluation.html of run {version.run_id}"
    links["model"] = f"models:/{version.name}/{version.version}"
    if base != uri:
        links["server"] = f"`{ui_command()}` starts it"
    return links


def compare(store: MlflowStore, name: str, one: str, other: str) -> dict[str, Any]:
    """Compare two versions: metrics, predictions on the test images of both, and differences in lineage.

    Raises:
        RegistryError: a logged file of a version is gone, or an image has different labels in the two tests.
        ArtifactError: a version's files were altered, or lack the lists of its images.
    """
    ledger, _ = inspect_ledger(store, name)
    versions = [find_version(store, name, selector, ledger) for selector in (one, other)]
    with scratch_folder() as scratch:
        pair = [fetch_evaluation(store, version, scratch / str(place)) for place, version in enumerate(versions)]
        common = compare_on_common_images(*pair)
    first, second = (flatten(recorded_lineage(version)) for version in versions)
    return {
        "name": name,
        "versions": [int(version.version) for version in versions],
        "standings": [status(ledger, int(version.version)) for version in versions],
        "same_test": pair[0].fingerprint == pair[1].fingerprint,
        "own_tests": [
            {
                "n": len(each.test),
                "figures": classification_metrics(each.test.target, each.test.probability, each.threshold),
            }
            for each in pair
        ],
        "same_images": None if common is None else common.as_json(),
        "made_differently": {
            key: [first.get(key), second.get(key)]
            for key in sorted(first.keys() | second.keys())
            if first.get(key) != second.get(key)
        },
    }


def history(store: MlflowStore, name: str) -> dict[str, Any]:
    """Every entry of the ledger in order, and the problems of the ledger and of the aliases."""
    ledger, problems = inspect_ledger(store, name)
    return {
        "name": name,
        "entries": [asdict(entry) | {"sha256": entry.sha256} for entry in ledger.entries],
        "void": [asdict(entry) for entry in ledger.void],
        "aliases": ledger.aliases,
        "problems": problems,
        "acknowledged": list(ledger.acknowledged),
        "unfinished": not ledger.settled,
    }


def _conditions(version: ModelVersion) -> Any:
    try:
        return json.loads(version.tags.get(CONDITIONS, "{}"))
    except ValueError as error:
        raise RegistryError(f"version {version.version}: its tag {CONDITIONS} is not JSON: {error}") from None
