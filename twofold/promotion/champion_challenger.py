"""Compare the candidate with the champion and the best former champion, and evaluate the gates.

Reads the registry, the champion's version, the candidate and the gates; returns the verdict and what it is based on.
"""

import statistics
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.core.artifacts import read_csv
from twofold.core.drafts import scratch_folder
from twofold.core.errors import TwofoldError
from twofold.core.progress import track
from twofold.data.prepared import LEFT_OUT
from twofold.data.raw import RawDataset
from twofold.metrics.decision_threshold import DECISION
from twofold.metrics.influence import ModelOutputs
from twofold.model.classifier import load_classifier
from twofold.promotion import best_champion
from twofold.promotion.attainable_gates import explain_refusal
from twofold.promotion.candidate import Candidate, sample_files
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gate_slices import MetricKey
from twofold.promotion.gates import LATENCY, SIZE, VANISHED, Gate
from twofold.promotion.paired_comparison import ANOTHER, Opponent, PairedComparison, compare, unscored
from twofold.promotion.test_reuse import Looks
from twofold.promotion.verdict import GateInputs, Verdict
from twofold.serving.model_resolver import fetch_sealed, prepare_inference
from twofold.serving.sealed_model import ARCHITECTURE, BATCH, WEIGHTS, SealedModel, open_sealed, sealed_splits
from twofold.tracking import registry_client
from twofold.tracking.registry_client import KEY, SEAL, ModelVersion
from twofold.tracking.store import MlflowStore, runs_with

TIMED_IMAGES, WARM_UP_IMAGES = 32, 3


class Assessment(NamedTuple):
    """A verdict and what it is based on; see the attributes of `Judgement`."""

    verdict: Verdict
    champion: PairedComparison | None
    best: Mapping[MetricKey, PairedComparison]
    inherited_best: Mapping[MetricKey, str]
    vanished: Mapping[str, str]
    measured: Mapping[str, float]
    looks: Looks


def assess_candidate(
    store: MlflowStore,
    name: str,
    current: ModelVersion | None,
    candidate: Candidate,
    gates: Sequence[Gate],
    since: int,
    count_looks: Callable[[Collection[str]], Looks],
) -> Assessment:
    """Score the champion and the best former champions, measure the metrics that gates need, and evaluate the gates.

    Args:
        current: version of the champion; None if there is none.
        since: `register.reference_since`.
        count_looks: returns the use of these test images, by their SHA-256, up to the candidate.
    """
    threshold = float(candidate.decision["threshold"])
    tags = {} if current is None else current.tags
    before = best_champion.best_champions_before(tags, gates, since, candidate.test)
    versions = {} if current is None else {str(current.version): current}
    comparisons: dict[str, PairedComparison] = {}
    for number in [*versions, *sorted(set(before.values()) - versions.keys(), key=int)]:
        if version := versions.get(number) or registry_client.version(store, name, number):
            opponent = score_champion(store, version, candidate)
        else:
            remedy = (
                f"set register.reference_since above {number}, so that it no longer counts, then run register again"
            )
            opponent = unscored(number, f"it has been deleted in MLflow; {remedy}")
        comparisons[number] = compare(candidate.test, threshold, candidate.splits, opponent)
    champion = None if current is None else comparisons[str(current.version)]
    best = {key: comparisons[number] for key, number in before.items() if comparisons[number] is not champion}
    vanished = locate_images(candidate, champion.vanished if champion else ())
    measured = {SIZE: float(model_size(candidate))}
    if champion is not None:
        measured[VANISHED] = float(len(vanished))
    if any(gate.figure == LATENCY for gate in gates):
        measured[LATENCY] = _latency(store, candidate)
    compared = candidate.test if champion is None or champion.problem else champion.test
    looks = count_looks(compared.sha256)
    inputs = GateInputs({**candidate.metrics, **measured}, candidate.test, threshold)
    verdict = evaluate_gates(gates, inputs, champion, best, looks.error_rate)
    return Assessment(
        verdict=explain_refusal(verdict, gates, candidate.test, champion, looks.error_rate),
        champion=champion,
        best=best,
        inherited_best=best_champion.inherited_best(tags, since, champion, best),
        vanished=vanished,
        measured=measured,
        looks=looks,
    )


