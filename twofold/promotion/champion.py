"""A champion on the candidate's ground: a model of the registry, scored on the candidate's test images.

In: its version in the registry, the candidate. Out: what it says of each image and which images it was made from, or
why it could not be scored. It is read as safetensors and JSON; nothing that lies in the registry is run.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.core.errors import TwofoldError
from twofold.core.progress import track
from twofold.data.raw import Raw
from twofold.metrics.bootstrap import Answers
from twofold.model.device import device, settle
from twofold.model.emulation import tell
from twofold.promotion.candidate import Candidate
from twofold.promotion.paired_comparison import ANOTHER, NO_ANSWERS, Rival
from twofold.serving.sealed_model import BATCH, Sealed, open_sealed, splits
from twofold.tracking.registry_client import SEAL, ModelVersion, fetch_sealed
from twofold.tracking.store import Store


def score(store: Store, version: ModelVersion, candidate: Candidate) -> Rival:
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
            learned = splits(place)
            probability = probabilities(sealed, candidate)
    except TwofoldError as error:
        return unscored(name, f"{error}; make it readable, or {ANOTHER}")
    return Rival(name, Answers(probability, sealed.threshold), learned)


def unscored(version: str, problem: str) -> Rival:
    """A champion that could not be scored, and why."""
    return Rival(version, NO_ANSWERS, {}, problem)


def probabilities(sealed: Sealed, candidate: Candidate) -> NDArray[np.float64]:
    """A sealed model's probability for each of the candidate's test images, in its own precision.

    The prepared pixels serve if the model wants the same ones; otherwise every file is decoded and resized its way.
    """
    settle()
    tell(sealed.precision, device())
    sealed.classifier.to(device())
    rows, prepared = candidate.rows, candidate.prepared
    if same_pixels(sealed.preprocessing, prepared.meta["pixels"]):
        batches = (prepared.pixels(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH))
        return sealed.probabilities(track(batches, "scoring the champion", len(rows), per_item=BATCH))
    return sealed.score(track(_decoded(sealed, candidate), "scoring the champion", len(rows)))


def same_pixels(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two ways of preprocessing make the same pixels of a file that both accept."""
    return {**one, "limits": None} == {**other, "limits": None}


def _decoded(sealed: Sealed, candidate: Candidate) -> Iterator[NDArray[np.uint8]]:
    raw = Raw.open(candidate.raw)
    images = {image.sha256: image for image in raw.images}
    for sha256 in candidate.test.sha256:
        yield sealed.pixels(raw.read(images[sha256]))
