"""Checkpoints: a training that is killed resumes from one file, replaced after every epoch and removed after success.

A checkpoint holds the state of a training and everything that its result depends on; it is loaded only if all of that
is unchanged. The files lie in TWOFOLD_CHECKPOINTS (default: `.twofold/checkpoints` in the current folder), never among
a step's outputs. Their names depend on the inputs and not on the output's place: in a cluster that differs in
every run, and one folder serves many trainings.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from twofold.core.artifacts import digest
from twofold.core.code_digest import code_digest
from twofold.core.drafts import draft
from twofold.core.progress import say
from twofold.model.device import device_description
from twofold.training import safe_loading

CHECKPOINT_AGE = 7 * 24 * 3600  # seconds after which a checkpoint of another training is removed


def dependencies(step: str, parameters: Mapping[str, Any], **inputs: Path) -> dict[str, str]:
    """Everything that a step's result depends on: digests of its input artifacts and code, parameters, numerics."""
    return {
        **{name: digest(path) for name, path in inputs.items()},
        **{f"{step}.{name}": json.dumps(value) for name, value in parameters.items()},
        "code": code_digest(f"twofold.steps.{step}"),
        **device_description(),
    }


class Checkpoint:
    """The one checkpoint of one training."""

    def __init__(self, step: str, parts: Mapping[str, str]) -> None:
        """Name the checkpoint, without reading or writing it; `parts` is what the training's result depends on."""
        self.parts = dict(parts)
        self.step = step
        self.folder = Path(os.environ.get("TWOFOLD_CHECKPOINTS", ".twofold/checkpoints"))
        self.path = self.folder / f"{step}-{self.key[:16]}.pt"

    @property
    def key(self) -> str:
        """SHA-256 over all parts."""
        lines = "".join(f"{name}\0{value}\n" for name, value in sorted(self.parts.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def load(self) -> dict[str, Any] | None:
        """The state to resume from, or None; logs if there is only a checkpoint of another training.

        Raises:
            ArtifactError: TWOFOLD_CHECKPOINTS cannot be written; otherwise that would show only after an epoch.
        """
        with draft(self.path) as temporary:
            temporary.touch()
        if self.path.exists():
            own = _read(self.path)
            return own and own["state"]
        others = sorted(self.folder.glob(f"{self.step}-*.pt"), key=_modified)
        if others and (other := _read(others[-1])):
            names = sorted(self.parts.keys() | other["parts"].keys())
            differ = [name for name in names if other["parts"].get(name) != self.parts.get(name)]
            say(f"{others[-1]}: of another training (its {', '.join(differ)} differ); training starts from scratch")
        return None

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint atomically: a kill at any moment leaves the old one or the new one."""
        for other in self.folder.glob(f"{self.step}-*.pt"):
            if other != self.path and time.time() - _modified(other) > CHECKPOINT_AGE:
                other.unlink(missing_ok=True)
        # Two pods may run the same training at once: each writes into a draft of its own.
        with draft(self.path) as temporary:
            # Always a new file: in a shared folder the existing name may be someone's link.
            with temporary.open("xb") as stream:
                torch.save({"parts": self.parts, "state": dict(state)}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(self.path)

    def remove(self) -> None:
        """Remove the checkpoint after success."""
        self.path.unlink(missing_ok=True)


def _modified(path: Path) -> float:
    """The time of a file's last change; 0 if another training has removed it in the meantime."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _read(path: Path) -> dict[str, Any] | None:
    """A checkpoint's parts and state; None, with a log line, if the file is damaged."""
    try:
        content = safe_loading.safe_load(path)
        return {"parts": dict(content["parts"]), "state": dict(content["state"])}
    except (OSError, KeyError, TypeError, ValueError) as error:
        say(f"{path}: not readable as a checkpoint ({error}); training starts from scratch")
        return None
