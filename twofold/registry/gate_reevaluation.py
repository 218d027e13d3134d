"""Evaluate a version's gates again without running a model.

Reads what was logged with the version, with the champion and with the best champions before it. Returns the verdict by
the gates recorded with the version. As in register, models are compared on test images that neither of them learned
from. If a needed prediction was not logged, an error asks for register, which has the images and logs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from twofold.core.errors import RegistryError, TwofoldError
from twofold.core.params import Integer, Section
from twofold.promotion import best_champion
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gate_slices import MetricKey
from twofold.promotion.gates import LATENCY, SIZE, VANISHED, Gate
from twofold.promotion.paired_comparison import PairedComparison, compare, unscored
from twofold.promotion.test_reuse import Looks
from twofold.promotion.verdict import GateInputs, Verdict
from twofold.registry.recorded_evaluation import (
    AGAIN,
    RecordedEvaluation,
    compare_with,
    fetch_evaluation,
    find_differences,
)
from twofold.serving.sealed_model import ARCHITECTURE, DECISION, WEIGHTS
from twofold.tracking import registry_client
from twofold.tracking.registry_client import CONDITIONS
from twofold.tracking.store import MlflowStore


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


def require_sound(evaluation: RecordedEvaluation) -> RecordedEvaluation:
    """Return the evaluation; raise RegistryError unless its records agree with each other."""
    problems = [f"{what}: {line}" for what, lines in find_differences(evaluation).items() for line in lines]
    if problems:
        raise RegistryError(
            f"the records of version {evaluation.number} contradict each other, and nothing is promoted on them: "
            f"{'; '.join(problems)}"
        )
    return evaluation


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