def _latency(store: MlflowStore, candidate: Candidate) -> float:
    """Return the latency recorded when this model was first judged, so that judging it again gives the same result."""
    for experiment in store.client.search_experiments():
        for run in runs_with(store, experiment.experiment_id, KEY, candidate.key):
            if LATENCY in run.data.metrics:
                return float(run.data.metrics[LATENCY])
    return measure_latency(candidate)


def score_champion(store: MlflowStore, version: ModelVersion, candidate: Candidate) -> Opponent:
    """Download a champion, verify it against the seal in its tags, and score the candidate's test images with it.

    If it cannot be read, has other labels, or was sealed without the list of its images, the result has the problem.
    """
    name = str(version.version)
    try:
        with scratch_folder() as scratch:
            folder = fetch_sealed(store, version, scratch)
            sealed = open_sealed(folder, version.tags.get(SEAL))
            if sealed.labels != candidate.labels:
                raise TwofoldError(f"it tells {sealed.labels} apart, this data has {candidate.labels}")
            splits = sealed_splits(folder)
            probability = probabilities(sealed, candidate)
    except TwofoldError as error:
        if error.transient:
            raise  # a store that does not answer says nothing about the champion, and must not fail a gate
        return unscored(name, f"{error}; make it readable, or {ANOTHER}")
    return Opponent(name, ModelOutputs(probability, sealed.threshold), splits)


def probabilities(sealed: SealedModel, candidate: Candidate) -> NDArray[np.float64]:
    """Return a sealed model's probability of each of the candidate's test images, in its own precision.

    The prepared pixels are used if the model's preprocessing gives the same; otherwise every file is decoded again.
    """
    prepare_inference(sealed)
    label, rows, prepared = "scoring the champion", candidate.rows, candidate.prepared
    if same_pixels(sealed.preprocessing, prepared.meta["pixels"]):
        batches = (prepared.pixels(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH))
        return sealed.probabilities(track(batches, label, len(rows), per_item=BATCH))
    images = (sealed.pixels(data) for data in candidate.read_files(candidate.test.sha256))
    return sealed.score(track(images, label, len(rows)))


def same_pixels(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two preprocessings give the same pixels for a file that both accept."""
    return {**one, "limits": None} == {**other, "limits": None}


def model_size(candidate: Candidate) -> int:
    """Return the bytes of the files that are needed to predict: weights, architecture and decision."""
    paths = (candidate.model / WEIGHTS, candidate.model / ARCHITECTURE, candidate.evaluation / DECISION)
    return sum(path.stat().st_size for path in paths)


def measure_latency(candidate: Candidate) -> float:
    """Return the milliseconds from an image file's bytes to its probability on this machine: median of TIMED_IMAGES.

    One image at a time, averaged over the model's views, in its precision, after a warm-up.
    """
    classifier, architecture = load_classifier(candidate.model)
    pixels = dict(candidate.prepared.meta["pixels"])
    sealed = SealedModel(classifier, architecture, candidate.decision, pixels, digest="")
    prepare_inference(sealed)
    files = sample_files(candidate, TIMED_IMAGES)[0]
    milliseconds = []
    for data in [*files[:1] * WARM_UP_IMAGES, *files]:
        begin = time.perf_counter()
        sealed.score([sealed.pixels(data)])
        milliseconds.append(1000 * (time.perf_counter() - begin))
    return statistics.median(milliseconds[WARM_UP_IMAGES:])


def locate_images(candidate: Candidate, images: Iterable[str]) -> dict[str, str]:
    """Return where images are now that are not in the candidate's test, by their SHA-256, sorted."""
    prepared = candidate.prepared
    places = {image.sha256: "in the data, in no split" for image in RawDataset.open(candidate.raw).images}
    places |= {row["sha256"]: f"left out: {row['reason']}" for row in read_csv(prepared.directory / LEFT_OUT)}
    places |= {sha256: f"in {split}" for sha256, split in zip(prepared.sha256, prepared.split, strict=True)}
    return {sha256: places.get(sha256, "no longer in the data") for sha256 in sorted(set(images))}
