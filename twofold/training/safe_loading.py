"""Tensors out of a file that torch has saved, without running anything that the file holds.

In: a file, or its bytes as a stream. Out: the tensors, numbers, texts and containers that were saved; a reason if it
holds anything else. Such a file is a pickle, and a pickle may name any code to be run; only what makes tensors is let
through here, and torch's advice to let through the rest is not passed on.
"""

import re
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import torch

_NAMED = re.compile(r"GLOBAL (\S+)")


def safe_load(source: Path | BinaryIO) -> Any:
    """What was saved, on the CPU.

    Raises:
        ValueError: the file names code, is of another kind, or is damaged; in a few words.
        OSError: it cannot be read.
    """
    try:
        with warnings.catch_warnings():
            # Of a protocol that torch does not write; whether it can be read is decided below.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(source, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # All kinds: what a damaged pickle does to the machine that reads it is not foreseen (IndexError, TypeError…).
        raise ValueError(_reason(error)) from None


def _reason(error: Exception) -> str:
    text = str(error)
    if named := _NAMED.search(text):
        return f"it asks for the code `{named[1]}`, which no tensor needs; nothing of it was run"
    if ".tar format" in text:
        return "it is a tar of torch's old kind, which cannot be read without running what it holds"
    if "TorchScript" in text:
        return "it is a program (TorchScript), not tensors"
    return f"it is damaged or of another kind ({type(error).__name__})"
