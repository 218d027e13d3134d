"""Evaluate a version's gates again without running a model.

Reads what was logged with the version, with the champion and with the best champions before it. Returns the verdict by
the gates recorded with the version. As in register, models are compared on test images that neither of them learned
from. If a needed prediction was not logged, an error asks for register, which has the images and logs it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from twofold.core.errors import ArtifactError, RegistryError, TwofoldError, shortened
from twofold.core.params import Integer, Section
from twofold.evaluation.predictions import Predictions
from twofold.metrics.influence import ModelOutputs
from twofold.promotion import best_champion
from twofold.promotion.champion_challenger import unscored
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gate_slices import MetricKey
from twofold.promotion.gates import LATENCY, SIZE, VANISHED, Gate
from twofold.promotion.paired_comparison import Opponent, PairedComparison, compare
from twofold.promotion.test_reuse import Looks
from twofold.promotion.verdict import GateInputs, Verdict
from twofold.registry.recorded_evaluation import RecordedEvaluation, fetch_evaluation, find_differences
from twofold.serving.sealed_model import ARCHITECTURE, DECISION, TOLERANCES, WEIGHTS
from twofold.tracking import registry_client
from twofold.tracking.registry_client import CONDITIONS
from twofold.tracking.store import MlflowStore

AGAIN = "run register again (`twofold run register --only --force`), which judges it against the current champion"


class Conditions(Section):
    """The conditions under which a version is promoted: those of `register`, and the use of its test images then."""

    gates: list[Gate]
    reference_since: Integer
    test_reuse: Looks | None = None  # versions from before it was limited have none


@dataclass(frozen=True)
class Reevaluation:
    """The result of evaluating a version's gates again.

    Attributes:
        version: the version that was evaluated.
        champion: comparison of the version with the champion; None if there is no champion.
        inherited_best: value of the version's tag `twofold.best` if it is promoted; see `best_champion`.
        looks: the use of the test images up to the version, if it was recorded with it.
    """

    version: int
    verdict: Verdict
    champion: PairedComparison | None
    inherited_best: Mapping[MetricKey, str]
    looks: Looks | None


def reevaluate_gates(
    store: MlflowStore, name: str, candidate: RecordedEvaluation, champion: RecordedEvaluation | None, folder: Path
) -> Reevaluation:
    """Evaluate the gates of a version against the champion and the best champions before it.

    Args:
        folder: for downloaded files.

    Raises:
        RegistryError: the conditions are not recorded with the version, or the records of a model contradict each other
            or do not cover the images to compare on.
    """
    conditions = _conditions(candidate)
    gates, since = conditions.gates, conditions.reference_since
    tags = {} if champion is None else champion.version.tags
    best_before = best_champion.best_champions_before(tags, gates, since, candidate.test)
    with_champion = None if champion is None else compare_with(candidate, champion)
    comparisons = {} if with_champion is None else {with_champion.version: with_champion}
    for number in sorted(set(best_before.values()), key=int):
        if number not in comparisons:
            comparisons[number] = _compare_with_version(store, name, number, candidate, folder)
    with_best = {
        key: comparisons[number] for key, number in best_before.items() if comparisons[number] is not with_champion
    }
    measured = {
        SIZE: float(sum((candidate.sealed / part).stat().st_size for part in (WEIGHTS, ARCHITECTURE, DECISION)))
    }
    if LATENCY in candidate.run.data.metrics:
        measured[LATENCY] = candidate.run.data.metrics[LATENCY]
    if with_champion is not None:
        measured[VANISHED] = float(len(with_champion.vanished))
    inputs = GateInputs({**candidate.metrics, **measured}, candidate.test, candidate.threshold)
    return Reevaluation(
        version=candidate.number,
        verdict=evaluate_gates(gates, inputs, with_champion, with_best, (conditions.test_reuse or Looks()).error_rate),
        champion=with_champion,
        inherited_best=best_champion.inherited_best(tags, since, with_champion, with_best),
        looks=conditions.test_reuse,
    )


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


def require_sound(evaluation: RecordedEvaluation) -> RecordedEvaluation:
    """Return the evaluation; raise RegistryError unless its records agree with each other."""
    problems = [f"{what}: {line}" for what, lines in find_differences(evaluation).items() for line in lines]
    if problems:
        raise RegistryError(
            f"the records of version {evaluation.number} contradict each other, and nothing is promoted on them: "
            f"{'; '.join(problems)}"
        )
    return evaluation


def _match_probabilities(test: Predictions, other: Predictions) -> tuple[NDArray[np.float64], list[str]]:
    """Another model's probability of each image of a test, NaN if it has none; and the images with another label."""
    positions = {sha256: row for row, sha256 in enumerate(other.sha256)}
    rows = [positions.get(sha256) for sha256 in test.sha256]
    probability = np.array([math.nan if row is None else other.probability[row] for row in rows])
    relabelled = [
        sha256
        for sha256, label, row in zip(test.sha256, test.label, rows, strict=True)
        if row is not None and other.label[row] != label
    ]
    return probability, relabelled


def _compare_with_version(
    store: MlflowStore, name: str, number: str, candidate: RecordedEvaluation, folder: Path
) -> PairedComparison:
    version = registry_client.version(store, name, number)
    if version is None:
        problem = f"it has been deleted in MLflow; set register.reference_since above {number}, then {AGAIN}"
        return compare(candidate.test, candidate.threshold, candidate.splits, unscored(number, problem))
    try:
        return compare_with(candidate, require_sound(fetch_evaluation(store, version, folder)))
    except RegistryError as error:
        remedy = f"set register.reference_since above {number}, so that this former champion no longer counts"
        raise RegistryError(f"{error}, or {remedy}", transient=error.transient) from error


def _conditions(candidate: RecordedEvaluation) -> Conditions:
    try:
        return Conditions.model_validate_json(candidate.version.tags.get(CONDITIONS, ""))
    except ValidationError as error:
        raise RegistryError(
            f"version {candidate.number}: its tag {CONDITIONS} does not hold its gates and reference_since "
            f"({error.error_count()} errors); {AGAIN}"
        ) from error
    except TwofoldError as error:
        raise RegistryError(f"version {candidate.number}: {error}; {AGAIN}") from error
