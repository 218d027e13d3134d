"""Load files that torch has saved without executing anything they contain.

Such a file is a pickle, which may name any code to be run. Only tensors, numbers, texts and containers are allowed;
for anything else the error gives a reason, but not torch's advice on how to allow it.
"""

import re
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import torch

_NAMED = re.compile(r"GLOBAL (\S+)")


def safe_load(source: Path | BinaryIO) -> Any:
    """The saved object, on the CPU.

    Raises:
        ValueError: the file names code, has another format, or is damaged; with a short reason.
        OSError: the file cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of unusual pickle protocols, which are handled below
            return torch.load(source, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # A damaged pickle can raise anything (IndexError, TypeError…).
        raise ValueError(_reason(error)) from None


def _reason(error: Exception) -> str:
    text = str(error)
    if named := _NAMED.search(text):
        return f"it asks for the code `{named[1]}`, which no tensor needs; nothing of it was executed"
    if ".tar format" in text:
        return "it is in torch's old tar format, which cannot be read without executing its content"
    if "TorchScript" in text:
        return "it is a program (TorchScript), not tensors"
    return f"it is damaged or has another format ({type(error).__name__})"
