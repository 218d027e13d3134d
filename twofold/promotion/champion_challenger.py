"""The contest: a candidate held against its gates, the champion and the best champion before.

In: the registry, the version that is champion, the candidate, the gates. Out: the verdict and all that it rests on.
"""

import csv
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.core.errors import TwofoldError
from twofold.core.progress import track
from twofold.data.prepared import LEFT_OUT
from twofold.data.raw import RawDataset
from twofold.metrics.bootstrap import ModelOutputs
from twofold.metrics.decision_threshold import DECISION
from twofold.model.classifier import load_classifier
from twofold.model.device import device, make_deterministic, warn_if_emulated
from twofold.promotion import best_champion
from twofold.promotion.candidate import Candidate, sample_files
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gates import LATENCY, SIZE, VANISHED, Gate
from twofold.promotion.paired_comparison import ANOTHER, NO_ANSWERS, Opponent, PairedComparison, compare
from twofold.promotion.verdict import GateInputs, Verdict
from twofold.serving.model_resolver import fetch_sealed
from twofold.serving.sealed_model import ARCHITECTURE, BATCH, WEIGHTS, SealedModel, open_sealed, sealed_splits
from twofold.tracking import registry_client
from twofold.tracking.registry_client import KEY, SEAL, ModelVersion
from twofold.tracking.store import MlflowStore, runs_with

TIMED, WARM_UP = 32, 3  # images


class Assessment(NamedTuple):
    """A verdict and what it rests on; the attributes are those of `Judgement`."""

    verdict: Verdict
    champion: PairedComparison | None
    best: Mapping[str, PairedComparison]
    inherited_best: Mapping[str, str]
    vanished: Mapping[str, str]
    measured: Mapping[str, float]


def assess_candidate(
    store: MlflowStore,
    name: str,
    rival: ModelVersion | None,
    candidate: Candidate,
    gates: Sequence[Gate],
    since: int,
) -> Assessment:
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
    before = best_champion.best_champions_before(tag, gates, since)
    versions = {str(rival.version): rival} if rival is not None else {}
    beside: dict[str, PairedComparison] = {}
    for number in [*versions, *sorted(set(before.values()), key=int)]:
        if number not in beside:
            found = versions.get(number) or registry_client.version(store, name, number)
            beside[number] = _beside(store, number, found, candidate)
    champion = None if rival is None else beside[str(rival.version)]
    best = {figure: beside[number] for figure, number in before.items() if beside[number] is not champion}
    vanished = locate_images(candidate, {image for found in beside.values() for image in found.vanished})
    measured = {SIZE: float(model_size(candidate))}
    if champion is not None:
        measured[VANISHED] = float(len(vanished))
    if any(gate.figure == LATENCY for gate in gates):
        measured[LATENCY] = _latency(store, candidate)
    subject = GateInputs({**candidate.metrics, **measured}, candidate.test, float(candidate.decision["threshold"]))
    return Assessment(
        verdict=evaluate_gates(gates, subject, champion, best),
        champion=champion,
        best=best,
        inherited_best=best_champion.inherited_best(tag, gates, since, champion, best),
        vanished=vanished,
        measured=measured,
    )


def _beside(store: MlflowStore, number: str, version: ModelVersion | None, candidate: Candidate) -> PairedComparison:
    if version is None:
        problem = (
            f"it has been deleted in MLflow; set register.reference_since above {number}, so that it no longer counts, "
            "then run register again"
        )
        rival = unscored(number, problem)
    else:
        rival = score_champion(store, version, candidate)
    return compare(candidate.test, float(candidate.decision["threshold"]), candidate.splits, rival)


def _latency(store: MlflowStore, candidate: Candidate) -> float:
    """As it was measured when this model was first judged, so that judging it again finds nothing new; or measured."""
    places = [found.experiment_id for found in store.client.search_experiments()]
    for place in places:
        for run in runs_with(store, place, KEY, candidate.key):
            if LATENCY in run.data.metrics:
                return float(run.data.metrics[LATENCY])
    return measure_latency(candidate)


