"""The contest: a candidate held against its gates, the champion and the best champion before.

In: the registry, the version that is champion, the candidate, the gates. Out: the verdict and all that it rests on.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from twofold.promotion import best_champion, measuring
from twofold.promotion.candidate import Candidate
from twofold.promotion.champion import score, unscored
from twofold.promotion.gate_evaluation import judge
from twofold.promotion.gates import LATENCY, SIZE, VANISHED, Gate
from twofold.promotion.paired_comparison import Comparison, compare
from twofold.promotion.verdict import Subject, Verdict
from twofold.tracking import registry_client
from twofold.tracking.registry_client import KEY, ModelVersion
from twofold.tracking.store import Store, runs_with


class Contest(NamedTuple):
    """A verdict and what it rests on; the attributes are those of `Judgement`."""

    verdict: Verdict
    champion: Comparison | None
    best: Mapping[str, Comparison]
    heirs: Mapping[str, str]
    vanished: Mapping[str, str]
    measured: Mapping[str, float]


def contest(
    store: Store,
    name: str,
    rival: ModelVersion | None,
    candidate: Candidate,
    gates: Sequence[Gate],
    since: int,
) -> Contest:
    """Score the champion and, where it is another one, the best champion before; measure what gates ask for; judge.

    Args:
        store: of the registry.
        name: of the registered model.
        rival: the version to hold the candidate against; None if there is none.
        candidate: that is judged.
        gates: of params.yaml.
        since: `register.reference_since`.
    """
    tag = None if rival is None else rival.tags.get(best_champion.BEST)
    before = best_champion.best_before(tag, gates, since)
    versions = {str(rival.version): rival} if rival is not None else {}
    beside: dict[str, Comparison] = {}
    for number in [*versions, *sorted(set(before.values()), key=int)]:
        if number not in beside:
            found = versions.get(number) or registry_client.version(store, name, number)
            beside[number] = _beside(store, number, found, candidate)
    champion = None if rival is None else beside[str(rival.version)]
    best = {figure: beside[number] for figure, number in before.items() if beside[number] is not champion}
    vanished = measuring.whereabouts(candidate, {image for found in beside.values() for image in found.vanished})
    measured = {SIZE: float(measuring.size(candidate))}
    if champion is not None:
        measured[VANISHED] = float(len(vanished))
    if any(gate.figure == LATENCY for gate in gates):
        measured[LATENCY] = _latency(store, candidate)
    subject = Subject({**candidate.metrics, **measured}, candidate.test, float(candidate.decision["threshold"]))
    return Contest(
        verdict=judge(gates, subject, champion, best),
        champion=champion,
        best=best,
        heirs=best_champion.heirs(tag, gates, since, champion, best),
        vanished=vanished,
        measured=measured,
    )


def _beside(store: Store, number: str, version: ModelVersion | None, candidate: Candidate) -> Comparison:
    if version is None:
        problem = (
            f"it has been deleted in MLflow; set register.reference_since above {number}, so that it no longer counts, "
            "then run register again"
        )
        rival = unscored(number, problem)
    else:
        rival = score(store, version, candidate)
    return compare(candidate.test, float(candidate.decision["threshold"]), candidate.splits, rival)


def _latency(store: Store, candidate: Candidate) -> float:
    """As it was measured when this model was first judged, so that judging it again finds nothing new; or measured."""
    places = [found.experiment_id for found in store.client.search_experiments()]
    for place in places:
        for run in runs_with(store, place, KEY, candidate.key):
            if LATENCY in run.data.metrics:
                return float(run.data.metrics[LATENCY])
    return measuring.latency(candidate)
