"""The evaluation of a version as its run has logged it: predictions, decision and metrics.

`fetch_evaluation` takes a version in the registry and returns its evaluation, from which its gates can be evaluated
again. `find_differences` lists contradictions between its records, `compare_with` compares two versions. No prediction
is made and no weights are loaded.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.core.artifacts import file_sha256, read_json
from twofold.core.errors import ArtifactError, RegistryError, shortened
from twofold.evaluation.predictions import PREDICTIONS, Predictions, fingerprint
from twofold.evaluation.predictions import read as read_predictions
from twofold.metrics.classification import METRICS_FILE, metrics_summary
from twofold.metrics.decision_threshold import DECISION
from twofold.metrics.influence import ModelOutputs
from twofold.promotion.paired_comparison import Opponent, PairedComparison, compare, unscored
from twofold.registry.lineage import recorded_lineage, sha256_of
from twofold.serving.sealed_model import TOLERANCES, check_seal, sealed_splits
from twofold.tracking.registry_reader import KEY, SEAL, local_file, logged_file
from twofold.tracking.store import MlflowStore

EVALUATION, CHAMPIONS = "evaluation", "champions"  # folders of a run's files
# Tag of a version, followed by a champion's number: the run and the SHA-256 of what register logged, RUN_ID/SHA256.
CHAMPION_PREDICTIONS = "twofold.champion_predictions."
AGAIN = "run register again (`twofold run register --only --force`), which judges it against the current champion"
CLOSE = 1e-9
CALIBRATION = {"temperature", "platt_slope", "platt_intercept"}  # earlier decisions have the first, or none


@dataclass(frozen=True)
class RecordedEvaluation:
    """The logged evaluation of a version.

    Attributes:
        version, run: MLflow's version and the run that judged it; of `registry_reader` and None if read without MLflow.
        test: predictions on the test images.
        decision: content of decision.json.
        metrics: content of metrics.json.
        champions: predictions of champions on the test images compared when register judged the version, by version.
        digests: SHA-256 of the files `decision`, `predictions` and `predictions of version N`, and of `metrics` as in
            the lineage.
        sealed: folder of the sealed model, verified against its seal.
    """

    version: Any
    run: Any
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


def fetch_evaluation(store: MlflowStore | None, version: Any, folder: Path) -> RecordedEvaluation:
    """Download a version's evaluation and sealed model into a folder; without a store, read them where they lie.

    Raises:
        RegistryError: the version has no run, or its files or those of the run are gone.
        ArtifactError: a file cannot be read, or the sealed model was altered.
    """
    if not version.run_id:
        raise RegistryError(f"version {version.version} names no run: it was not registered by Twofold")
    place = folder / f"version-{version.version}"
    place.mkdir(parents=True, exist_ok=True)
    files = (f"{EVALUATION}/{name}" for name in (PREDICTIONS, DECISION, METRICS_FILE))
    predictions, decision, metrics = (logged_file(store, version.run_id, file, place) for file in files)
    values = read_json(metrics)
    champions = {
        tag.removeprefix(CHAMPION_PREDICTIONS): logged_file(store, run_id, f"{CHAMPIONS}/{sha256}.parquet", place)
        for tag, value in version.tags.items()
        if tag.startswith(CHAMPION_PREDICTIONS)
        for run_id, _, sha256 in [value.partition("/")]
    }
    return RecordedEvaluation(
        version=version,
        run=None if store is None else store.client.get_run(version.run_id),
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
        sealed=_fetch_sealed(store, version, place / "model"),
    )


def _fetch_sealed(store: MlflowStore | None, version: Any, folder: Path) -> Path:
    if store is None:
        sealed = local_file(version.storage_location or "", "artifacts/sealed")
        check_seal(sealed, version.tags.get(SEAL, "none"))
        return sealed
    from twofold.serving.model_resolver import fetch_sealed

    return fetch_sealed(store, version, folder)


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


def compare_with(candidate: RecordedEvaluation, other: RecordedEvaluation) -> PairedComparison:
    """Compare a version with another one on the version's test images that neither learned from.

    The other's predictions are those that register logged with the version, otherwise those of the other's own test.

    Raises:
        RegistryError: the predictions do not cover the images, contradict each other, or an image has another label.
    """
    number, test = str(other.number), candidate.test
    try:
        splits = other.splits
    except ArtifactError as error:
        problem = f"{error}; the lists of a model's images are sealed by register: {AGAIN}"
        return compare(test, candidate.threshold, candidate.splits, unscored(number, problem))
    probability, relabelled = _match_probabilities(test, other.test)
    if number in candidate.champions:
        own, (probability, relabelled) = probability, _match_probabilities(test, candidate.champions[number])
        difference = np.nan_to_num(np.abs(own - probability))
        worst = int(difference.argmax())
        if difference[worst] > TOLERANCES[other.decision.get("precision", "float32")]:
            raise RegistryError(
                f"the records of versions {number} and {candidate.number} contradict each other, and nothing is "
                f"promoted on them: the probability of image {test.sha256[worst][:12]} by version {number} is "
                f"{own[worst]:.6g} in its own test, and {probability[worst]:.6g} where register judged version "
                f"{candidate.number}; verify both with `twofold models verify`"
            )
    opponent = Opponent(number, ModelOutputs(probability, other.threshold), splits)
    comparison = compare(test, candidate.threshold, candidate.splits, opponent)
    unknown = comparison.test.sha256[np.isnan(comparison.other.probability)].tolist()
    if unknown or relabelled:
        raise RegistryError(
            f"the logged predictions cannot compare version {candidate.number} with version {number}: of the "
            f"{len(test)} test images of version {candidate.number}, {len(unknown)} were not in the test of version "
            f"{number} and {len(relabelled)} had another label "
            f"({shortened([image[:12] for image in unknown or relabelled])}); with the data and the model of version "
            f"{candidate.number}, {AGAIN} and logs its predictions"
        )
    return comparison


def compare_on_common_images(one: RecordedEvaluation, other: RecordedEvaluation) -> PairedComparison | None:
    """Compare two versions on the test images of both that neither learned from; None if they share no test image.

    Raises:
        RegistryError: as of `compare_with`.
    """
    rows = np.flatnonzero(np.isin(one.test.sha256.astype(str), other.test.sha256.astype(str)))
    return compare_with(replace(one, test=one.test.take(rows)), other) if len(rows) else None


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


def _match_probabilities(test: Predictions, other: Predictions) -> tuple[NDArray[np.float64], list[str]]:
    """Another model's probability of each image of a test, NaN if it has none; and the images with another label."""
    known = dict(zip(other.sha256, zip(other.probability, other.label, strict=True), strict=True))
    found = [known.get(sha256, (math.nan, label)) for sha256, label in zip(test.sha256, test.label, strict=True)]
    changed = [given != label for (_, given), label in zip(found, test.label, strict=True)]
    return np.array([probability for probability, _ in found]), test.sha256[np.array(changed, bool)].tolist()
