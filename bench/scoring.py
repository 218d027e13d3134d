"""B6: probabilities of prepared images from ResNet-50, against the evaluation loop that most people write.

In fp32, as a model answers by default, and in bf16, as evaluate.precision has it on demand.
"""

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench.apart import Apart
from bench.images import generated
from bench.machine import RESNET50, on, products
from bench.paced import passing
from bench.peers import defaults
from bench.rounds import Comparison, Limit, compare, sized
from twofold.model import BACKBONES, build
from twofold.numerics import device, settle
from twofold.pool import workers
from twofold.predicting import probabilities

SIZE = 224
IMAGES = sized(on(cpu=128, gpu=2048), 8)
BATCH = on(cpu=16, gpu=256)
PEER_BATCH = on(cpu=32, gpu=256)
ARCHITECTURE = BACKBONES["resnet50"]
ALLOWED = {"fp32": 1e-3, "bf16": 1e-2}  # that the log odds of any image may differ by
OF_NORM = {"fp32": 1e-3, "bf16": 3e-2}  # and all of them together, of the norm of the peer's


def run() -> list[Comparison]:
    """Random weights: the rate does not depend on them."""
    settle()
    torch.manual_seed(0)
    classifier = passing(build("resnet50", 0.5))
    seconds, rate = products(RESNET50 * IMAGES)
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
        place = Path(name)
        data = generated(place / "data", IMAGES, 2, SIZE)
        torch.save(classifier.state_dict(), place / "weights.pt")
        classifier.to(device()).to(memory_format=torch.channels_last)
        peer = Apart(defaults.scoring, data.directory, place / "weights.pt", IMAGES, PEER_BATCH, workers())
        wanted = logits(peer())

        def scored(precision: str) -> npt.NDArray[np.float64]:
            rows = np.arange(IMAGES)
            batches = (data.pixels(rows[start : start + BATCH]) for start in range(0, IMAGES, BATCH))
            return probabilities(
                classifier, batches, mean=ARCHITECTURE.mean, std=ARCHITECTURE.std, views=1, precision=precision
            )

        def against(part: str, precision: str) -> Comparison:
            equal = like(logits(scored(precision)), wanted, part)
            return compare(
                "B6",
                f"probabilities of {IMAGES} prepared images of {SIZE} px, ResNet-50, one view",
                part=part,
                ours=(f"predicting.probabilities with precision {precision}, batch {BATCH}", lambda: scored(precision)),
                peer=(
                    f"fp32, NCHW, eval() under no_grad, DataLoader of batch {PEER_BATCH} with {workers()} workers",
                    peer,
                ),
                equal=equal,
                images=IMAGES,
                limit=Limit(seconds, f"8.2 GFLOP an image at {rate}"),
            )

        found = [against("fp32", "float32"), against("bf16", "bfloat16")]
        peer.close()
    return found


def like(found: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64], part: str) -> str:
    """How far log odds are from the peer's, in words.

    Raises:
        SystemExit: further than the arithmetic explains.
    """
    furthest = float(np.abs(found - wanted).max())
    apart = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    words = f"the log odds of an image are up to {furthest:.1e} apart (at most {ALLOWED[part]:g})"
    words += f", of all {apart:.1e} of their norm (at most {OF_NORM[part]:g})"
    if furthest > ALLOWED[part] or apart > OF_NORM[part]:
        raise SystemExit(f"bench: B6 {part}: {words}; that is not the same work")
    return words


def logits(probability: object) -> npt.NDArray[np.float64]:
    """Of the positive class against the other."""
    given = np.asarray(probability, np.float64)
    return np.log(given) - np.log1p(-given)
