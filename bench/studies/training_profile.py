"""`python -m bench.studies.training_profile`: where a step of B3 and a batch of B6 spend their time on this device.

Out: for each, a table of the operators (on a GPU: of its kernels) by kind, with the share of the wall time and the
share in which nothing ran; and the ten that took longest. No peer and no file: it explains B3's and B6's figures.
"""

import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from bench.harness.hardware import on, wait
from bench.workloads.paced_training import RESNET50, SIZE, TURNED, Paced, classifier, size
from bench.workloads.prepared_images import generated
from twofold.data.prepared import PreparedDataset
from twofold.model.device import device, make_deterministic
from twofold.model.fused_classifier import FusedClassifier
from twofold.model.inference import predict_views
from twofold.training.data_loader import TrainingBatches

# Of kernels' and operators' names, first match first: the compiler names a kernel after everything that it has fused.
KINDS = {
    "fused by the compiler": r"^triton_",
    "copies": r"memcpy|memset|copy",
    "optimizer": r"foreach|multi_tensor|adam",
    "convolutions and products": r"conv|gemm|cutlass|xmma|cudnn|mkldnn|addmm|sm90_|sm80_|nvjet|wgrad|dgrad|fprop",
}
OTHER = "the rest: norms, activations, pooling, augmentation"
LONGEST, WIDTH = 10, 100


def main() -> None:
    """Both, one after the other."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    make_deterministic()
    each = size()
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as place:
        data = generated(Path(place) / "data", each.images, 2, SIZE)
        told("B3, an epoch of training", training(data, each.batch), each.images)
        told("B6, scoring in bf16", scoring(data, on(cpu=16, gpu=256), each.images), each.images)


def training(data: PreparedDataset, batch: int) -> Callable[[], object]:
    """An epoch a call, as in B3."""
    rows = data.rows("train")
    trained = classifier()
    shown = TrainingBatches(trained, data, rows, TURNED, mean=RESNET50.mean, std=RESNET50.std, batch_size=batch)
    return Paced(trained, shown.inputs, data.target[rows], batch, shown.forward)


def scoring(data: PreparedDataset, batch: int, images: int) -> Callable[[], object]:
    """The images once a call, as in B6."""
    network = FusedClassifier(classifier(), "bfloat16")
    rows = np.arange(images)

    def work() -> object:
        batches = (data.pixels(rows[start : start + batch]) for start in range(0, images, batch))
        return predict_views(network, batches, mean=RESNET50.mean, std=RESNET50.std, views=1)

    return work


def told(name: str, work: Callable[[], object], images: int) -> None:
    """Run it, warm, once without the profiler for the clock and once with it."""
    for _ in range(2):
        work()
    wait()
    begin = time.perf_counter()
    work()
    wait()
    wall = time.perf_counter() - begin
    gpu = device().type == "cuda"
    # A GPU's kernels are seen whoever asked for them; of a CPU's operators, without this, those of this thread alone.
    threads = None if gpu else _ExperimentalConfig(profile_all_threads=True)
    activity = ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU
    with profile(activities=[activity], experimental_config=threads) as found:
        work()
        wait()
    events = found.key_averages()
    spent = Counter({event.key: _seconds(event, gpu) for event in events})
    kinds: Counter[str] = Counter()
    for key, seconds in spent.items():
        kinds[kind(key)] += seconds
    print(f"{name}: {images} images in {wall:.3f} s, {images / wall:,.0f} images/s")
    for each, seconds in kinds.most_common():
        print(f"  {seconds / wall:6.1%}  {each}")
    # A profiled run is somewhat slower, so the shares may come to more than all.
    print(f"  {max(0.0, 1 - spent.total() / wall):6.1%}  nothing ran")
    for key, seconds in spent.most_common(LONGEST):
        print(f"  {seconds / wall:6.1%}  {key[:WIDTH]}", flush=True)


def _seconds(event: Any, gpu: bool) -> float:
    return float(event.self_device_time_total if gpu else event.self_cpu_time_total) / 1e6


def kind(name: str) -> str:
    """What a kernel or operator is for, by its name."""
    return next((each for each, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), OTHER)


if __name__ == "__main__":
    main()
