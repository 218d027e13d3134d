"""The versions of a registered model as rows of a list: status, main metrics and origin. Imports nothing heavy."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from twofold.registry import ledger as ledgers
from twofold.registry.ledger import Ledger
from twofold.registry.lineage import json_tag, recorded_lineage
from twofold.tracking.registry_reader import CHALLENGER, CHAMPION, FIGURES, KEY, read_model

HEADLINE = ("accuracy", "f1", "roc_auc")  # metrics in a list of versions


def version_rows(
    ledger: Ledger, versions: Sequence[Any], metrics_by_run: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a row for each version of MLflow's or of `registry_reader`, latest first, with the metrics of its run."""
    rows = []
    for version in reversed(versions):
        run = metrics_by_run.get(version.run_id or "")
        metrics = main_metrics(json_tag(version, FIGURES) if run is None else run)
        rows.append(
            {
                "version": int(version.version),
                "standing": status(ledger, int(version.version)),
                "foreign": KEY not in version.tags,
                "figures": {key: metrics[key] for key in HEADLINE if key in metrics},
                "n": int(metrics["n"]) if "n" in metrics else None,
                "made": version.creation_timestamp,
                "commit": recorded_lineage(version).get("git", {}).get("commit"),
                "data_fingerprint": version.tags.get("twofold.data_fingerprint"),
            }
        )
    return rows


def runs_with_metrics(versions: Sequence[Any]) -> list[str | None]:
    """Return the runs of the versions that an earlier Twofold made, without their main metrics in a tag."""
    return [each.run_id for each in versions if KEY in each.tags and FIGURES not in each.tags]


def read_versions(name: str) -> tuple[list[dict[str, Any]], tuple[str, ...]] | None:
    """Return the rows and the ledger's problems without MLflow; None if only MLflow can read them."""
    tags, versions = read_model(name) or ({}, None)
    if versions is None or runs_with_metrics(versions):
        return None
    ledger = ledgers.read(tags)
    return version_rows(ledger, versions, {}), ledger.problems


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
