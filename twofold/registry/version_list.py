"""The versions of a registered model as values: all, one, two compared, their history. Imports nothing heavy.

Reads a local registry without MLflow; `version_catalog` reads any other with it, and gives the same values.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

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
    read_model,
    read_run,
)
from twofold.tracking.store import address, flatten, ui_command
from twofold.tracking.urls import LOCAL_UI, ui_page

if TYPE_CHECKING:
    from twofold.registry.recorded_evaluation import RecordedEvaluation

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
    model = read_model(name)
    if model is None or runs_with_metrics(model.versions):
        return None
    ledger = ledgers.read(model.tags)
    return version_rows(ledger, model.versions, {}), ledger.problems


def read_version(name: str, selector: str) -> dict[str, Any] | None:
    """Return `version_values` without MLflow; None if only MLflow can read them."""
    if (model := read_model(name)) is None:
        return None
    ledger = ledgers.read(model.tags)
    version = select_version(name, selector, ledger, model.versions)
    digest = last_verdict(ledger, version.version)
    text = version.tags.get(verdict_store.tag(digest))
    if digest and text is None:  # it is too long for a tag
        return None
    gates = verdict_store.parse_verdict(text, digest) if digest else []
    return version_values(name, ledger, version, *read_run(version.run_id or ""), gates)


def read_history(name: str) -> dict[str, Any] | None:
    """Return `history_values` without MLflow; None if only MLflow can read them."""
    model = read_model(name)
    return None if model is None else history_values(name, *ledgers.inspect(name, model, model.find))


def read_comparison(name: str, one: str, other: str) -> dict[str, Any] | None:
    """Return `comparison_values` without MLflow; None if only MLflow can read them. Raises as `version_catalog`'s."""
    if (model := read_model(name)) is None:
        return None
    from twofold.registry.recorded_evaluation import read_evaluation

    ledger = ledgers.read(model.tags)
    versions = [select_version(name, selector, ledger, model.versions) for selector in (one, other)]
    pair = [found for version in versions if (found := read_evaluation(version))]
    return comparison_values(name, ledger, *pair) if len(pair) == len(versions) else None


def comparison_values(
    name: str, ledger: Ledger, one: "RecordedEvaluation", other: "RecordedEvaluation"
) -> dict[str, Any]:
    """Two versions compared: metrics, predictions on the test images of both, and differences in lineage."""
    from twofold.metrics.classification import classification_metrics
    from twofold.registry.recorded_evaluation import compare_on_common_images

    pair = (one, other)
    common = compare_on_common_images(*pair)
    first, second = (flatten(recorded_lineage(each.version)) for each in pair)
    return {
        "name": name,
        "versions": [each.number for each in pair],
        "standings": [status(ledger, each.number) for each in pair],
        "same_test": one.fingerprint == other.fingerprint,
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


def history_values(name: str, ledger: Ledger, problems: list[str]) -> dict[str, Any]:
    """Every entry of the ledger in order, and the problems of the ledger and of the aliases."""
    return {
        "name": name,
        "entries": [asdict(entry) | {"sha256": entry.sha256} for entry in ledger.entries],
        "void": [asdict(entry) for entry in ledger.void],
        "aliases": ledger.aliases,
        "problems": problems,
        "acknowledged": list(ledger.acknowledged),
        "unfinished": not ledger.settled,
    }


def select_version(name: str, selector: str, ledger: Ledger, versions: Sequence[Any]) -> Any:
    """Select a version by its number, or by `champion` or `challenger` as the ledger has them.

    Raises:
        RegistryError: there is no such version.
    """
    number = str(ledger.aliases[selector] or "") if selector in ledger.aliases else selector
    by_number = {str(each.version): each for each in versions}
    if number in by_number:
        return by_number[number]
    if not versions:
        raise RegistryError(f"'{name}' has no version in this store; see MLFLOW_TRACKING_URI and --name")
    aliases = ", ".join(f"{alias} ({version})" for alias, version in ledger.aliases.items() if version) or "none"
    raise RegistryError(
        f"'{name}' has no version '{selector}'; its versions are {', '.join(by_number)}, and by alias {aliases}"
    )


def version_values(
    name: str,
    ledger: Ledger,
    version: Any,
    metrics: Mapping[str, float],
    experiment_id: str | None,
    gates: list[dict[str, Any]],
) -> dict[str, Any]:
    """One version: gates, metrics, lineage, links, and every decision on it.

    Args:
        version: MLflow's, or that of `registry_reader`.
        metrics, experiment_id: of its run; no metrics and None if that is gone.
        gates: of its last verdict.
    """
    from twofold.metrics.classification import METRICS
    from twofold.promotion.test_reuse import Looks

    number = int(version.version)
    try:
        conditions = json.loads(version.tags.get(CONDITIONS, "{}"))
    except ValueError as error:
        raise RegistryError(f"version {number}: its tag {CONDITIONS} is not JSON: {error}") from None
    return {
        "name": name,
        "version": number,
        "standing": status(ledger, number),
        "foreign": KEY not in version.tags,
        "judged_against": version.tags.get(JUDGED_AGAINST) or None,
        "gates": gates,
        "conditions": conditions,
        "test_reuse": Looks.model_validate(conditions["test_reuse"]).words if "test_reuse" in conditions else None,
        "figures": {key: metrics[key] for key in (*METRICS, "threshold", "n") if key in metrics},
        "lineage": recorded_lineage(version),
        "decisions": [asdict(entry) for entry in ledger.entries if entry.version == number],
        "links": _links(name, number, version.run_id, experiment_id),
    }


def last_verdict(ledger: Ledger, number: int) -> str:
    """The SHA-256 of the last verdict on a version; empty if there is none."""
    return next((each.gates for each in reversed(ledger.entries) if each.version == number and each.gates), "")


def _links(name: str, number: int, run_id: str | None, experiment_id: str | None) -> dict[str, str]:
    """The model and the run in the MLflow UI, and the reports among the run's files."""
    uri = without_credentials(address()).rstrip("/")
    base = uri if uri.startswith("http") else LOCAL_UI
    links = {"version": f"{base}/{ui_page('models', name, 'versions', str(number))}"}
    if experiment_id is not None:
        links["run"] = f"{base}/{ui_page('experiments', experiment_id, 'runs', run_id or '')}"
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
