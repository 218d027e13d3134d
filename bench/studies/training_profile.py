"""`python -m bench.studies.training_profile`: where a step of B3 and a batch of B6 spend their time on this device.

Prints, for each, the share of the wall time by kind of operator (on a GPU: of kernel), the share in which nothing ran,
and the ten that took longest. This explains the results of B3 and B6. Writes no file.
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from bench.harness.hardware import by_device, synchronize
from bench.harness.timing import measure_seconds
from bench.workloads.paced_training import RESNET50, SIZE, epoch_size, finetune_epochs, random_resnet50
from bench.workloads.prepared_images import generated
from twofold.data.prepared import PreparedDataset
from twofold.model.device import device, make_deterministic
from twofold.model.fused_classifier import FusedClassifier
from twofold.model.inference import predict_views

# Patterns for the names of kernels and operators; the first match counts, as the compiler names a kernel after
# everything that it fuses.
KINDS = {
    "fused by the compiler": r"^triton_",
    "copies": r"memcpy|memset|copy",
    "optimizer": r"foreach|multi_tensor|adam",
    "convolutions and products": r"conv|gemm|cutlass|xmma|cudnn|mkldnn|addmm|sm90_|sm80_|nvjet|wgrad|dgrad|fprop",
}
OTHER = "the rest: norms, activations, pooling, augmentation"
LONGEST, WIDTH = 10, 100


def main() -> None:
    """Profile training, then inference."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    make_deterministic()
    size = epoch_size()
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as folder:
        data = generated(Path(folder) / "data", size.images, 2, SIZE)
        training = finetune_epochs(random_resnet50(), data, size.batch)
        _profile("B3, an epoch of training", training, size.images)
        _profile("B6, inference in bf16", _inference(data, by_device(cpu=16, gpu=256), size.images), size.images)


def _inference(data: PreparedDataset, batch: int, images: int) -> Callable[[], object]:
    """Each call predicts all images, as in B6."""
    network = FusedClassifier(random_resnet50(), "bfloat16")
    rows = np.arange(images)

    def work() -> object:
        batches = (data.pixels(rows[start : start + batch]) for start in range(0, images, batch))
        return predict_views(network, batches, mean=RESNET50.mean, std=RESNET50.std, views=1)

    return work


def _profile(name: str, work: Callable[[], object], images: int) -> None:
    """Warm up, run once without the profiler for the wall time and once with it; print the shares."""
    for _ in range(2):
        work()
    wall = measure_seconds(work)
    gpu = device().type == "cuda"
    # The kernels of a GPU are recorded for all threads; the operators of a CPU only with this option.
    threads = None if gpu else _ExperimentalConfig(profile_all_threads=True)
    activity = ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU
    with profile(activities=[activity], experimental_config=threads) as profiler:
        work()
        synchronize()
    field = "self_device_time_total" if gpu else "self_cpu_time_total"  # microseconds
    operators = Counter({event.key: getattr(event, field) / 1e6 for event in profiler.key_averages()})
    kinds: Counter[str] = Counter()
    for key, seconds in operators.items():
        kinds[kernel_kind(key)] += seconds
    print(f"{name}: {images} images in {wall:.3f} s, {images / wall:,.0f} images/s")
    for kind, seconds in kinds.most_common():
        print(f"  {seconds / wall:6.1%}  {kind}")
    # A profiled run is somewhat slower, so the shares may add up to more than 100 %.
    print(f"  {max(0.0, 1 - operators.total() / wall):6.1%}  nothing ran")
    for key, seconds in operators.most_common(LONGEST):
        print(f"  {seconds / wall:6.1%}  {key[:WIDTH]}", flush=True)


def kernel_kind(name: str) -> str:
    """What a kernel or operator is for, by its name."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), OTHER)


if __name__ == "__main__":
    main()
