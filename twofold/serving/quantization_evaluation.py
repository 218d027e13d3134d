"""Evaluate an int8 file on the test images of its model.

Reads a sealed model, the prepared data that it was trained and tested on, and the model's int8 file. Returns the
metrics of both on the same images, as a JSON object for the file's metadata, or refuses a file that loses too much.
"""

import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from twofold.core.errors import ArtifactError, DataError
from twofold.core.progress import track
from twofold.data.prepared import PreparedDataset
from twofold.evaluation.predictions import fingerprint
from twofold.metrics.classification import metrics_summary
from twofold.model.device import make_deterministic
from twofold.serving.model_resolver import ResolvedModel
from twofold.serving.quantization import METHOD
from twofold.serving.sealed_model import BATCH, SealedModel, sealed_splits

CALIBRATION_IMAGES = 256  # training images for the ranges, or all if there are fewer
MAX_AUC_LOSS = 0.002  # on the test, compared with the sealed model
_TEXT_METRICS = ("accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "log_loss")
_REMEDY = "give the data that it comes from"


def open_own_data(resolved: ResolvedModel, data: Path) -> PreparedDataset:
    """Open prepared data if it is the data that a model was trained and tested on.

    Raises:
        ArtifactError: the data cannot be read, or the splits were not sealed with the model.
        DataError: images, labels, splits or preprocessing differ.
    """
    prepared, sealed, version = PreparedDataset.open(data), resolved.sealed, resolved.version
    found, expected = prepared.meta["fingerprint"], sealed.decision.get("fingerprint")
    if found != expected:
        raise DataError(
            f"{data}: its fingerprint is {found}, {version} was trained and tested on {expected}; {_REMEDY}"
        )
    for split, own in sealed_splits(resolved.folder).items():
        here = set(prepared.sha256[prepared.rows(split)])
        if here != own:
            raise DataError(
                f"{data}: {len(here - own)} of its {len(here)} {split} images are not among {version}'s {len(own)}; "
                f"{_REMEDY}"
            )
    pixels = prepared.meta["pixels"]
    for key in sorted((pixels.keys() | sealed.preprocessing.keys()) - {"limits"}):
        found, expected = pixels.get(key), sealed.preprocessing.get(key)
        if found != expected:
            raise DataError(f"{data}: made with {key} {found}, {version} needs {expected}; {_REMEDY}")
    return prepared


def calibration_images(prepared: PreparedDataset) -> tuple[int, Iterator[NDArray[np.uint8]]]:
    """Return the number of training images for the ranges, and their batches: the first by SHA-256, a random sample."""
    rows = prepared.rows("train")[:CALIBRATION_IMAGES]
    return len(rows), track(_batches(prepared, rows), "calibrating", len(rows), per_item=BATCH)


def evaluate(sealed: SealedModel, file: Path, prepared: PreparedDataset, calibrated: int) -> dict[str, Any]:
    """Compute the metrics of a model and of its int8 file on the test images, at the model's threshold.

    Args:
        sealed: scores in its own precision, so its metrics are those that it was registered with.
        calibrated: number of training images that the file's ranges come from.

    Returns:
        `int8` and `sealed`: see `twofold.metrics.classification.metrics_summary`; `changed_calls`: number of test
        images whose predicted class differs; `test_fingerprint`; `calibration`; and `processor`: an x86 processor
        without VNNI may saturate sums and so give other probabilities.

    Raises:
        DataError: the file returns values that are not probabilities.
    """
    make_deterministic()
    rows = prepared.rows("test")
    target, n = prepared.target[rows], len(rows)
    from_file = run_onnx(file, track(_batches(prepared, rows), "testing in int8", n, per_item=BATCH))
    from_model = sealed.probabilities(track(_batches(prepared, rows), "testing as sealed", n, per_item=BATCH))
    return {
        "int8": metrics_summary(target, from_file, sealed.threshold),
        "sealed": metrics_summary(target, from_model, sealed.threshold),
        "changed_calls": int(((from_file >= sealed.threshold) != (from_model >= sealed.threshold)).sum()),
        "test_fingerprint": fingerprint(prepared.sha256[rows], prepared.column("label")[rows]),
        "calibration": {"split": "train", "n": calibrated, "method": METHOD},
        "processor": _cpu_features(),
    }


def require_auc(evaluation: Mapping[str, Any], max_loss: float) -> None:
    """Refuse an int8 file that loses too much ROC-AUC.

    Raises:
        ArtifactError: its ROC-AUC is lower than the model's by more than `max_loss`, or either is missing.
    """
    found, expected = (evaluation[name].get("roc_auc") for name in ("int8", "sealed"))
    if found is None or expected is None or not expected - found <= max_loss:
        raise ArtifactError(
            f"export onnx: in int8, ROC-AUC on {evaluation['int8']['n']} test images is {found}, as sealed {expected}; "
            f"allowed is a loss of {max_loss:g} (--max-auc-loss); nothing was written"
        )


def as_text(evaluation: Mapping[str, Any]) -> str:
    """Return the metrics of both as a table, and the number of changed predictions."""
    lines = [f"{'':<18}{'sealed':>9}{'int8':>9}"]
    for metric in _TEXT_METRICS:
        values = (evaluation[column].get(metric) for column in ("sealed", "int8"))
        cells = (f"{'-' if value is None else format(value, '.4f'):>9}" for value in values)
        lines.append(f"{metric:<18}" + "".join(cells))
    calibration = evaluation["calibration"]
    lines.append(
        f"the predicted class differs on {evaluation['changed_calls']} of {evaluation['int8']['n']} test images; "
        f"ranges ({calibration['method']}) from {calibration['n']} training images"
    )
    return "\n".join(lines)


def _batches(prepared: PreparedDataset, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Yield batches (n, S, S, 3); grey images are repeated, since a file accepts only colour."""
    for start in range(0, len(rows), BATCH):
        pixels = prepared.pixels(rows[start : start + BATCH])
        yield pixels if prepared.channels == 3 else np.repeat(pixels, 3, axis=3)


def run_onnx(file: Path, batches: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return the probabilities that an ONNX file gives for batches (n, S, S, 3), on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return np.concatenate([np.asarray(session.run(None, {"pixels": batch})[0], np.float64) for batch in batches])


def _cpu_features() -> dict[str, Any]:
    capabilities = torch.cpu.get_capabilities()
    vnni = bool(capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))
    return {"architecture": capabilities.get("architecture", platform.machine()), "vnni": vnni}
