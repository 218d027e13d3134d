"""Judging again without running a model: from what was logged with a version, the champion and the best one before.

In: a version, and whoever is champion now. Out: the verdict by the gates recorded with the version, on the same grounds
on which register would come to one: the paired comparison, on the images that neither model learned from. What was not
logged is not guessed: then only register, which has the images, can judge.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from twofold.core.errors import ArtifactError, RegistryError, TwofoldError, shortened
from twofold.core.params import Integer, Section
from twofold.evaluation.predictions import Predictions
from twofold.metrics.bootstrap import ModelOutputs
from twofold.promotion import best_champion
from twofold.promotion.champion_challenger import unscored
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gates import LATENCY, SIZE, VANISHED, Gate
from twofold.promotion.paired_comparison import LEARNED_FROM, Opponent, PairedComparison, compare
from twofold.promotion.verdict import GateInputs, Verdict
from twofold.registry.recorded_evaluation import RecordedEvaluation, fetch_evaluation, find_differences
from twofold.serving.sealed_model import ARCHITECTURE, DECISION, WEIGHTS
from twofold.tracking import registry_client
from twofold.tracking.registry_client import CONDITIONS
from twofold.tracking.store import MlflowStore

AGAIN = "run register again (`make register`), which judges it against the champion of that moment"


class Conditions(Section):
    """What a version is held to; the fields are those of `register`."""

    gates: list[Gate]
    reference_since: Integer


@dataclass(frozen=True)
class Reevaluation:
    """What came of it.

    Attributes:
        version: that was judged.
        verdict: on every gate.
        champion: the version beside the champion; None if there is none.
        heirs: what the version's tag `twofold.best` is to say if it is promoted; see `reference`.
    """

    version: int
    verdict: Verdict
    champion: PairedComparison | None
    inherited_best: Mapping[str, str]


def reevaluate_gates(
    store: MlflowStore, name: str, candidate: RecordedEvaluation, champion: RecordedEvaluation | None, folder: Path
) -> Reevaluation:
    """Judge a version again, against the champion and the best champion before it.

    Args:
        store: of the registry.
        name: of the registered model.
        candidate: what was logged with the version.
        champion: the same of the champion; None if there is none.
        folder: for what has to be fetched.

    Raises:
        RegistryError: the conditions are not recorded with it, what was logged of a model does not fit together, or
            does not cover the images that they are to be compared on.
    """
    held = _conditions(candidate)
    tag = None if champion is None else champion.version.tags.get(best_champion.BEST)
    before = best_champion.best_champions_before(tag, held.gates, held.reference_since)
    beside: dict[str, PairedComparison] = {}
    if champion is not None:
        beside[str(champion.number)] = compare_with(candidate, champion)
    for number in sorted(set(before.values()), key=int):
        if number not in beside:
            beside[number] = _best(store, name, number, candidate, folder)
    own = None if champion is None else beside[str(champion.number)]
    best = {figure: beside[number] for figure, number in before.items() if beside[number] is not own}
    parts = (WEIGHTS, ARCHITECTURE, DECISION)
    measured = {SIZE: float(sum((candidate.sealed / part).stat().st_size for part in parts))}
    if LATENCY in candidate.run.data.metrics:
        measured[LATENCY] = candidate.run.data.metrics[LATENCY]
    if champion is not None:
        measured[VANISHED] = float(len({image for found in beside.values() for image in found.vanished}))
    subject = GateInputs({**candidate.metrics, **measured}, candidate.test, candidate.threshold)
    return Reevaluation(
        version=candidate.number,
        verdict=evaluate_gates(held.gates, subject, own, best),
        champion=own,
        inherited_best=best_champion.inherited_best(tag, held.gates, held.reference_since, own, best),
    )


def compare_with(candidate: RecordedEvaluation, other: RecordedEvaluation) -> PairedComparison:
    """A version beside another one, on the version's test images.

    Raises:
        RegistryError: the other one was not tested on some of them, or with another label, and has not learned from
            them either.
    """
    return compare(candidate.test, candidate.threshold, candidate.splits, _rival(other, candidate))


def compare_on_common_images(one: RecordedEvaluation, other: RecordedEvaluation) -> PairedComparison | None:
    """Two versions on the test images that both have answered, which neither of them learned from; None for none.

    Raises:
        RegistryError: an image has another label in the one test than in the other, or one was sealed without the
            lists of its images.
    """
    there = set(other.test.sha256)
    rows = np.array([row for row, sha256 in enumerate(one.test.sha256) if sha256 in there], dtype=np.int64)
    if not len(rows):
        return None
    test = one.test.take(rows)
    probability, relabelled = _answers(test, other.test)
    if relabelled:
        raise RegistryError(
            f"{len(relabelled)} images have another label in the test of version {other.number} than in that of "
            f"version {one.number}: {shortened([image[:12] for image in relabelled])}"
        )
    rival = Opponent(str(other.number), ModelOutputs(probability, other.threshold), other.splits)
    return compare(test, one.threshold, one.splits, rival)


def require_sound(evidence: RecordedEvaluation) -> RecordedEvaluation:
    """The same, if all of it fits together.

    Raises:
        RegistryError: it does not.
    """
    wrong = [f"{what}: {line}" for what, lines in find_differences(evidence).items() for line in lines]
    if wrong:
        raise RegistryError(
            f"what is recorded of version {evidence.number} does not fit together, and nothing is promoted on it: "
            f"{'; '.join(wrong)}"
        )
    return evidence


def _rival(other: RecordedEvaluation, candidate: RecordedEvaluation) -> Opponent:
    try:
        learned, own = other.splits, candidate.splits
    except ArtifactError as error:
        return unscored(str(other.number), f"{error}; the lists of a model's images are sealed by register: {AGAIN}")
    probability, relabelled = _answers(candidate.test, other.test)
    images = candidate.test.sha256
    used = frozenset().union(*(splits.get(split, ()) for splits in (learned, own) for split in LEARNED_FROM))
    unknown = [sha256 for sha256 in images[np.isnan(probability)] if sha256 not in used]
    if unknown or relabelled:
        raise RegistryError(
            f"what was logged does not compare version {candidate.number} with version {other.number}: of the "
            f"{len(images)} test images of version {candidate.number}, {len(unknown)} were not in the test of version "
            f"{other.number} and {len(relabelled)} had another label ({shortened([image[:12] for image in unknown or relabelled])}); {AGAIN}"
        )
    return Opponent(str(other.number), ModelOutputs(probability, other.threshold), learned)


def _answers(test: Predictions, other: Predictions) -> tuple[NDArray[np.float64], list[str]]:
    """Another model's probability of each image of a test, NaN where it has none; and the images labelled otherwise."""
    rows = {sha256: row for row, sha256 in enumerate(other.sha256)}
    found = [rows.get(sha256) for sha256 in test.sha256]
    probability = np.array([math.nan if row is None else other.probability[row] for row in found])
    relabelled = [
        sha256
        for sha256, label, row in zip(test.sha256, test.label, found, strict=True)
        if row is not None and other.label[row] != label
    ]
    return probability, relabelled


def _best(store: MlflowStore, name: str, number: str, candidate: RecordedEvaluation, folder: Path) -> PairedComparison:
    version = registry_client.version(store, name, number)
    if version is None:
        problem = f"it has been deleted in MLflow; set register.reference_since above {number}, then {AGAIN}"
        return compare(candidate.test, candidate.threshold, candidate.splits, unscored(number, problem))
    return compare_with(candidate, require_sound(fetch_evaluation(store, version, folder)))


def _conditions(candidate: RecordedEvaluation) -> Conditions:
    text = candidate.version.tags.get(CONDITIONS, "")
    try:
        return Conditions.model_validate_json(text)
    except ValidationError as error:
        raise RegistryError(
            f"version {candidate.number}: its tag {CONDITIONS} does not say what it is held to ({error.error_count()} "
            f"errors); {AGAIN}"
        ) from error
    except TwofoldError as error:
        raise RegistryError(f"version {candidate.number}: {error}; {AGAIN}") from error
