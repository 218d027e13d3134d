"""The rehearsal of a sealed model: it is loaded in a fresh process and must say what evaluate said.

In: an MLflow model's folder, the bytes of some test images, and what evaluate said of them. Out: the largest
difference of a probability; an error if it is more than a model of its precision may differ, or a label is another.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.core.artifacts import read_json
from twofold.core.errors import RegistryError
from twofold.serving import smoke_test_script
from twofold.serving.sealed_model import TOLERANCES

IMAGES = 16
PATIENCE = 600  # seconds until a load that hangs is given up


def run_smoke_test(
    model: Path,
    images: Sequence[bytes],
    expected: NDArray[np.float64],
    *,
    threshold: float,
    labels: tuple[str, str],
    precision: str,
) -> float:
    """Score the images with the packed model in a process of its own, raw and as JSON, pickles forbidden.

    Args:
        model: folder of the MLflow model.
        images: files' bytes.
        expected: evaluate's probability of each.
        threshold: of the decision.
        labels: (negative, positive).
        precision: of the model.

    Returns:
        The largest absolute difference of a probability.

    Raises:
        RegistryError: the model does not load, or does not say what evaluate said.
    """
    found, tolerance = _answers(model, images), TOLERANCES[precision]
    worst = 0.0
    for kind, answers in found.items():
        difference = np.abs(np.asarray(answers["probability"], np.float64) - expected)
        if len(difference) != len(images) or not np.all(difference <= tolerance):
            raise RegistryError(
                f"the sealed model does not predict what evaluate did: sent as {kind}, probabilities differ by up to "
                f"{difference.max():.2g}, allowed is {tolerance:g} in {precision}; run evaluate again with the "
                "libraries of this environment"
            )
        for answer, probability in zip(answers["label"], expected, strict=True):
            # On the threshold itself the last digit may fall on either side.
            if abs(probability - threshold) > tolerance and answer != labels[int(probability >= threshold)]:
                raise RegistryError(
                    f"the sealed model answers {answer!r} at the probability {probability}, threshold {threshold}; "
                    "the label sealed with it is wrong"
                )
        worst = max(worst, float(difference.max()))
    return worst


def _answers(model: Path, images: Sequence[bytes]) -> dict[str, Any]:
    environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        folder, result = Path(scratch) / "images", Path(scratch) / "answers.json"
        folder.mkdir()
        for number, data in enumerate(images):
            (folder / f"{number:05d}").write_bytes(data)
        # -P: the script's own folder is part of Twofold and must not be importable.
        command = [sys.executable, "-P", smoke_test_script.__file__, str(model), str(folder), str(result)]
        try:
            done = subprocess.run(
                command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            raise RegistryError(f"the sealed model did not load and answer within {PATIENCE} s") from None
        if done.returncode != 0:
            raise RegistryError(f"the sealed model does not load in a fresh process:\n{done.stderr.strip()}")
        return read_json(result)
