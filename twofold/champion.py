"""The champion on the candidate's ground: the model that is served today, scored on the candidate's test images.

In: the champion's version in the registry, the candidate. Out: its figures, or why it could not be scored. It is read
as safetensors and JSON; nothing that lies in the registry is run.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from twofold.candidate import Candidate
from twofold.errors import TwofoldError
from twofold.gates import Champion
from twofold.judgement import CHAMPION
from twofold.metrics import figures
from twofold.numerics import device, settle
from twofold.progress import track
from twofold.raw import Raw
from twofold.registry import SEAL, ModelVersion, fetch_sealed
from twofold.sealed import BATCH, Sealed, open_sealed
from twofold.tracking import Store


def score(store: Store, version: ModelVersion, candidate: Candidate) -> Champion:
    """Fetch the champion, check it against the seal in its tags, and score it at its own threshold.

    Returns:
        Its figures; or none and the problem, with its remedy, if it cannot be read or answers another question.
    """
    name = str(version.version)
    try:
        with tempfile.TemporaryDirectory() as folder:
            sealed = open_sealed(fetch_sealed(store, version, Path(folder)), version.tags.get(SEAL))
            if sealed.labels != candidate.labels:
                raise TwofoldError(f"it tells {sealed.labels} apart, this data has {candidate.labels}")
            probability = probabilities(sealed, candidate)
    except TwofoldError as error:
        remedy = f"make it readable, or take the alias '{CHAMPION}' off it or give it to a version that is"
        return Champion(name, {}, f"{error}; {remedy}, then run register again")
    found = figures(candidate.test.target, probability, sealed.threshold)
    return Champion(name, {**found, "threshold": sealed.threshold})


def probabilities(sealed: Sealed, candidate: Candidate) -> NDArray[np.float64]:
    """A sealed model's probability for each of the candidate's test images, in float32.

    The prepared pixels serve if the model wants the same ones; otherwise every file is decoded and resized its way.
    """
    settle()
    sealed.classifier.to(device())
    rows, prepared = candidate.rows, candidate.prepared
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
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
