"""B6: probabilities of prepared images from ResNet-50, against the evaluation loop of most tutorials.

In fp32, the default of a model; in bf16, with `evaluate.precision: bfloat16`; and, on a CPU, in int8, as the file of
`twofold export onnx --precision int8` in onnxruntime.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench.harness.hardware import RESNET50_FLOPS, by_device, matmul_time
from bench.harness.isolated_process import IsolatedProcess
from bench.harness.timing import Comparison, Limit, compare, work_size
from bench.peers import defaults
from bench.workloads.paced_training import RESNET50, SIZE, scale_residual_branches
from bench.workloads.prepared_images import generated
from twofold.data.prepared import PreparedDataset
from twofold.data.process_pool import worker_count
from twofold.model.classifier import Classifier, build_classifier
from twofold.model.device import device, make_deterministic
from twofold.model.inference import probabilities
from twofold.serving.export import write_onnx
from twofold.serving.quantization import quantize
from twofold.serving.sealed_model import SealedModel

Scores = npt.NDArray[np.float64]
IMAGES = work_size(by_device(cpu=128, gpu=2048), 8)
BATCH = by_device(cpu=16, gpu=256)
PEER_BATCH = by_device(cpu=32, gpu=256)
# The largest difference from the peer's log odds: of a single image, and of all images relative to the peer's norm. An
# int8 model is a different one with metrics of its own, so its limits only detect a broken graph.
MAX_DIFFERENCE = {"fp32": 1e-3, "bf16": 1e-2, "int8": 1e-2}
MAX_RELATIVE = {"fp32": 1e-3, "bf16": 3e-2, "int8": 0.3}
CALIBRATION_IMAGES = 32  # from which int8 gets its ranges; they do not change the speed


def run() -> list[Comparison]:
    """Compare with random weights, which do not change the speed."""
    make_deterministic()
    torch.manual_seed(0)
    classifier = scale_residual_branches(build_classifier("resnet50", 0.5))
    seconds, rate = matmul_time(RESNET50_FLOPS * IMAGES)
    limit = Limit(seconds, f"8.2 GFLOP per image at {rate}")
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
        folder = Path(name)
        data = generated(folder / "data", IMAGES, 2, SIZE)
        torch.save(classifier.state_dict(), folder / "weights.pt")
        classifier.to(device()).to(memory_format=torch.channels_last)
        workers = worker_count()
        peer = IsolatedProcess(defaults.scoring, data.directory, folder / "weights.pt", IMAGES, PEER_BATCH, workers)
        reference = _log_odds(peer())

        def score(precision: str) -> Scores:
            rows = np.arange(IMAGES)
            batches = (data.pixels(rows[start : start + BATCH]) for start in range(0, IMAGES, BATCH))
            return probabilities(
                classifier, batches, mean=RESNET50.mean, std=RESNET50.std, views=1, precision=precision
            )

        def compare_part(part: str, words: str, ours: Callable[[], Scores], limit: Limit | None) -> Comparison:
            return compare(
                "B6",
                f"probabilities of {IMAGES} prepared images of {SIZE} px, ResNet-50, one view",
                part=part,
                ours=(f"{words}, batch {BATCH}", ours),
                peer=(f"fp32, NCHW, eval() under no_grad, DataLoader of batch {PEER_BATCH}, {workers} workers", peer),
                equal=_check_scores(_log_odds(ours()), reference, part),
                images=IMAGES,
                limit=limit,
            )

        comparisons = [
            compare_part(part, f"inference.probabilities with precision {name}", partial(score, name), limit)
            for part, name in (("fp32", "float32"), ("bf16", "bfloat16"))
        ]
        if device().type == "cpu":
            threads = torch.get_num_threads()
            words = f"the int8 file in onnxruntime with {threads} threads"
            # Without a limit: the rate of int8 products is not measured.
            comparisons.append(compare_part("int8", words, _int8_scorer(classifier, data, folder, threads), None))
        peer.close()
    return comparisons


def _int8_scorer(classifier: Classifier, data: PreparedDataset, folder: Path, threads: int) -> Callable[[], Scores]:
    """Export the classifier to an int8 file; returns the function that scores all images with it."""
    import onnxruntime

    meta = {"mean": RESNET50.mean, "std": RESNET50.std}
    decision = {"labels": ["good", "bad"], "threshold": 0.5, "views": 1}
    write_onnx(SealedModel(classifier, meta, decision, {"image_size": SIZE}, ""), {}, folder / "float32.onnx")

    def batches(count: int) -> Iterator[npt.NDArray[np.uint8]]:
        for start in range(0, count, BATCH):
            yield np.repeat(data.pixels(np.arange(start, min(start + BATCH, count))), 3, axis=3)

    quantize(folder / "float32.onnx", batches(min(CALIBRATION_IMAGES, IMAGES)), folder / "int8.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "int8.onnx", options, providers=["CPUExecutionProvider"])

    def score() -> Scores:
        outputs = (session.run(None, {"pixels": batch})[0] for batch in batches(IMAGES))
        return np.concatenate([np.asarray(output, np.float64) for output in outputs])

    return score


def _check_scores(ours: Scores, reference: Scores, part: str) -> str:
    """Compare log odds with the peer's; returns the differences as text.

    Raises:
        SystemExit: a difference is larger than rounding explains.
    """
    largest = float(np.abs(ours - reference).max())
    relative = float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))
    words = f"the log odds of an image differ by at most {largest:.1e} (allowed {MAX_DIFFERENCE[part]:g})"
    words += f", those of all by {relative:.1e} of their norm (allowed {MAX_RELATIVE[part]:g})"
    if largest > MAX_DIFFERENCE[part] or relative > MAX_RELATIVE[part]:
        raise SystemExit(f"bench: B6 {part}: {words}; this is not the same work")
    return words


def _log_odds(probability: object) -> Scores:
    values = np.asarray(probability, np.float64)
    return np.log(values) - np.log1p(-values)
