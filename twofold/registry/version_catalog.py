"""What is known of a registered model: its versions, one of them, two side by side, its history; as plain values.

In: a store and a registered model's name. Out: JSON objects, which `twofold.registry.version_text` puts into words. Reads
only; what a killed process has left undone stays so, and shows.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twofold.core.errors import RegistryError
from twofold.metrics.classification import METRICS, classification_metrics
from twofold.registry import verdict_store
from twofold.registry.approval import find_version
from twofold.registry.gate_reevaluation import compare_on_common_images
from twofold.registry.ledger import Entry, Ledger
from twofold.registry.lineage import recorded_lineage
from twofold.registry.recorded_evaluation import RecordedEvaluation, fetch_evaluation
from twofold.registry.transitions import state
from twofold.tracking import registry_client
from twofold.tracking.registry_client import CHALLENGER, CHAMPION, CONDITIONS, JUDGED_AGAINST, ModelVersion
from twofold.tracking.store import MlflowStore, without_credentials

HEADLINE = ("accuracy", "f1", "roc_auc")  # figures of a list


def list_versions(store: MlflowStore, name: str) -> list[dict[str, Any]]:
    """Every version, latest first: what it is, its main figures, where it comes from."""
    ledger, _ = state(store, name)
    found = []
    for version in reversed(registry_client.versions(store, name)):
        logged = store.client.get_run(version.run_id).data.metrics if version.run_id else {}
        lineage = recorded_lineage(version)
        found.append(
            {
                "version": int(version.version),
                "standing": status(ledger, int(version.version)),
                "figures": {key: logged[key] for key in HEADLINE if key in logged},
                "n": int(logged["n"]) if "n" in logged else None,
                "made": version.creation_timestamp,
                "commit": lineage.get("git", {}).get("commit"),
                "data_fingerprint": version.tags.get("twofold.data_fingerprint"),
            }
        )
    return found


def status(ledger: Ledger, version: int) -> str:
    """What a version is by the ledger: champion, challenger, was champion, rejected, or nothing of it."""
    if version == ledger.champion:
        return CHAMPION
    if version == ledger.challenger:
        return CHALLENGER
    given = ledger.given(version)
    return {CHAMPION: "was champion", CHALLENGER: "was challenger", None: ""}.get(given, given or "")


def describe(store: MlflowStore, name: str, which: str) -> dict[str, Any]:
    """One version: gates, figures, lineage, links, and every decision on it."""
    ledger, _ = state(store, name)
    version = find_version(store, name, which, ledger)
    number = int(version.version)
    run = store.client.get_run(version.run_id) if version.run_id else None
    metrics = {} if run is None else run.data.metrics
    entries = [entry for entry in ledger.entries if entry.version == number]
    return {
        "name": name,
        "version": number,
        "standing": status(ledger, number),
        "judged_against": version.tags.get(JUDGED_AGAINST) or None,
        "gates": verdict(store, version, entries),
        "conditions": _json(version, CONDITIONS, {}),
        "figures": {key: metrics[key] for key in (*METRICS, "threshold", "n") if key in metrics},
        "lineage": recorded_lineage(version),
        "decisions": [asdict(entry) for entry in entries],
        "links": links(store, version, None if run is None else run.info.experiment_id),
    }


def verdict(store: MlflowStore, version: ModelVersion, entries: list[Entry]) -> list[dict[str, Any]]:
    """The gates on which the last decision on a version rests, each with its figure and limit; none if none does."""
    digest = next((entry.gates for entry in reversed(entries) if entry.gates), None)
    return [] if digest is None else verdict_store.load_verdict(store, version, digest)


def links(store: MlflowStore, version: ModelVersion, experiment_id: str | None) -> dict[str, str]:
    """Where to look: the model and the run in MLflow, and the files of the run."""
    uri = without_credentials(store.uri).rstrip("/")
    base = uri if uri.startswith("http") else "http://127.0.0.1:5000"
    found = {"version": f"{base}/#/models/{version.name}/versions/{version.version}"}
    if experiment_id is not None:
        found["run"] = f"{base}/#/experiments/{experiment_id}/runs/{version.run_id}"
        found["decision page"] = f"registration/decision.html of run {version.run_id}"
        found["report"] = f"evaluation/evaluation.html of run {version.run_id}"
    found["model"] = f"models:/{version.name}/{version.version}"
    if base != uri:
        found["server"] = "`make ui` starts it"
    return found


def compare(store: MlflowStore, name: str, one: str, other: str) -> dict[str, Any]:
    """Two versions side by side: figures, answers to the images that both were tested on, and what differs in making.

    Raises:
        RegistryError: what was logged with one of them is gone, or an image's label has changed in between.
        ArtifactError: the files of one were altered, or lack the lists of its images.
    """
    ledger, _ = state(store, name)
    versions = [find_version(store, name, which, ledger) for which in (one, other)]
    with tempfile.TemporaryDirectory() as scratch:
        pair = [fetch_evaluation(store, version, Path(scratch) / str(place)) for place, version in enumerate(versions)]
        common = compare_on_common_images(*pair)
    lineages = [flatten(recorded_lineage(version)) for version in versions]
    keys = sorted(lineages[0].keys() | lineages[1].keys())
    return {
        "name": name,
        "versions": [int(version.version) for version in versions],
        "standings": [status(ledger, int(version.version)) for version in versions],
        "same_test": pair[0].fingerprint == pair[1].fingerprint,
        "own_tests": [{"n": len(each.test), "figures": _scored(each)} for each in pair],
        "same_images": None if common is None else common.as_json(),
        "made_differently": {
            key: [lineage.get(key) for lineage in lineages]
            for key in keys
            if lineages[0].get(key) != lineages[1].get(key)
        },
    }


def history(store: MlflowStore, name: str) -> dict[str, Any]:
    """Every entry of the ledger in order, and what is wrong with it or with the aliases."""
    ledger, wrong = state(store, name)
    return {
        "name": name,
        "entries": [asdict(entry) | {"sha256": entry.sha256} for entry in ledger.entries],
        "void": [asdict(entry) for entry in ledger.void],
        "aliases": ledger.aliases,
        "problems": wrong,
        "acknowledged": list(ledger.known),
        "unfinished": not ledger.settled,
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def _scored(evidence: RecordedEvaluation) -> dict[str, float]:
    return classification_metrics(evidence.test.target, evidence.test.probability, evidence.threshold)


def _json(version: ModelVersion, tag: str, missing: Any) -> Any:
    text = version.tags.get(tag)
    try:
        return missing if text is None else json.loads(text)
    except ValueError as error:
        raise RegistryError(f"version {version.version}: its tag {tag} is not JSON: {error}") from None
