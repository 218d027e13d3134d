"""Smoke test of a packaged model: loaded in a fresh process, it must give the predictions of evaluate.

Reads an MLflow model's folder, the bytes of some test images and evaluate's probabilities of them. Returns the largest
difference of a probability; raises an error if it exceeds the tolerance of the model's precision or a label differs.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.core.artifacts import read_json
from twofold.core.drafts import scratch_folder
from twofold.core.errors import RegistryError
from twofold.serving import smoke_test_script
from twofold.serving.sealed_model import TOLERANCES

IMAGES = 16
TIMEOUT = 600  # seconds to load and score


def run_smoke_test(
    model: Path,
    images: Sequence[bytes],
    expected: NDArray[np.float64],
    *,
    threshold: float,
    labels: tuple[str, str],
    precision: str,
) -> float:
    """Score images with an MLflow model in its own process, as raw bytes and as JSON, with pickles forbidden.

    Args:
        model: folder of the MLflow model.
        images: bytes of image files.
        expected: evaluate's probability of each image.

    Returns:
        The largest absolute difference of a probability.

    Raises:
        RegistryError: the model does not load, or does not give the predictions of evaluate.
    """
    tolerance, largest = TOLERANCES[precision], 0.0
    for kind, answers in _score_in_process(model, images).items():
        difference = np.abs(np.asarray(answers["probability"], np.float64) - expected)
        if len(difference) != len(images) or not np.all(difference <= tolerance):
            raise RegistryError(
                f"the sealed model does not predict what evaluate did: sent as {kind}, probabilities differ by up to "
                f"{difference.max():.2g}, allowed is {tolerance:g} in {precision}; run evaluate again with the "
                "libraries of this environment"
            )
        for answer, probability in zip(answers["label"], expected, strict=True):
            # Within the tolerance of the threshold, rounding may decide the label.
            if abs(probability - threshold) > tolerance and answer != labels[int(probability >= threshold)]:
                raise RegistryError(
                    f"the sealed model answers {answer!r} at the probability {probability}, threshold {threshold}; "
                    "the label sealed with it is wrong"
                )
        largest = max(largest, float(difference.max()))
    return largest


def _score_in_process(model: Path, images: Sequence[bytes]) -> dict[str, Any]:
    environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    with scratch_folder() as scratch:
        folder, result = scratch / "images", scratch / "answers.json"
        folder.mkdir()
        for number, data in enumerate(images):
            (folder / f"{number:05d}").write_bytes(data)
        # -P: the script's folder is part of Twofold and must not be importable.
        command = [sys.executable, "-P", smoke_test_script.__file__, str(model), str(folder), str(result)]
        try:
            done = subprocess.run(
                command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise RegistryError(f"the sealed model did not load and answer within {TIMEOUT} s") from None
        if done.returncode != 0:
            raise RegistryError(f"the sealed model does not load in a fresh process:\n{done.stderr.strip()}")
        return read_json(result)