def score_champion(store: MlflowStore, version: ModelVersion, candidate: Candidate) -> Opponent:
    """Fetch a champion, check it against the seal in its tags, and let it answer the candidate's test images.

    Returns:
        Its answers, at its own threshold; or none and the problem, with its remedy, if it cannot be read, answers
        another question, or does not say what it learned from.
    """
    name = str(version.version)
    try:
        with tempfile.TemporaryDirectory() as folder:
            place = fetch_sealed(store, version, Path(folder))
            sealed = open_sealed(place, version.tags.get(SEAL))
            if sealed.labels != candidate.labels:
                raise TwofoldError(f"it tells {sealed.labels} apart, this data has {candidate.labels}")
            learned = sealed_splits(place)
            probability = probabilities(sealed, candidate)
    except TwofoldError as error:
        return unscored(name, f"{error}; make it readable, or {ANOTHER}")
    return Opponent(name, ModelOutputs(probability, sealed.threshold), learned)


def unscored(version: str, problem: str) -> Opponent:
    """A champion that could not be scored, and why."""
    return Opponent(version, NO_ANSWERS, {}, problem)


def probabilities(sealed: SealedModel, candidate: Candidate) -> NDArray[np.float64]:
    """A sealed model's probability for each of the candidate's test images, in its own precision.

    The prepared pixels serve if the model wants the same ones; otherwise every file is decoded and resized its way.
    """
    make_deterministic()
    warn_if_emulated(sealed.precision, device())
    sealed.classifier.to(device())
    rows, prepared = candidate.rows, candidate.prepared
    if same_pixels(sealed.preprocessing, prepared.meta["pixels"]):
        batches = (prepared.pixels(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH))
        return sealed.probabilities(track(batches, "scoring the champion", len(rows), per_item=BATCH))
    return sealed.score(track(_decoded(sealed, candidate), "scoring the champion", len(rows)))


def same_pixels(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two ways of preprocessing make the same pixels of a file that both accept."""
    return {**one, "limits": None} == {**other, "limits": None}


def _decoded(sealed: SealedModel, candidate: Candidate) -> Iterator[NDArray[np.uint8]]:
    raw = RawDataset.open(candidate.raw)
    images = {image.sha256: image for image in raw.images}
    for sha256 in candidate.test.sha256:
        yield sealed.pixels(raw.read(images[sha256]))


def model_size(candidate: Candidate) -> int:
    """Bytes of what is sealed to answer for an image: weights, architecture and decision."""
    paths = (candidate.model / WEIGHTS, candidate.model / ARCHITECTURE, candidate.evaluation / DECISION)
    return sum(path.stat().st_size for path in paths)


def measure_latency(candidate: Candidate) -> float:
    """Milliseconds from the bytes of an image file to its probability, on this machine: the median of TIMED images.

    One image at a time, all views averaged, in the model's precision, after a warm-up that is not counted.
    """
    make_deterministic()
    classifier, architecture = load_classifier(candidate.model)
    warn_if_emulated(str(candidate.decision["precision"]), device())
    classifier.to(device())
    pixels = dict(candidate.prepared.meta["pixels"])
    sealed = SealedModel(classifier, architecture, candidate.decision, pixels, digest="")
    files = sample_files(candidate, TIMED)[0]
    taken = []
    for data in [*files[:1] * WARM_UP, *files]:
        begin = time.perf_counter()
        sealed.score([sealed.pixels(data)])
        taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken[WARM_UP:])


def locate_images(candidate: Candidate, images: Iterable[str]) -> dict[str, str]:
    """Where images are now that the candidate's test lacks, by their SHA-256, sorted."""
    prepared = candidate.prepared
    now = {image.sha256: "in the data, in no split" for image in RawDataset.open(candidate.raw).images}
    with (prepared.directory / LEFT_OUT).open(encoding="utf-8", newline="") as stream:
        now |= {row["sha256"]: f"left out: {row['reason']}" for row in csv.DictReader(stream)}
    now |= {sha256: f"in {split}" for sha256, split in zip(prepared.sha256, prepared.split, strict=True)}
    return {sha256: now.get(sha256, "no longer in the data") for sha256 in sorted(set(images))}
