"""The machine that a result belongs to: its hardware, its software versions and its speed at matrix products.

Computes on the device of TWOFOLD_DEVICE, as a step does. Returns plain values for the result's file.
"""

import importlib.metadata
import os
import platform
import re
import sys
import time
from typing import Any, TypeVar

from twofold.model.device import device, has_bf16, processor_name
from twofold.registry.provenance import provenance

T = TypeVar("T")
PACKAGES = ("torch", "torchvision", "timm", "pillow", "numpy", "mlflow", "dvc")
RESNET50_FLOPS = 8.2e9  # of a forward pass of one image of 224 px; a training step takes three times as many
CPU_SIDE, GPU_SIDE = 4096, 8192  # of the square matrices whose product is timed
MEASUREMENTS = 5
GENERATED = ("bench/results/", "bench/README.md", "docs/benchmarks.md")  # what the benchmarks write themselves


def hardware_name() -> str:
    """`cpu`, or the GPU's short name: `h200` for "NVIDIA H200", `rtx4090` for "NVIDIA GeForce RTX 4090"."""
    return short_gpu_name(_gpu_name()) if device().type == "cuda" else "cpu"


def short_gpu_name(name: str) -> str:
    """The first word that contains a digit, with RTX, GTX or Tesla before it."""
    match = re.search(r"((?:RTX|GTX|Tesla)\s+)?([A-Za-z]*\d+\w*)", name)
    words = "".join(part or "" for part in match.groups()) if match else name
    return re.sub(r"[^a-z0-9]", "", words.lower())


def describe_machine() -> dict[str, Any]:
    """Hardware, versions and commit; packages that are not installed are left out."""
    facts = provenance()
    gpu = device().type == "cuda"
    return {
        "hardware": hardware_name(),
        "gpu": _gpu_name() if gpu else None,
        "processor": processor_name(),
        "bf16": has_bf16(device()),
        "threads": len(os.sched_getaffinity(0)),
        "commit": facts.get("git.commit"),
        "changed": has_changes(facts.get("git.changed", "none")),
        "versions": {"python": platform.python_version()} | _versions(),
    }


def has_changes(files: str) -> bool:
    """Whether the files that differ from the commit ("a, b" or "none") include any that the benchmarks do not write."""
    return any(not name.startswith(GENERATED) for name in files.split(", ") if name != "none")


def by_device(*, cpu: T, gpu: T) -> T:
    """The value for the device of this run, such as a batch size."""
    return gpu if device().type == "cuda" else cpu


def matmul_time(flop: float) -> tuple[float, str]:
    """Seconds of this many floating point operations at the rate of a large matrix product, and that rate as text.

    The rate is measured now, in bf16 where the device supports it, otherwise in fp32. It is that of the fastest of
    several products, because a limit is what the device can do at best.
    """
    import torch

    kind = "bf16" if has_bf16(device()) else "fp32"
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    side, repeats = by_device(cpu=(CPU_SIDE, 1), gpu=(GPU_SIDE, 50))  # long enough for the clock
    left, right = (torch.randn(side, side, device=device()).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(MEASUREMENTS + 1):  # the first one warms up
        synchronize()
        begin = time.perf_counter()
        for _ in range(repeats):
            left @ right
        synchronize()
        best = min(best, (time.perf_counter() - begin) / repeats)
    rate = 2 * side**3 / best
    return flop / rate, f"{rate / 1e12:.3g} TFLOP/s of a large {kind} matrix product, measured in this run"


def synchronize() -> None:
    """Wait until the GPU has finished all its work, if this process uses one, so that a clock can be read."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name(device()))


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a GPU machine that only trains needs no mlflow
    return versions
