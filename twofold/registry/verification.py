"""Verifying a version: everything that was recorded of it and can be recomputed is, and what differs is named.

In: a version in the registry. Out: a list of checks, each with its verdict: `as recorded`, `DIFFERS` or `not checked`,
the latter with the reason. Nothing is repaired and nothing of the version is run.
"""

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twofold.core.artifacts import file_sha256, read_json
from twofold.core.errors import RegistryError, TwofoldError
from twofold.metrics.metric_intervals import metric_intervals
from twofold.registry import approval, verdict_store
from twofold.registry.ledger import Entry, Ledger
from twofold.registry.lineage import UNKNOWN, recorded_lineage, sha256_of
from twofold.registry.recorded_evaluation import CLOSE, RecordedEvaluation, fetch_evaluation, find_differences
from twofold.registry.transitions import state
from twofold.serving.model_resolver import fetch_sealed
from twofold.serving.sealed_model import ARCHITECTURE, DECISION, open_sealed
from twofold.tracking.registry_client import SEAL, ModelVersion
from twofold.tracking.store import MlflowStore, flatten

SAME, DIFFERS, UNCHECKED = "as recorded", "DIFFERS", "not checked"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `detail` says what, or why it was not."""

    name: str
    verdict: str
    detail: str
    differences: tuple[str, ...] = ()


def verify(store: MlflowStore, name: str, which: str, raw: Path | None = None) -> tuple[int, list[dict[str, Any]]]:
    """Check a version; its number, and the checks as JSON objects.

    Args:
        store: of the registry.
        name: of the registered model.
        which: its number, or `champion` or `challenger`.
        raw: ingest's artifact, where images are that were not sealed.
    """
    ledger, wrong = state(store, name)
    version = approval.find_version(store, name, which, ledger)
    lineage = recorded_lineage(version)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        checks = _ledger(ledger, wrong, int(version.version))
        checks += _sealed(store, version, lineage, folder, raw)
        checks += _evidence(store, version, lineage, ledger, folder)
    return int(version.version), [asdict(check) for check in checks]


def _check(name: str, detail: str, found: list[str]) -> Check:
    return Check(name, DIFFERS if found else SAME, detail, tuple(found))


def _tried(name: str, detail: str, look: Callable[[], list[str]]) -> Check:
    """A check whose failure to find anything is a difference too."""
    try:
        return _check(name, detail, look())
    except TwofoldError as error:
        return Check(name, DIFFERS, detail, (str(error),))


def _ledger(ledger: Ledger, wrong: list[str], number: int) -> list[Check]:
    about = sum(entry.version == number for entry in ledger.entries)
    detail = f"{len(ledger.entries)} entries, {about} about this version; their chain, and the aliases"
    return [_check("ledger", detail, wrong)]


def _sealed(
    store: MlflowStore, version: ModelVersion, lineage: Mapping[str, Any], folder: Path, raw: Path | None
) -> list[Check]:
    place = folder / "sealed"

    def seal() -> list[str]:
        open_sealed(fetch_sealed(store, version, place), version.tags.get(SEAL))
        return []

    checks = [_tried("seal", "seal.json by the version's tag, every file of the model by seal.json; it loads", seal)]
    if checks[0].verdict != SAME:
        return checks
    found = next(place.rglob(ARCHITECTURE)).parent

    def parts() -> list[str]:
        lines = []
        decision, base = file_sha256(found / DECISION), read_json(found / ARCHITECTURE).get("base_sha256")
        if decision != version.tags.get("twofold.decision_digest"):
            lines.append(f"the sealed decision's SHA-256 is {decision}, recorded is another")
        if base != lineage.get("base_sha256"):
            lines.append(f"the sealed model's base weights are {base}, recorded is {lineage.get('base_sha256')}")
        return lines

    checks.append(_tried("sealed decision and base weights", "by the version's tags and its lineage", parts))
    try:
        count, there, largest = approval.check_version(store, version, approval.image_reader(raw))
    except TwofoldError as error:
        return [*checks, Check("answers", DIFFERS, "on the images sealed with it", (str(error),))]
    if count:
        detail = f"on {count} of {there} images sealed with it, probabilities differ by at most {largest:.2g}"
        return [*checks, Check("answers", SAME, detail)]
    return [*checks, Check("answers", UNCHECKED, "no images are sealed with it; name data that holds them with --data")]


def _evidence(
    store: MlflowStore, version: ModelVersion, lineage: Mapping[str, Any], ledger: Ledger, folder: Path
) -> list[Check]:
    try:
        evidence = fetch_evaluation(store, version, folder)
    except TwofoldError as error:
        return [Check("test", DIFFERS, "predictions, decision and figures of its run", (str(error),))]
    checks = [
        _check(what, "recomputed from what its run has logged", found)
        for what, found in find_differences(evidence).items()
    ]
    checks.append(_tried("intervals in metrics.json", "recomputed likewise", lambda: _intervals(evidence)))
    checks.append(_tried("parameters", "their SHA-256, and the steps' in its run", lambda: _params(lineage, evidence)))
    checks.append(_tried("lineage", "data and digests by the version's tags", lambda: _digests(lineage, version)))
    deciding = [entry for entry in ledger.entries if entry.version == int(version.version) and entry.gates]
    checks += [
        _tried(
            f"gates of entry {entry.number}",
            f"the verdict on which its '{entry.action}' rests, by the SHA-256 in the ledger",
            lambda entry=entry: _gates(store, version, entry),  # type: ignore[misc]
        )
        for entry in deciding
    ]
    commit = lineage.get("git", {}).get("commit", UNKNOWN)
    return [
        *checks,
        Check("training", UNCHECKED, f"`twofold models reproduce` makes it again from commit {commit[:12]}"),
    ]


def _params(lineage: Mapping[str, Any], evidence: RecordedEvaluation) -> list[str]:
    sections = lineage.get("params")
    if not isinstance(sections, Mapping):
        raise RegistryError("the version's lineage holds no parameters")
    lines = []
    if sha256_of(sections) != lineage.get("params_sha256"):
        lines.append(f"their SHA-256 is {sha256_of(sections)}, recorded is {lineage.get('params_sha256')}")
    logged = evidence.run.data.params
    # What register asks may have changed since its run was opened: the run is the model's, the gates a version's.
    steps = {step: section for step, section in sections.items() if step != "register"}
    for key, value in flatten(steps).items():
        if logged.get(key) != value:
            lines.append(f"{key} is {value!r}, in the run {logged.get(key)!r}")
    return lines


def _digests(lineage: Mapping[str, Any], version: ModelVersion) -> list[str]:
    data, digests = lineage.get("data", {}), lineage.get("digests", {})
    pairs = {
        "data_fingerprint": data.get("fingerprint"),
        "test_fingerprint": data.get("test_fingerprint"),
        "model_digest": digests.get("finetune_all"),
        "decision_digest": digests.get("decision"),
    }
    tags = version.tags
    return [
        f"{name} is {value}, the tag says {tags.get(f'twofold.{name}')}"
        for name, value in pairs.items()
        if value != tags.get(f"twofold.{name}")
    ]


def _gates(store: MlflowStore, version: ModelVersion, entry: Entry) -> list[str]:
    failed = [gate["name"] for gate in verdict_store.load_verdict(store, version, entry.gates) if not gate["passed"]]
    promoting = failed and entry.action in ("promote", "challenge")
    return [f"gates that were not passed: {', '.join(failed)}"] if promoting else []


def _intervals(evidence: RecordedEvaluation) -> list[str]:
    """The ends of every figure's interval, as the logged predictions give them."""
    again = metric_intervals(evidence.test.target, evidence.test.probability, evidence.threshold)
    logged = evidence.metrics.get("intervals")
    if not isinstance(logged, Mapping):
        raise RegistryError("metrics.json has no intervals")
    return [
        f"{figure} is {logged.get(figure)}, the logged predictions give {ends}"
        for figure, ends in again.items()
        if not _close(logged.get(figure), ends)
    ]


def _close(found: Any, ends: Mapping[str, Any]) -> bool:
    return isinstance(found, Mapping) and all(
        isinstance(found.get(end), float) and math.isclose(found[end], ends[end], rel_tol=CLOSE, abs_tol=CLOSE)
        for end in ("low", "high")
    )
