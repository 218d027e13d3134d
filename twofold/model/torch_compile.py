"""torch.compile for training on a GPU, if it saves time and works on this machine.

TWOFOLD_COMPILE (auto, on, off) controls it. Compiled kernels are kept in `.twofold/compiled` of the current folder, or
in TORCHINDUCTOR_CACHE_DIR.
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
    """The version of Triton, in which torch.compile writes GPU kernels; empty without Triton or a C compiler."""
    has_compiler = any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang"))
    return importlib.metadata.version("triton") if has_compiler and importlib.util.find_spec("triton") else ""


def should_compile(where: torch.device, steps: int, batch_size: int, image_size: int) -> bool:
    """Whether to compile a training on this device, from TWOFOLD_COMPILE (auto, on, off).

    On an H200 at 224 px, compiled kernels shorten a step of ResNet-50 by 3 ms at batch 16 and by 16 ms at batch 256
    (7.0 to 4.0, 43.7 to 27.4); compiling takes half a minute, and "auto" compiles if the training saves more than that.

    Args:
        steps: of the whole training.
        batch_size: images per step.
        image_size: pixels per side.

    Raises:
        ParameterError: TWOFOLD_COMPILE has another value.
        TrainingError: TWOFOLD_COMPILE is on, and this machine cannot compile.
    """
    setting = os.environ.get(COMPILE, "auto")
    if setting not in ("auto", "on", "off"):
        raise ParameterError(f"{COMPILE}: found {setting!r}, allowed are auto, on, off")
    can_compile = where.type == "cuda" and bool(compiler_version())
    if setting == "on" and not can_compile:
        lacks = "no C compiler (cc, gcc or clang) or no Triton" if where.type == "cuda" else f"the device is {where}"
        raise TrainingError(f"{COMPILE}=on: compiling needs a GPU, Triton and a C compiler; here {lacks}")
    saved = steps * (0.0022 + 0.000055 * batch_size * (image_size / 224) ** 2)  # seconds
    return can_compile and (setting == "on" or (setting == "auto" and saved > 30))


def compiled(forward: Callable[..., Tensor], label: str) -> Callable[..., Tensor]:
    """Compile a function of tensors at its first call; if that fails, log it and use the function as it is.

    Raises:
        TrainingError: at the first call, if it cannot be compiled and TWOFOLD_COMPILE is on.
    """
    os.environ.setdefault(CACHE, str(Path(".twofold/compiled").resolve()))
    chosen: list[Callable[..., Tensor]] = []

    def call(*inputs: Tensor) -> Tensor:
        if chosen:
            return chosen[0](*inputs)
        function = torch.compile(forward, dynamic=False)
        say(f"{label}: compiling for this GPU, which takes up to a minute the first time")
        try:
            result = function(*inputs)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # each part of the compiler raises its own types
            first_line = next(iter(str(error).strip().splitlines()), "no further message")
            reason = f"cannot be compiled: {type(error).__name__}: {first_line}"
            if os.environ.get(COMPILE) == "on":
                raise TrainingError(f"{label}: {reason}; set {COMPILE}=off to train without compiling") from error
            say(f"{label}: {reason}; training continues without compiling, more slowly")
            function = forward
            result = forward(*inputs)
        chosen.append(function)
        return result

    return call
