"""What register finds out itself: in comes a candidate, out go its size, its speed and the test images that vanished.

None of it belongs to the figures of `evaluate`, which are the same on every machine and know no other model.
"""

import csv
import statistics
import time
from collections.abc import Iterable

from twofold.data.prepared import LEFT_OUT
from twofold.data.raw import Raw
from twofold.metrics.decision_threshold import DECISION
from twofold.model.classifier import load
from twofold.model.device import device, settle
from twofold.model.emulation import tell
from twofold.promotion.candidate import Candidate, sample
from twofold.serving.sealed_model import ARCHITECTURE, WEIGHTS, Sealed

TIMED, WARM_UP = 32, 3  # images


def size(candidate: Candidate) -> int:
    """Bytes of what is sealed to answer for an image: weights, architecture and decision."""
    paths = (candidate.model / WEIGHTS, candidate.model / ARCHITECTURE, candidate.evaluation / DECISION)
    return sum(path.stat().st_size for path in paths)


def latency(candidate: Candidate) -> float:
    """Milliseconds from the bytes of an image file to its probability, on this machine: the median of TIMED images.

    One image at a time, all views averaged, in the model's precision, after a warm-up that is not counted.
    """
    settle()
    classifier, architecture = load(candidate.model)
    tell(str(candidate.decision["precision"]), device())
    classifier.to(device())
    pixels = dict(candidate.prepared.meta["pixels"])
    sealed = Sealed(classifier, architecture, candidate.decision, pixels, digest="")
    files = sample(candidate, TIMED)[0]
    taken = []
    for data in [*files[:1] * WARM_UP, *files]:
        begin = time.perf_counter()
        sealed.score([sealed.pixels(data)])
        taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken[WARM_UP:])


def whereabouts(candidate: Candidate, images: Iterable[str]) -> dict[str, str]:
    """Where images are now that the candidate's test lacks, by their SHA-256, sorted."""
    prepared = candidate.prepared
    now = {image.sha256: "in the data, in no split" for image in Raw.open(candidate.raw).images}
    with (prepared.directory / LEFT_OUT).open(encoding="utf-8", newline="") as stream:
        now |= {row["sha256"]: f"left out: {row['reason']}" for row in csv.DictReader(stream)}
    now |= {sha256: f"in {split}" for sha256, split in zip(prepared.sha256, prepared.split, strict=True)}
    return {sha256: now.get(sha256, "no longer in the data") for sha256 in sorted(set(images))}
