"""Where a training that is killed goes on: one file, replaced after every epoch, removed after success.

In: the state of a training and the parts that it depends on. Out: that state again, only if every part is the same.
The files lie in TWOFOLD_CHECKPOINTS (default: `.twofold/checkpoints` in the current folder), never among a step's
outputs.
"""

import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from twofold.artifacts import digest
from twofold.imports import code_digest
from twofold.numerics import description
from twofold.progress import say


def dependencies(step: str, parameters: Mapping[str, Any], **inputs: Path) -> dict[str, str]:
    """Everything that decides what a step writes: its inputs' bytes, its parameters, its code, this machine's numerics.

    Args:
        step: its name.
        parameters: as plain values.
        inputs: the artifacts that it reads, by name.
    """
    return {
        **{name: digest(path) for name, path in inputs.items()},
        **{f"{step}.{name}": json.dumps(value) for name, value in parameters.items()},
        "code": code_digest(f"twofold.steps.{step}"),
        **description(),
    }


class Checkpoint:
    """The one checkpoint of one output of one step."""

    def __init__(self, step: str, output: Path, parts: Mapping[str, str]) -> None:
        """Name the checkpoint of a step's output; nothing is read or written yet.

        Args:
            step: its name.
            output: the path that the step will write.
            parts: everything that decides the training's result, by a name that a person understands.
        """
        folder = Path(os.environ.get("TWOFOLD_CHECKPOINTS", ".twofold/checkpoints"))
        place = hashlib.sha256(str(output).encode()).hexdigest()[:8]
        self.path = folder / f"{step}-{place}.pt"
        self.parts = dict(parts)

    @property
    def key(self) -> str:
        """SHA-256 over all parts."""
        lines = "".join(f"{name}\0{value}\n" for name, value in sorted(self.parts.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def load(self) -> dict[str, Any] | None:
        """The state to go on from; None if there is none, or (and then it says so) one of another training."""
        if not self.path.exists():
            return None
        try:
            kept = torch.load(self.path, map_location="cpu", weights_only=True)
            parts, state = kept["parts"], kept["state"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            say(f"{self.path}: not readable as a checkpoint ({reason}); training starts from scratch")
            return None
        names = sorted(self.parts.keys() | parts.keys())
        other = [name for name in names if parts.get(name) != self.parts.get(name)]
        if other:
            say(f"{self.path}: of another training (its {', '.join(other)} differ); training starts from scratch")
            return None
        return dict(state)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint; a kill at any moment leaves the old one or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        with draft.open("wb") as stream:
            torch.save({"parts": self.parts, "state": dict(state)}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(self.path)

    def remove(self) -> None:
        """After success: the step's output takes its place."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".draft").unlink(missing_ok=True)
