"""How this machine computes: device, precision, threads, memory. Environment, never a parameter.

In: TWOFOLD_DEVICE (auto, cpu, cuda, cuda:0 …), OMP_NUM_THREADS. Out: settings of the process, and a description of all
of them on which the last bits of a result depend.
"""

import os
import platform
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from twofold.core.errors import TrainingError
from twofold.core.malloc import keep_all_freed_memory
from twofold.core.progress import say
from twofold.model.inference import WHOLE
from twofold.model.torch_compile import COMPILE, compiler_version

MOST, PIXELS = 256, 256 * 256**2  # images a forward pass on a GPU, and pixels of all of them together


def device() -> torch.device:
    """The device that TWOFOLD_DEVICE names; a GPU if there is one by default.

    Raises:
        TrainingError: there is no such device here.
    """
    name = os.environ.get("TWOFOLD_DEVICE", "auto")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        found = torch.device("meta")
    here = found.type == "cpu" or (found.type == "cuda" and (found.index or 0) < torch.cuda.device_count())
    if not here:
        raise TrainingError(f"TWOFOLD_DEVICE={name}: no such device here; allowed are auto, cpu, cuda, cuda:0 …")
    return found


def has_bf16(where: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def autocast(where: torch.device) -> AbstractContextManager[None]:
    """Mixed precision where the device has it, else float32."""
    return torch.autocast(where.type, dtype=torch.bfloat16, enabled=has_bf16(where))


def inference_batch_size(where: torch.device, image_size: int) -> int:
    """Images a forward pass without gradients: what is best on a CPU; more on a GPU, which fewer would leave idle.

    Args:
        where: the device.
        image_size: pixels a side; the larger, the fewer, so that a GPU's memory holds their maps.
    """
    return WHOLE if where.type == "cpu" else max(WHOLE, min(MOST, PIXELS // image_size**2))


def to_device(tensor: Tensor, where: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without waiting for it to arrive; its storage may be used again at once."""
    return tensor.pin_memory().to(where, non_blocking=True) if where.type == "cuda" else tensor.to(where)


def make_deterministic() -> None:
    """Same input, same bits; and on Linux, memory that is kept for the next step."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    keep_all_freed_memory()


def device_description() -> dict[str, str]:
    """What the last bits of a computation depend on, besides code and input."""
    where = device()
    fuses = f"triton {compiler_version()}, {COMPILE} {os.environ.get(COMPILE, 'auto')}"
    return {
        **({"compiler": fuses} if where.type == "cuda" else {}),
        "torch": str(torch.__version__),
        "device": where.type,
        "processor": torch.cuda.get_device_name(where) if where.type == "cuda" else _processor(),
        "threads": str(torch.get_num_threads()),
        "precision": "bfloat16" if has_bf16(where) else "float32",
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} {torch.backends.cpu.get_cpu_capability()}"


def warn_if_emulated(precision: str, where: torch.device) -> None:
    """Say once in a process that this model will be slow here."""
    if precision == "bfloat16" and not has_bf16(where):
        _say(where.type)


@cache
def _say(kind: str) -> None:
    say(
        f"bfloat16: this {kind} has no instructions for it; the model computes in it all the same, more slowly; with "
        "evaluate.precision: float32 it would be the faster one here"
    )
