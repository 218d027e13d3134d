"""How this machine computes: device, precision, threads and determinism, read from the environment.

TWOFOLD_DEVICE (auto, cpu, cuda, cuda:0 …) selects the device and OMP_NUM_THREADS the number of CPU threads; neither is
a parameter. `device_description` lists everything else on which the last bits of a result depend.
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
from twofold.model.inference import CPU_BATCH
from twofold.model.torch_compile import COMPILE, compiler_version

MAX_BATCH, MAX_PIXELS = 256, 256 * 256**2  # images per forward pass on a GPU, and the pixels of all of them


def device() -> torch.device:
    """The device that TWOFOLD_DEVICE names; by default a GPU if there is one.

    Raises:
        TrainingError: this machine does not have that device.
    """
    name = os.environ.get("TWOFOLD_DEVICE", "auto")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError:
        found = torch.device("meta")
    if found.type == "cpu" or (found.type == "cuda" and (found.index or 0) < torch.cuda.device_count()):
        return found
    raise TrainingError(f"TWOFOLD_DEVICE={name}: no such device on this machine; allowed are auto, cpu, cuda, cuda:0 …")


def has_bf16(where: torch.device) -> bool:
    """Whether the device has bfloat16 matrix instructions."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(where: torch.device) -> AbstractContextManager[None]:
    """Mixed precision if the device has bfloat16; otherwise float32."""
    return torch.autocast(where.type, dtype=torch.bfloat16, enabled=has_bf16(where))


def inference_batch_size(where: torch.device, image_size: int) -> int:
    """Images of `image_size` px per side in a forward pass without gradients.

    That is CPU_BATCH on a CPU, and on a GPU as many as keep it busy while its memory holds their feature maps.
    """
    return CPU_BATCH if where.type == "cpu" else max(CPU_BATCH, min(MAX_BATCH, MAX_PIXELS // image_size**2))


def to_device(tensor: Tensor, where: torch.device) -> Tensor:
    """A CPU tensor on the device; the copy to a GPU is asynchronous, and the CPU tensor may be reused at once."""
    return tensor.pin_memory().to(where, non_blocking=True) if where.type == "cuda" else tensor.to(where)


def make_deterministic() -> None:
    """Make torch deterministic to the last bit; on Linux, also keep freed memory for the next step."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    keep_all_freed_memory()


def device_description() -> dict[str, str]:
    """Everything besides code and input that the last bits of a result depend on."""
    where = device()
    cpu = f"{processor_name()} {torch.backends.cpu.get_cpu_capability()}"
    compiler = f"triton {compiler_version()}, {COMPILE} {os.environ.get(COMPILE, 'auto')}"
    return {
        **({"compiler": compiler} if where.type == "cuda" else {}),
        "torch": str(torch.__version__),
        "device": where.type,
        "processor": torch.cuda.get_device_name(where) if where.type == "cuda" else cpu,
        "threads": str(torch.get_num_threads()),
        "precision": "bfloat16" if has_bf16(where) else "float32",
    }


def processor_name() -> str:
    """The model of the CPU, from /proc/cpuinfo if there is one."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


@cache
def warn_if_emulated(precision: str, where: torch.device) -> None:
    """Log, once per process and device, that the device emulates the model's bfloat16 and is slow."""
    if precision == "bfloat16" and not has_bf16(where):
        say(
            f"bfloat16: this {where.type} has no instructions for it; the model still computes in bfloat16, but more "
            "slowly than with evaluate.precision: float32"
        )
