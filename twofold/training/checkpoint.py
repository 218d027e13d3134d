"""Where a training that is killed goes on: one file, replaced after every epoch, removed after success.

In: the state of a training and the parts that it depends on. Out: that state again, only if every part is the same.
The files lie in TWOFOLD_CHECKPOINTS (default: `.twofold/checkpoints` in the current folder), never among a step's
outputs. They are named by what the training depends on, not by where its output goes: in a cluster that is another
place in every run, and the folder is one for many trainings.
"""

import hashlib
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from twofold.core.artifacts import digest
from twofold.core.code_digest import code_digest
from twofold.core.errors import ArtifactError
from twofold.core.progress import say
from twofold.model.device import device_description
from twofold.training import safe_loading


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
        **device_description(),
    }


ABANDONED = 7 * 24 * 3600  # seconds after which nobody will come back for a checkpoint
TORN = 3600  # seconds after which nobody is writing a draft any more


class Checkpoint:
    """The one checkpoint of one training."""

    def __init__(self, step: str, parts: Mapping[str, str]) -> None:
        """Name the checkpoint of a training; nothing is read or written yet.

        Args:
            step: its name.
            parts: everything that decides the training's result, by a name that a person understands.
        """
        self.parts = dict(parts)
        self.step = step
        self.folder = Path(os.environ.get("TWOFOLD_CHECKPOINTS", ".twofold/checkpoints"))
        self.path = self.folder / f"{step}-{self.key[:16]}.pt"
        # The same training may be under way twice, in two pods: neither writes into the other's file.
        self._draft = self.path.with_suffix(f".{socket.gethostname()}-{os.getpid()}.draft")

    @property
    def key(self) -> str:
        """SHA-256 over all parts."""
        lines = "".join(f"{name}\0{value}\n" for name, value in sorted(self.parts.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def load(self) -> dict[str, Any] | None:
        """The state to go on from; None if there is none (where another training has left one, it says so).

        Raises:
            ArtifactError: the folder cannot be made or written, which would show only after an epoch was paid for.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{self.folder}: {error.strerror}; see TWOFOLD_CHECKPOINTS") from None
        if not os.access(self.folder, os.W_OK):
            raise ArtifactError(f"{self.folder}: cannot be written; see TWOFOLD_CHECKPOINTS")
        if self.path.exists():
            kept = _read(self.path)
            return None if kept is None else dict(kept["state"])
        others = sorted(self.folder.glob(f"{self.step}-*.pt"), key=_touched)
        kept = _read(others[-1]) if others else None
        if kept is not None:
            names = sorted(self.parts.keys() | kept["parts"].keys())
            differ = [name for name in names if kept["parts"].get(name) != self.parts.get(name)]
            say(f"{others[-1]}: of another training (its {', '.join(differ)} differ); training starts from scratch")
        return None

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint; a kill at any moment leaves the old one or the new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        try:
            # Made anew, never written into: in a folder of many trainings the name may be someone's link.
            self._draft.unlink(missing_ok=True)
            with self._draft.open("xb") as stream:
                torch.save({"parts": self.parts, "state": dict(state)}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            self._draft.replace(self.path)
        except BaseException:
            self._draft.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """After success: the step's output takes its place."""
        self.path.unlink(missing_ok=True)
        self._draft.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove what trainings of this step have left that nobody goes on with."""
        now = time.time()
        for pattern, age in ((f"{self.step}-*.pt", ABANDONED), (f"{self.step}-*.draft", TORN)):
            for path in self.folder.glob(pattern):
                if path != self.path and now - _touched(path) > age:
                    path.unlink(missing_ok=True)


def _touched(path: Path) -> float:
    """When a file was written; one that another training has removed in the meantime, never."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read(path: Path) -> dict[str, Any] | None:
    """A checkpoint's parts and state; None, and it says so, if the file is not a whole one."""
    try:
        kept = safe_loading.safe_load(path)
        return {"parts": dict(kept["parts"]), "state": dict(kept["state"])}
    except (OSError, KeyError, TypeError, ValueError) as error:
        say(f"{path}: not readable as a checkpoint ({error}); training starts from scratch")
        return None
