"""A forward pass whose operations a GPU runs fused: torch.compile, where it pays and where it works.

In: TWOFOLD_COMPILE (auto, on, off), a function of tensors. Out: the same function, faster. What the compiler has made
is kept in `.twofold/compiled` of the current folder, or where TORCHINDUCTOR_CACHE_DIR says.
"""

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from twofold.core.errors import ParameterError, TrainingError
from twofold.core.progress import say

COMPILE = "TWOFOLD_COMPILE"
CACHE = "TORCHINDUCTOR_CACHE_DIR"


def compiler_version() -> str:
    """The version of what fuses a network's operations on a GPU; empty where there is none.

    `torch.compile` writes its kernels in Triton, which needs a C compiler for its launchers.
    """
    found = any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang"))
    return importlib.metadata.version("triton") if found and importlib.util.find_spec("triton") else ""


def should_compile(where: torch.device, steps: int, batch_size: int, image_size: int) -> bool:
    """Whether a training on this device is worth compiling, from TWOFOLD_COMPILE (auto, on, off).

    On an H200 at 224 px, fused kernels save a step of ResNet-50 3 ms at batch 16 and 16 ms at batch 256 (7.0 to 4.0,
    43.7 to 27.4), and compiling takes half a minute: "auto" compiles what saves more than that.

    Args:
        where: the device.
        steps: of the whole training.
        batch_size: images a step.
        image_size: pixels of a side.

    Raises:
        ParameterError: TWOFOLD_COMPILE is none of these.
        TrainingError: it is on, and nothing here compiles.
    """
    wish = os.environ.get(COMPILE, "auto")
    if wish not in ("auto", "on", "off"):
        raise ParameterError(f"{COMPILE}: found {wish!r}, allowed are auto, on, off")
    able = where.type == "cuda" and bool(compiler_version())
    if wish == "on" and not able:
        lacks = "no C compiler (cc, gcc or clang) or no Triton" if where.type == "cuda" else f"the device is {where}"
        raise TrainingError(f"{COMPILE}=on: a training is compiled on a GPU, with a C compiler; here {lacks}")
    saved = steps * (0.0022 + 0.000055 * batch_size * (image_size / 224) ** 2)  # seconds
    return able and (wish == "on" or (wish == "auto" and saved > 30))


def compiled(forward: Callable[..., Tensor], label: str) -> Callable[..., Tensor]:
    """A function of tensors that is compiled at its first call; if that fails, it says so and the function stays.

    Args:
        label: for the person who watches.

    Raises:
        TrainingError: at the first call: it cannot be compiled, and TWOFOLD_COMPILE is on.
    """
    os.environ.setdefault(CACHE, str(Path(".twofold/compiled").resolve()))
    chosen: list[Callable[..., Tensor]] = []

    def call(*inputs: Tensor) -> Tensor:
        if chosen:
            return chosen[0](*inputs)
        fused = torch.compile(forward, dynamic=False)
        say(f"{label}: compiling for this GPU, which takes up to a minute the first time")
        try:
            result = fused(*inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the compiler's many parts, each has its own
            said = str(error).strip().splitlines() or ["it says no more"]
            reason = f"cannot be compiled: {type(error).__name__}: {said[0]}"
            if os.environ.get(COMPILE) == "on":
                raise TrainingError(f"{label}: {reason}; {COMPILE}=off does without") from error
            say(f"{label}: {reason}; it goes on without, and slower")
            result = forward(*inputs)
            fused = forward
        chosen.append(fused)
        return result

    return call
