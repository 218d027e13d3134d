"""The evaluation of a version as its run has logged it: predictions, decision and metrics.

`fetch_evaluation` takes a version in the registry and returns its evaluation, from which its gates can be evaluated
again. `find_differences` lists contradictions between its records. No prediction is made and no weights are loaded.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from twofold.core.artifacts import file_sha256, read_json
from twofold.core.errors import RegistryError
from twofold.evaluation.predictions import PREDICTIONS, Predictions, fingerprint
from twofold.evaluation.predictions import read as read_predictions
from twofold.metrics.classification import METRICS_FILE, metrics_summary
from twofold.metrics.decision_threshold import DECISION
from twofold.registry.lineage import recorded_lineage, sha256_of
from twofold.serving.model_resolver import fetch_sealed
from twofold.serving.sealed_model import sealed_splits
from twofold.tracking.registry_client import KEY, ModelVersion
from twofold.tracking.runs import Run, fetch_file
from twofold.tracking.store import MlflowStore

EVALUATION, CHAMPIONS = "evaluation", "champions"  # folders of a run's files
# Tag of a version, followed by a champion's number: the run and the SHA-256 of what register logged, RUN_ID/SHA256.
CHAMPION_PREDICTIONS = "twofold.champion_predictions."
CLOSE = 1e-9
CALIBRATION = {"temperature", "platt_slope", "platt_intercept"}  # earlier decisions have the first, or none


@dataclass(frozen=True)
class RecordedEvaluation:
    """The logged evaluation of a version.

    Attributes:
        run: the run that judged the version.
        test: predictions on the test images.
        decision: content of decision.json.
        metrics: content of metrics.json.
        champions: predictions of champions on the test images compared when register judged the version, by version.
        digests: SHA-256 of the files `decision`, `predictions` and `predictions of version N`, and of `metrics` as in
            the lineage.
        sealed: folder of the sealed model, verified against its seal.
    """

    version: ModelVersion
    run: Run
    test: Predictions
    decision: dict[str, Any]
    metrics: dict[str, Any]
    champions: Mapping[str, Predictions]
    digests: Mapping[str, str]
    sealed: Path

    @property
    def number(self) -> int:
        return int(self.version.version)

    @property
    def threshold(self) -> float:
        return float(self.decision["threshold"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted (sha256, label) of the test images."""
        return fingerprint(self.test.sha256, self.test.label)

    @cached_property
    def splits(self) -> dict[str, frozenset[str]]:
        """The SHA-256 of the images that the model was trained, validated and tested on.

        Raises:
            ArtifactError: they were not sealed with it.
        """
        return sealed_splits(self.sealed)


def fetch_evaluation(store: MlflowStore, version: ModelVersion, folder: Path) -> RecordedEvaluation:
    """Download a version's evaluation and sealed model into a folder.

    Raises:
        RegistryError: the version has no run, or its files or those of the run are gone.
        ArtifactError: a file cannot be read, or the sealed model was altered.
    """
    if not version.run_id:
        raise RegistryError(f"version {version.version} names no run: it was not registered by Twofold")
    place = folder / f"version-{version.version}"
    place.mkdir(parents=True, exist_ok=True)
    files = (f"{EVALUATION}/{name}" for name in (PREDICTIONS, DECISION, METRICS_FILE))
    predictions, decision, metrics = (fetch_file(store, version.run_id, file, place) for file in files)
    values = read_json(metrics)
    champions = {
        tag.removeprefix(CHAMPION_PREDICTIONS): fetch_file(store, run_id, f"{CHAMPIONS}/{sha256}.parquet", place)
        for tag, value in version.tags.items()
        if tag.startswith(CHAMPION_PREDICTIONS)
        for run_id, _, sha256 in [value.partition("/")]
    }
    return RecordedEvaluation(
        version=version,
        run=store.client.get_run(version.run_id),
        test=read_predictions(predictions).of("test"),
        decision=read_json(decision),
        metrics=values,
        champions={number: read_predictions(path) for number, path in champions.items()},
        digests={
            "decision": file_sha256(decision),
            "predictions": file_sha256(predictions),
            "metrics": sha256_of(values),
            **{f"predictions of version {number}": file_sha256(path) for number, path in champions.items()},
        },
        sealed=fetch_sealed(store, version, place / "model"),
    )


def find_differences(evaluation: RecordedEvaluation) -> dict[str, list[str]]:
    """Compare a version's evaluation with its tags and its run; return the differences by what was compared."""
    tags, decision = evaluation.version.tags, evaluation.decision
    lineage_digests = recorded_lineage(evaluation.version).get("digests", {})
    compared: dict[str, tuple[str, Any, Any]] = {
        "decision": ("SHA-256", evaluation.digests["decision"], tags.get("twofold.decision_digest")),
        "model in the decision": ("digest", decision.get("model_digest"), tags.get("twofold.model_digest")),
        "test images": ("fingerprint", evaluation.fingerprint, tags.get("twofold.test_fingerprint")),
        "key": ("key", candidate_key(tags), tags.get(KEY)),
        "predictions": ("SHA-256", evaluation.digests["predictions"], lineage_digests.get("predictions")),
        "metrics": ("SHA-256", evaluation.digests["metrics"], lineage_digests.get("metrics")),
    }
    for number in evaluation.champions:
        recorded = tags.get(f"{CHAMPION_PREDICTIONS}{number}", "").rpartition("/")[2]
        name = f"predictions of version {number}"
        compared[name] = ("SHA-256", evaluation.digests[name], recorded)
    differences = {
        name: [] if actual == recorded else [f"{what} is {actual}, recorded is {recorded}"]
        for name, (what, actual, recorded) in compared.items()
    }
    summary = metrics_summary(evaluation.test.target, evaluation.test.probability, evaluation.threshold)
    recomputed = {name: value for name, value in summary.items() if isinstance(value, int | float)}
    recomputed["threshold"] = evaluation.threshold
    recomputed |= {key: float(decision[key]) for key in decision.keys() & CALIBRATION}
    differences["metrics in metrics.json"] = _compare_metrics(recomputed, evaluation.metrics)
    differences["metrics in MLflow's run"] = _compare_metrics(recomputed, evaluation.run.data.metrics)
    return differences


def candidate_key(tags: Mapping[str, str]) -> str:
    """A candidate's key, computed from the digests in its version's tags."""
    parts = [tags.get(f"twofold.{name}", "") for name in ("model_digest", "decision_digest", "test_fingerprint")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _compare_metrics(recomputed: Mapping[str, float], recorded: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in recomputed.items():
        found = recorded.get(name)
        if not isinstance(found, int | float) or not math.isclose(found, value, rel_tol=CLOSE, abs_tol=CLOSE):
            lines.append(f"{name} is {found}, the logged predictions give {value}")
    return lines
