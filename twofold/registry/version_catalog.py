"""The versions of a registered model as plain values: all of them, one of them, two compared, and their history.

Takes a catalog, which `open_catalog` reads. Returns JSON objects, which `twofold.registry.version_text` formats. Only
reads: the unfinished change of a killed process is reported and left as it is. Without a store, a local registry is
read without MLflow, which takes seconds to import; where only MLflow can, `NeedsMlflowError` is raised.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any, NamedTuple

from twofold.core.drafts import scratch_folder
from twofold.core.errors import RegistryError
from twofold.core.redaction import without_credentials
from twofold.registry import ledger as ledgers
from twofold.registry import verdict_store
from twofold.registry.ledger import Ledger
from twofold.registry.lineage import json_tag, recorded_lineage
from twofold.tracking.registry_reader import (
    CHALLENGER,
    CHAMPION,
    CONDITIONS,
    FIGURES,
    JUDGED_AGAINST,
    KEY,
    NeedsMlflowError,
    read_model,
    read_run,
)
from twofold.tracking.store import MlflowStore, address, flatten, ui_command
from twofold.tracking.urls import LOCAL_UI, ui_page

HEADLINE = ("accuracy", "f1", "roc_auc")  # metrics in a list of versions


class Catalog(NamedTuple):
    """A registered model: its ledger, the problems of that and of the aliases, and its versions, oldest first."""

    name: str
    store: MlflowStore | None
    ledger: Ledger
    problems: list[str]
    versions: Sequence[Any]


def open_catalog(name: str, store: MlflowStore | None = None) -> Catalog:
    """Read a registered model from a store, or without MLflow."""
    if store is None:
        model = read_model(name)
        return Catalog(name, None, *ledgers.inspect(name, model, model.find), model.versions)
    from twofold.registry.transitions import inspect_ledger
    from twofold.tracking import registry_client

    return Catalog(name, store, *inspect_ledger(store, name), registry_client.versions(store, name))


def list_versions(catalog: Catalog) -> list[dict[str, Any]]:
    """Every version, latest first, with its status, main metrics and origin; one that Twofold did not make has none."""
    # Versions that an earlier Twofold made have their main metrics in their runs alone.
    old = [each.run_id for each in catalog.versions if KEY in each.tags and FIGURES not in each.tags]
    runs = _runs(catalog, old) if old else {}
    rows = []
    for version in reversed(catalog.versions):
        run = runs.get(version.run_id or "")
        metrics = main_metrics(json_tag(version, FIGURES) if run is None else run.data.metrics)
        rows.append(
            {
                "version": int(version.version),
                "standing": status(catalog.ledger, int(version.version)),
                "foreign": KEY not in version.tags,
                "figures": {key: metrics[key] for key in HEADLINE if key in metrics},
                "n": int(metrics["n"]) if "n" in metrics else None,
                "made": version.creation_timestamp,
                "commit": recorded_lineage(version).get("git", {}).get("commit"),
                "data_fingerprint": version.tags.get("twofold.data_fingerprint"),
            }
        )
    return rows


def _runs(catalog: Catalog, ids: list[str | None]) -> dict[str, Any]:
    if catalog.store is None:
        raise NeedsMlflowError("the metrics of several runs")
    from twofold.tracking.runs import runs_by_id

    return dict(runs_by_id(catalog.store, ids))


def describe(catalog: Catalog, selector: str) -> dict[str, Any]:
    """One version: gates, metrics, lineage, links, and every decision on it.

    Raises:
        RegistryError: there is no such version, or a record of it was changed.
    """
    from twofold.metrics.classification import METRICS
    from twofold.promotion.test_reuse import Looks

    ledger, version = catalog.ledger, select_version(catalog, selector)
    number, run_id = int(version.version), version.run_id or ""
    if catalog.store is None:
        metrics, experiment_id = read_run(run_id)
    else:
        run = _runs(catalog, [run_id]).get(run_id)
        metrics, experiment_id = ({}, None) if run is None else (run.data.metrics, str(run.info.experiment_id))
    digest = next((each.gates for each in reversed(ledger.entries) if each.version == number and each.gates), "")
    try:
        conditions = json.loads(version.tags.get(CONDITIONS, "{}"))
    except ValueError as error:
        raise RegistryError(f"version {number}: its tag {CONDITIONS} is not JSON: {error}") from None
    return {
        "name": catalog.name,
        "version": number,
        "standing": status(ledger, number),
        "foreign": KEY not in version.tags,
        "judged_against": version.tags.get(JUDGED_AGAINST) or None,
        "gates": verdict_store.load_verdict(catalog.store, version, digest) if digest else [],
        "conditions": conditions,
        "test_reuse": Looks.model_validate(conditions["test_reuse"]).words if "test_reuse" in conditions else None,
        "figures": {key: metrics[key] for key in (*METRICS, "threshold", "n") if key in metrics},
        "lineage": recorded_lineage(version),
        "decisions": [asdict(entry) for entry in ledger.entries if entry.version == number],
        "links": _links(catalog.name, number, run_id, experiment_id),
    }


def compare(catalog: Catalog, one: str, other: str) -> dict[str, Any]:
    """Two versions compared: metrics, predictions on the test images of both, and differences in lineage.

    Raises:
        RegistryError: there is no such version, a logged file of one is gone, or an image has different labels in the
            two tests.
        ArtifactError: a version's files were altered, or lack the lists of its images.
    """
    from twofold.metrics.classification import classification_metrics
    from twofold.registry.recorded_evaluation import compare_on_common_images, fetch_evaluation

    versions = [select_version(catalog, selector) for selector in (one, other)]
    with scratch_folder() as scratch:
        pair = [fetch_evaluation(catalog.store, each, scratch / str(place)) for place, each in enumerate(versions)]
        common = compare_on_common_images(*pair)
    first, second = (flatten(recorded_lineage(version)) for version in versions)
    return {
        "name": catalog.name,
        "versions": [each.number for each in pair],
        "standings": [status(catalog.ledger, each.number) for each in pair],
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


def history(catalog: Catalog) -> dict[str, Any]:
    """Every entry of the ledger in order, and the problems of the ledger and of the aliases."""
    ledger = catalog.ledger
    return {
        "name": catalog.name,
        "entries": [asdict(entry) | {"sha256": entry.sha256} for entry in ledger.entries],
        "void": [asdict(entry) for entry in ledger.void],
        "aliases": ledger.aliases,
        "problems": catalog.problems,
        "acknowledged": list(ledger.acknowledged),
        "unfinished": not ledger.settled,
    }


def select_version(catalog: Catalog, selector: str) -> Any:
    """Select a version by its number, or by `champion` or `challenger` as the ledger has them.

    Raises:
        RegistryError: there is no such version.
    """
    name, aliases = catalog.name, catalog.ledger.aliases
    number = str(aliases[selector] or "") if selector in aliases else selector
    by_number = {str(each.version): each for each in catalog.versions}
    if number in by_number:
        return by_number[number]
    if not by_number:
        raise RegistryError(f"'{name}' has no version in this store; see MLFLOW_TRACKING_URI and --name")
    known = ", ".join(f"{alias} ({version})" for alias, version in aliases.items() if version) or "none"
    raise RegistryError(
        f"'{name}' has no version '{selector}'; its versions are {', '.join(by_number)}, and by alias {known}"
    )


def _links(name: str, number: int, run_id: str, experiment_id: str | None) -> dict[str, str]:
    """The model and the run in the MLflow UI, and the reports among the run's files."""
    uri = without_credentials(address()).rstrip("/")
    base = uri if uri.startswith("http") else LOCAL_UI
    links = {"version": f"{base}/{ui_page('models', name, 'versions', str(number))}"}
    if experiment_id is not None:
        links["run"] = f"{base}/{ui_page('experiments', experiment_id, 'runs', run_id)}"
        links["decision page"] = f"registration/decision.html of run {run_id}"
        links["report"] = f"evaluation/evaluation.html of run {run_id}"
    links["model"] = f"models:/{name}/{number}"
    if base != uri:
        links["server"] = f"`{ui_command()}` starts it"
    return links


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
