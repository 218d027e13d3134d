"""The versions of a registered model as plain values: all of them, one of them, two compared, and their history.

Takes a store and a registered model's name. Returns JSON objects, which `twofold.registry.version_text` formats. Only
reads: the unfinished change of a killed process is reported and left as it is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from twofold.core.drafts import scratch_folder
from twofold.core.errors import RegistryError
from twofold.core.redaction import without_credentials
from twofold.metrics.classification import METRICS, classification_metrics
from twofold.promotion.test_reuse import Looks
from twofold.registry import verdict_store
from twofold.registry.approval import find_version
from twofold.registry.gate_reevaluation import compare_on_common_images
from twofold.registry.ledger import Ledger
from twofold.registry.lineage import json_tag, recorded_lineage
from twofold.registry.recorded_evaluation import fetch_evaluation
from twofold.registry.transitions import inspect_ledger
from twofold.tracking import registry_client
from twofold.tracking.registry_client import CHALLENGER, CHAMPION, CONDITIONS, FIGURES, JUDGED_AGAINST, ModelVersion
from twofold.tracking.runs import runs_by_id
from twofold.tracking.store import MlflowStore, flatten, ui_command

HEADLINE = ("accuracy", "f1", "roc_auc")  # metrics in a list of versions


def list_versions(store: MlflowStore, name: str) -> list[dict[str, Any]]:
    """Every version, latest first, with its status, main metrics and origin; one that Twofold did not make has none."""
    ledger, _ = inspect_ledger(store, name)
    versions = registry_client.versions(store, name)
    earlier = [each.run_id for each in versions if registry_client.KEY in each.tags and FIGURES not in each.tags]
    runs = runs_by_id(store, earlier)
    rows = []
    for version in reversed(versions):
        run = runs.get(version.run_id or "")
        metrics = main_metrics(run.data.metrics if run else json_tag(version, FIGURES))
        rows.append(
            {
                "version": int(version.version),
                "standing": status(ledger, int(version.version)),
                "foreign": registry_client.KEY not in version.tags,
                "figures": {key: metrics[key] for key in HEADLINE if key in metrics},
                "n": int(metrics["n"]) if "n" in metrics else None,
                "made": version.creation_timestamp,
                "commit": recorded_lineage(version).get("git", {}).get("commit"),
                "data_fingerprint": version.tags.get("twofold.data_fingerprint"),
            }
        )
    return rows


def main_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that a list of versions shows, and the number of test images as `n`; those that are no number not."""
    found = {key: metrics.get(key) for key in (*HEADLINE, "n")}
    return {key: float(value) for key, value in found.items() if isinstance(value, int | float) and isfinite(value)}


def status(ledger: Ledger, version: int) -> str:
    """A version's status by the ledger: champion, challenger, was champion, was challenger, rejected, or empty."""
    if version == ledger.champion:
        return CHAMPION
    if version == ledger.challenger:
        return CHALLENGER
    highest = ledger.highest_status(version)
    return {CHAMPION: "was champion", CHALLENGER: "was challenger", None: ""}.get(highest, highest or "")


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
    base = uri if uri.startswith("http") else "http://127.0.0.1:5000"
    links = {"version": f"{base}/#/models/{version.name}/versions/{version.version}"}
    if experiment_id is not None:
        links["run"] = f"{base}/#/experiments/{experiment_id}/runs/{version.run_id}"
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
