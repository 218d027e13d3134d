"""Verify a version: recompute every record that can be recomputed, and name the differences.

Takes a version in the registry. Returns a list of checks, each with its verdict: `as recorded`, `DIFFERS`, or
`not checked` with the reason. Nothing is repaired, and no code that was stored with the version is executed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twofold.core.artifacts import file_sha256, read_json
from twofold.core.drafts import scratch_folder
from twofold.core.errors import RegistryError, TwofoldError
from twofold.metrics.metric_intervals import metric_intervals
from twofold.registry import approval, verdict_store
from twofold.registry.ledger import Entry
from twofold.registry.lineage import UNKNOWN, recorded_lineage, sha256_of
from twofold.registry.recorded_evaluation import CLOSE, RecordedEvaluation, fetch_evaluation, find_differences
from twofold.registry.transitions import inspect_ledger
from twofold.serving.model_resolver import fetch_sealed
from twofold.serving.sealed_model import ARCHITECTURE, DECISION, open_sealed
from twofold.tracking.registry_client import SEAL, ModelVersion
from twofold.tracking.store import MlflowStore, as_params

# Of intervals in the records of earlier versions.
EARLIER_METHODS = ("wilson", "delong", "bca", "simulation", "test_inversion")
# All texts of checks are part of the `--json` output, which stays the same across versions.
SAME, DIFFERS, UNCHECKED = "as recorded", "DIFFERS", "not checked"


@dataclass(frozen=True)
class Check:
    """One check; `detail` says what was compared, or why it was not."""

    name: str
    verdict: str
    detail: str
    differences: tuple[str, ...] = ()


def verify(store: MlflowStore, name: str, selector: str, raw: Path | None = None) -> tuple[int, list[dict[str, Any]]]:
    """Check a version; return its number, and the checks as JSON objects.

    Args:
        selector: the version's number, `champion` or `challenger`.
        raw: ingest's artifact, which supplies golden samples that were sealed by their SHA-256 alone.
    """
    ledger, problems = inspect_ledger(store, name)
    version = approval.find_version(store, name, selector, ledger)
    number = int(version.version)
    lineage = recorded_lineage(version)
    own_entries = [entry for entry in ledger.entries if entry.version == number]
    detail = f"{len(ledger.entries)} entries, {len(own_entries)} about this version; their chain, and the aliases"
    checks = [_result("ledger", detail, problems)]
    with scratch_folder() as folder:
        checks += _check_sealed_model(store, version, lineage, folder / "sealed", raw)
        checks += _check_evaluation(store, version, lineage, own_entries, folder)
    return number, [asdict(check) for check in checks]


def _result(name: str, detail: str, differences: list[str]) -> Check:
    return Check(name, DIFFERS if differences else SAME, detail, tuple(differences))


def _check(name: str, detail: str, find: Callable[[], list[str]]) -> Check:
    """Run a check; an error is a difference too."""
    try:
        return _result(name, detail, find())
    except TwofoldError as error:
        return _result(name, detail, [str(error)])


def _check_sealed_model(
    store: MlflowStore, version: ModelVersion, lineage: Mapping[str, Any], folder: Path, raw: Path | None
) -> list[Check]:
    def open_model() -> list[str]:
        open_sealed(fetch_sealed(store, version, folder), version.tags.get(SEAL))
        return []

    detail = "seal.json by the version's tag, every file of the model by seal.json; it loads"
    checks = [_check("seal", detail, open_model)]
    if checks[0].verdict != SAME:
        return checks
    sealed = next(folder.rglob(ARCHITECTURE)).parent

    def compare_parts() -> list[str]:
        lines = []
        decision, base = file_sha256(sealed / DECISION), read_json(sealed / ARCHITECTURE).get("base_sha256")
        if decision != version.tags.get("twofold.decision_digest"):
            lines.append(f"the sealed decision's SHA-256 is {decision}, recorded is another")
        if base != lineage.get("base_sha256"):
            lines.append(f"the sealed model's base weights are {base}, recorded is {lineage.get('base_sha256')}")
        return lines

    checks.append(_check("sealed decision and base weights", "by the version's tags and its lineage", compare_parts))
    try:
        count, total, largest = approval.check_version(store, version, approval.image_reader(raw))
    except TwofoldError as error:
        return [*checks, Check("answers", DIFFERS, "on the images sealed with it", (str(error),))]
    if count:
        detail = f"on {count} of {total} images sealed with it, probabilities differ by at most {largest:.2g}"
        return [*checks, Check("answers", SAME, detail)]
    return [*checks, Check("answers", UNCHECKED, "no images are sealed with it; name data that holds them with --data")]


def _check_evaluation(
    store: MlflowStore, version: ModelVersion, lineage: Mapping[str, Any], own_entries: list[Entry], folder: Path
) -> list[Check]:
    try:
        evaluation = fetch_evaluation(store, version, folder)
    except TwofoldError as error:
        return [Check("test", DIFFERS, "predictions, decision and metrics of its run", (str(error),))]
    detail = "recomputed from what its run has logged"
    commit = lineage.get("git", {}).get("commit", UNKNOWN)
    return [
        *(_result(name, detail, differences) for name, differences in find_differences(evaluation).items()),
        _check("intervals in metrics.json", "recomputed likewise", lambda: _compare_intervals(evaluation)),
        _check("parameters", "their SHA-256, and the steps' in its run", lambda: _compare_params(lineage, evaluation)),
        _check("lineage", "data and digests by the version's tags", lambda: _compare_digests(lineage, version)),
        *(
            _check(
                f"gates of entry {entry.number}",
                f"the verdict on which its '{entry.action}' rests, by the SHA-256 in the ledger",
                lambda entry=entry: _find_failed_gates(store, version, entry),  # type: ignore[misc]
            )
            for entry in own_entries
            if entry.gates
        ),
        Check("training", UNCHECKED, f"`twofold models reproduce` makes it again from commit {commit[:12]}"),
    ]


def _compare_params(lineage: Mapping[str, Any], evaluation: RecordedEvaluation) -> list[str]:
    sections = lineage.get("params")
    if not isinstance(sections, Mapping):
        raise RegistryError("the version's lineage holds no parameters")
    lines = []
    if sha256_of(sections) != lineage.get("params_sha256"):
        lines.append(f"their SHA-256 is {sha256_of(sections)}, recorded is {lineage.get('params_sha256')}")
    logged = evaluation.run.data.params
    # The run belongs to the model, the gates to a version: register's parameters may have changed since the run began.
    steps = {step: section for step, section in sections.items() if step != "register"}
    for key, value in as_params(steps).items():
        if logged.get(key) != value:
            lines.append(f"{key} is {value!r}, in the run {logged.get(key)!r}")
    return lines


def _compare_digests(lineage: Mapping[str, Any], version: ModelVersion) -> list[str]:
    data, digests = lineage.get("data", {}), lineage.get("digests", {})
    recorded = {
        "data_fingerprint": data.get("fingerprint"),
        "test_fingerprint": data.get("test_fingerprint"),
        "model_digest": digests.get("finetune_all"),
        "decision_digest": digests.get("decision"),
    }
    return [
        f"{name} is {value}, the tag says {version.tags.get(f'twofold.{name}')}"
        for name, value in recorded.items()
        if value != version.tags.get(f"twofold.{name}")
    ]


def _find_failed_gates(store: MlflowStore, version: ModelVersion, entry: Entry) -> list[str]:
    failed = [gate["name"] for gate in verdict_store.load_verdict(store, version, entry.gates) if not gate["passed"]]
    promotes = entry.action in ("promote", "challenge")
    return [f"gates that were not passed: {', '.join(failed)}"] if failed and promotes else []


def _compare_intervals(evaluation: RecordedEvaluation) -> list[str]:
    """Compare the interval of every metric with that recomputed from the logged predictions.

    Intervals of an earlier version, which the name of a method tells, cannot be recomputed.
    """
    test = evaluation.test
    recomputed = metric_intervals(test.target, test.probability, evaluation.threshold, test.unit.tolist())
    logged = evaluation.metrics.get("intervals")
    if not isinstance(logged, Mapping):
        raise RegistryError("metrics.json has no intervals")
    if any(isinstance(found, Mapping) and found.get("method") in EARLIER_METHODS for found in logged.values()):
        return []
    return [
        f"{metric} is {logged.get(metric)}, the logged predictions give {interval}"
        for metric, interval in recomputed.items()
        if not _is_close(logged.get(metric), interval)
    ]


def _is_close(found: Any, interval: Mapping[str, Any]) -> bool:
    return isinstance(found, Mapping) and all(
        isinstance(found.get(bound), float)
        and math.isclose(found[bound], interval[bound], rel_tol=CLOSE, abs_tol=CLOSE)
        for bound in ("low", "high")
    )
