"""B6: probabilities of prepared images from ResNet-50, against the evaluation loop that most people write.

In fp32, as a model answers by default; in bf16, as evaluate.precision has it on demand; and, on a CPU, in int8, as the
file of `twofold export onnx --precision int8` in onnxruntime.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench.harness.hardware import RESNET50, on, products
from bench.harness.isolated_process import Apart
from bench.harness.timing import Comparison, Limit, compare, sized
from bench.peers import defaults
from bench.workloads.paced_training import passing
from bench.workloads.prepared_images import generated
from twofold.data.prepared import PreparedDataset
from twofold.data.process_pool import worker_count
from twofold.model.classifier import BACKBONES, Classifier, build_classifier
from twofold.model.device import device, make_deterministic
from twofold.model.inference import probabilities
from twofold.serving.export import write_onnx
from twofold.serving.quantization import quantize
from twofold.serving.sealed_model import SealedModel

SIZE = 224
IMAGES = sized(on(cpu=128, gpu=2048), 8)
BATCH = on(cpu=16, gpu=256)
PEER_BATCH = on(cpu=32, gpu=256)
ARCHITECTURE = BACKBONES["resnet50"]
# In int8 it is another model, with figures of its own: what is allowed there tells a broken graph from a rounded one.
ALLOWED = {"fp32": 1e-3, "bf16": 1e-2, "int8": 1e-2}  # that the log odds of any image may differ by
OF_NORM = {"fp32": 1e-3, "bf16": 3e-2, "int8": 0.3}  # and all of them together, of the norm of the peer's
CALIBRATED = 32  # images that the ranges in int8 come from; the rate does not depend on them


def run() -> list[Comparison]:
    """Random weights: the rate does not depend on them."""
    make_deterministic()
    torch.manual_seed(0)
    classifier = passing(build_classifier("resnet50", 0.5))
    seconds, rate = products(RESNET50 * IMAGES)
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
        place = Path(name)
        data = generated(place / "data", IMAGES, 2, SIZE)
        torch.save(classifier.state_dict(), place / "weights.pt")
        classifier.to(device()).to(memory_format=torch.channels_last)
        peer = Apart(defaults.scoring, data.directory, place / "weights.pt", IMAGES, PEER_BATCH, worker_count())
        wanted = logits(peer())

        def scored(precision: str) -> npt.NDArray[np.float64]:
            rows = np.arange(IMAGES)
            batches = (data.pixels(rows[start : start + BATCH]) for start in range(0, IMAGES, BATCH))
            return probabilities(
                classifier, batches, mean=ARCHITECTURE.mean, std=ARCHITECTURE.std, views=1, precision=precision
            )

        def against(
            part: str, words: str, ours: Callable[[], npt.NDArray[np.float64]], limit: Limit | None
        ) -> Comparison:
            equal = like(logits(ours()), wanted, part)
            return compare(
                "B6",
                f"probabilities of {IMAGES} prepared images of {SIZE} px, ResNet-50, one view",
                part=part,
                ours=(f"{words}, batch {BATCH}", ours),
                peer=(
                    f"fp32, NCHW, eval() under no_grad, DataLoader of batch {PEER_BATCH} with {worker_count()} workers",
                    peer,
                ),
                equal=equal,
                images=IMAGES,
                limit=limit,
            )

        limit = Limit(seconds, f"8.2 GFLOP an image at {rate}")
        found = [
            against(part, f"predicting.probabilities with precision {name}", partial(scored, name), limit)
            for part, name in (("fp32", "float32"), ("bf16", "bfloat16"))
        ]
        if device().type == "cpu":
            threads = torch.get_num_threads()
            words = f"the file in int8, in onnxruntime with {threads} threads"
            # The rate of products above is no limit here: int8 has one of its own.
            found.append(against("int8", words, in_int8(classifier, data, place, threads), None))
        peer.close()
    return found


def in_int8(
    classifier: Classifier, data: PreparedDataset, place: Path, threads: int
) -> Callable[[], npt.NDArray[np.float64]]:
    """Write a classifier as a file in int8; returns what lets it score all images."""
    import onnxruntime

    about = {"mean": ARCHITECTURE.mean, "std": ARCHITECTURE.std}
    decision = {"labels": ["good", "bad"], "threshold": 0.5, "views": 1}
    write_onnx(SealedModel(classifier, about, decision, {"image_size": SIZE}, ""), {}, place / "float32.onnx")

    def batches(count: int) -> Iterator[npt.NDArray[np.uint8]]:
        for start in range(0, count, BATCH):
            yield np.repeat(data.pixels(np.arange(start, min(start + BATCH, count))), 3, axis=3)

    quantize(place / "float32.onnx", batches(min(CALIBRATED, IMAGES)), place / "int8.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(place / "int8.onnx", options, providers=["CPUExecutionProvider"])

    def work() -> npt.NDArray[np.float64]:
        return np.concatenate(
            [np.asarray(session.run(None, {"pixels": one})[0], np.float64) for one in batches(IMAGES)]
        )

    return work


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
