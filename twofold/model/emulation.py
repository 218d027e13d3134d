"""Where bfloat16 is emulated: in come a precision and a device, out goes a line for the person who watches.

A model's precision is a property of it, whatever the machine: a processor that cannot multiply in bfloat16 rounds the
same numbers in the same places with other instructions, and takes longer.
"""

from functools import cache

import torch

from twofold.core.progress import say
from twofold.model import device


def tell(precision: str, where: torch.device) -> None:
    """Say once in a process that this model will be slow here."""
    if precision == "bfloat16" and not device.has_bf16(where):
        _say(where.type)


@cache
def _say(kind: str) -> None:
    say(
        f"bfloat16: this {kind} has no instructions for it; the model computes in it all the same, more slowly; with "
        "evaluate.precision: float32 it would be the faster one here"
    )
