"""The machine that a figure belongs to: its name, its parts and versions, and the rate that it multiplies at.

In: TWOFOLD_DEVICE, as for a step. Out: plain values for a result's file.
"""

import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path
from typing import Any, TypeVar

from twofold.model.device import device, has_bf16
from twofold.registry.provenance import provenance

T = TypeVar("T")
PACKAGES = ("torch", "torchvision", "timm", "pillow", "numpy", "mlflow", "dvc")
RESNET50 = 8.2e9  # floating point operations of a forward pass of one image of 224 px; three times that to train on it
CPU_SIDE, GPU_SIDE = 4096, 8192  # of the matrices by which the rate is measured
TRIES = 5
WRITTEN = ("bench/results/", "bench/README.md", "README.md")


def hardware() -> str:
    """`cpu`, or the GPU's short name: `h200` for "NVIDIA H200", `rtx4090` for "NVIDIA GeForce RTX 4090"."""
    where = device()
    return short(_gpu_name()) if where.type == "cuda" else "cpu"


def short(name: str) -> str:
    """The first word with a digit in it, and what of the model's name stands before it."""
    found = re.search(r"((?:RTX|GTX|Tesla)\s+)?([A-Za-z]*\d+\w*)", name)
    words = "".join(part or "" for part in found.groups()) if found else name
    return re.sub(r"[^a-z0-9]", "", words.lower())


def machine() -> dict[str, Any]:
    """Hardware, versions and commit; a package that is not installed is left out."""
    model, flags = _processor()
    known = provenance()
    return {
        "hardware": hardware(),
        "gpu": _gpu_name() if device().type == "cuda" else None,
        "processor": model,
        "bf16": has_bf16(device()) if device().type == "cuda" else bool(flags & {"avx512_bf16", "amx_bf16"}),
        "threads": len(os.sched_getaffinity(0)),
        "commit": known.get("git.commit"),
        "changed": changed(known.get("git.changed", "none")),
        "versions": {"python": platform.python_version()} | _versions(),
    }


def changed(files: str) -> bool:
    """Whether files differ from the commit, "a, b" or "none", other than those that the benchmarks write themselves."""
    return any(not name.startswith(WRITTEN) for name in files.split(", ") if name != "none")


def product_rate() -> float:
    """FLOP/s of a large product of two square matrices here and now: in bf16 where the device has it, else in fp32.

    The fastest of several, each long enough for the clock: what the device can do is the limit, not what it does on
    average.
    """
    import torch

    where = device()
    kind = torch.bfloat16 if has_bf16(where) else torch.float32
    side, repeats = (GPU_SIDE, 50) if where.type == "cuda" else (CPU_SIDE, 1)
    left, right = (torch.randn(side, side, device=where).to(kind) for _ in range(2))
    best = float("inf")
    for _ in range(TRIES + 1):  # the first one warms up
        wait()
        begin = time.perf_counter()
        for _ in range(repeats):
            left @ right
        wait()
        best = min(best, (time.perf_counter() - begin) / repeats)
    return 2 * side**3 / best


def on(*, cpu: T, gpu: T) -> T:
    """What belongs to the device that is computed on, such as the size of a batch."""
    return gpu if device().type == "cuda" else cpu


def products(operations: float) -> tuple[float, str]:
    """Seconds that so many floating point operations take at the rate of a large product, and that rate in words."""
    rate = product_rate()
    kind = "bf16" if has_bf16(device()) else "fp32"
    return operations / rate, f"{rate / 1e12:.3g} TFLOP/s of a large {kind} matrix product, measured in this run"


def wait() -> None:
    """Until the GPU, if this process uses one, has done all that it was asked for: a clock may be read then."""
    import sys

    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name(device()))


def _processor() -> tuple[str, set[str]]:
    model, flags = platform.processor(), set[str]()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        if key.strip() == "flags":
            flags = set(value.split())
    return model, flags


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a GPU machine that trains needs no mlflow
    return found
