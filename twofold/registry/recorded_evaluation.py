"""What was recorded of a version's test: the predictions, the decision and the figures that its run has logged.

In: a version in the registry. Out: its evidence, and what of it does not fit together. Nothing is predicted anew and no
weights are loaded: it is what a judgement can be made from again.
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
from twofold.metrics.classification import metrics_summary
from twofold.metrics.decision_threshold import DECISION
from twofold.registry.lineage import recorded_lineage, sha256_of
from twofold.serving.model_resolver import fetch_sealed
from twofold.serving.sealed_model import sealed_splits
from twofold.tracking.registry_client import KEY, ModelVersion
from twofold.tracking.runs import Run, fetch_file
from twofold.tracking.store import MlflowStore

EVALUATION, METRICS = "evaluation", "metrics.json"  # folder of a run's files, and a file in it
CLOSE = 1e-9


@dataclass(frozen=True)
class RecordedEvaluation:
    """A version's test.

    Attributes:
        version: in the registry; `run`: that judged it.
        test: what it said of each test image.
        decision: decision.json; `metrics`: metrics.json.
        digests: SHA-256 of the files `decision` and `predictions`, and of `metrics` as `lineage` has it.
        sealed: the folder of the sealed model, held to its seal.
    """

    version: ModelVersion
    run: Run
    test: Predictions
    decision: dict[str, Any]
    metrics: dict[str, Any]
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
        """The images that the model was trained, validated and tested on.

        Raises:
            ArtifactError: they were not sealed with it.
        """
        return sealed_splits(self.sealed)


def fetch_evaluation(store: MlflowStore, version: ModelVersion, folder: Path) -> RecordedEvaluation:
    """Fetch a version's evidence.

    Raises:
        RegistryError: the version has no run, or its files or the run's are gone.
        ArtifactError: a file cannot be read, or the sealed model was altered.
    """
    if not version.run_id:
        raise RegistryError(f"version {version.version} names no run: it was not registered by Twofold")
    place = folder / f"version-{version.version}"
    place.mkdir(parents=True, exist_ok=True)
    paths = {
        name: fetch_file(store, version.run_id, f"{EVALUATION}/{name}", place)
        for name in (PREDICTIONS, DECISION, METRICS)
    }
    metrics = read_json(paths[METRICS])
    return RecordedEvaluation(
        version=version,
        run=store.client.get_run(version.run_id),
        test=read_predictions(paths[PREDICTIONS]).of("test"),
        decision=read_json(paths[DECISION]),
        metrics=metrics,
        digests={
            "decision": file_sha256(paths[DECISION]),
            "predictions": file_sha256(paths[PREDICTIONS]),
            "metrics": sha256_of(metrics),
        },
        sealed=fetch_sealed(store, version, place / "model"),
    )


def find_differences(evidence: RecordedEvaluation) -> dict[str, list[str]]:
    """What of a version's evidence differs from what the version's tags or its run say, by what was recomputed."""
    tags = evidence.version.tags
    found = {
        "decision": _differs("SHA-256", evidence.digests["decision"], tags.get("twofold.decision_digest")),
        "model in the decision": _differs(
            "digest", evidence.decision.get("model_digest"), tags.get("twofold.model_digest")
        ),
        "test images": _differs("fingerprint", evidence.fingerprint, tags.get("twofold.test_fingerprint")),
        "key": _differs("key", candidate_key(tags), tags.get(KEY)),
    }
    known = recorded_lineage(evidence.version).get("digests", {})
    for name in ("predictions", "metrics"):
        found[name] = _differs("SHA-256", evidence.digests[name], known.get(name))
    counted = metrics_summary(evidence.test.target, evidence.test.probability, evidence.threshold)
    again = {name: value for name, value in counted.items() if isinstance(value, int | float)}
    again["threshold"] = evidence.threshold
    if "temperature" in evidence.decision:  # a version from before there was one has none
        again["temperature"] = float(evidence.decision["temperature"])
    found["figures in metrics.json"] = _figures(again, evidence.metrics)
    found["figures in MLflow's run"] = _figures(again, evidence.run.data.metrics)
    return found


def candidate_key(tags: Mapping[str, str]) -> str:
    """A candidate's key, from the digests in its version's tags."""
    parts = [tags.get(f"twofold.{name}", "") for name in ("model_digest", "decision_digest", "test_fingerprint")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _differs(what: str, found: Any, recorded: Any) -> list[str]:
    return [] if found == recorded else [f"{what} is {found}, recorded is {recorded}"]


def _figures(again: Mapping[str, float], recorded: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in again.items():
        found = recorded.get(name)
        if not isinstance(found, int | float) or not math.isclose(found, value, rel_tol=CLOSE, abs_tol=CLOSE):
            lines.append(f"{name} is {found}, the logged predictions give {value}")
    return lines
