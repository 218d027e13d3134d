"""What a model is worth in int8: measured again, on the test images that it was tested on.

In: a sealed model, the prepared data that it comes from, and its file in int8. Out: the figures of both on the same
images, as a JSON object that goes into the file's metadata, or a refusal where int8 costs too much.
"""

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from twofold.core.errors import ArtifactError, DataError
from twofold.core.progress import track
from twofold.data.prepared import PreparedDataset
from twofold.data.splits import SPLITS
from twofold.evaluation.predictions import fingerprint
from twofold.metrics.classification import metrics_summary
from twofold.model.device import make_deterministic
from twofold.serving.model_resolver import ResolvedModel
from twofold.serving.quantization import METHOD
from twofold.serving.sealed_model import BATCH, SealedModel, sealed_splits

CALIBRATED = 256  # training images from which the ranges come, or all where there are fewer
MAX_AUC_LOSS = 0.002  # on the test, of the ROC-AUC of the model as it is sealed
SHOWN = ("accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "log_loss")


def open_own_data(picked: ResolvedModel, data: Path) -> PreparedDataset:
    """The prepared data, if they are those that a model was trained and tested on.

    Raises:
        ArtifactError: the data cannot be read, or the model does not say what it was trained on.
        DataError: other images, labels or splits, or pixels made in another way.
    """
    prepared, sealed = PreparedDataset.open(data), picked.sealed
    found, expected = prepared.meta["fingerprint"], sealed.decision.get("fingerprint")
    if found != expected:
        raise DataError(
            f"{data}: its fingerprint is {found}, {picked.version} was trained and tested on {expected}; give the data "
            "that it comes from"
        )
    learned = sealed_splits(picked.folder)
    for split in SPLITS:
        here = set(prepared.sha256[prepared.rows(split)])
        if here != learned[split]:
            raise DataError(
                f"{data}: of its {len(here)} {split} images {len(here - learned[split])} are none of "
                f"{picked.version}'s, which had {len(learned[split])}; give the data that it comes from"
            )
    for key in sorted((prepared.meta["pixels"].keys() | sealed.preprocessing.keys()) - {"limits"}):
        found, expected = prepared.meta["pixels"].get(key), sealed.preprocessing.get(key)
        if found != expected:
            raise DataError(
                f"{data}: made with {key} {found}, {picked.version} wants {expected}; give the data that it comes from"
            )
    return prepared


def calibration_images(prepared: PreparedDataset) -> tuple[int, Iterator[NDArray[np.uint8]]]:
    """How many training images the ranges come from, and these in batches: the first by SHA-256, a random sample."""
    rows = prepared.rows("train")[:CALIBRATED]
    return len(rows), track(_batches(prepared, rows), "calibrating", len(rows), per_item=BATCH)


def evaluate(sealed: SealedModel, file: Path, prepared: PreparedDataset, calibrated: int) -> dict[str, Any]:
    """The figures of a model and of its file in int8 on the test images, at the model's threshold.

    Args:
        sealed: answers in its own precision, so that its figures are those that it was registered with.
        file: takes `pixels` and gives `probability`.
        prepared: the model's data.
        calibrated: training images from which the file's ranges come.

    Returns:
        `int8` and `sealed`, both as `twofold.metrics.classification.summary` gives them; `changed_calls`, the test images that are
        called otherwise; `test_fingerprint` of the test; `calibration`; and the `processor` that it was measured on:
        an x86 without VNNI may cut off sums that another one does not.

    Raises:
        DataError: the file gives what is no probability.
    """
    make_deterministic()
    rows = prepared.rows("test")
    target, n = prepared.target[rows], len(rows)
    answered = _answers(file, track(_batches(prepared, rows), "testing in int8", n, per_item=BATCH))
    said = sealed.probabilities(track(_batches(prepared, rows), "testing as sealed", n, per_item=BATCH))
    return {
        "int8": metrics_summary(target, answered, sealed.threshold),
        "sealed": metrics_summary(target, said, sealed.threshold),
        "changed_calls": int(((answered >= sealed.threshold) != (said >= sealed.threshold)).sum()),
        "test_fingerprint": fingerprint(prepared.sha256[rows], prepared.column("label")[rows]),
        "calibration": {"split": "train", "n": calibrated, "method": METHOD},
        "processor": _processor(),
    }


def require_auc(evaluation: Mapping[str, Any], most: float) -> None:
    """Refuse a file whose ROC-AUC is lower than the model's by more than `most`.

    Raises:
        ArtifactError: it is, or one of the two has no ROC-AUC.
    """
    found, expected = (evaluation[name].get("roc_auc") for name in ("int8", "sealed"))
    if found is None or expected is None or not expected - found <= most:
        raise ArtifactError(
            f"export onnx: in int8, ROC-AUC on {evaluation['int8']['n']} test images is {found}, as sealed {expected}; "
            f"allowed is a loss of {most:g} (--max-auc-loss); nothing was written"
        )


def as_text(evaluation: Mapping[str, Any]) -> str:
    """Both columns of figures, and what else was found."""
    lines = [f"{'':<18}{'sealed':>9}{'int8':>9}"]
    for name in SHOWN:
        pair = (evaluation[column].get(name) for column in ("sealed", "int8"))
        lines.append(f"{name:<18}" + "".join(f"{'-' if value is None else format(value, '.4f'):>9}" for value in pair))
    used = evaluation["calibration"]
    lines.append(
        f"{evaluation['changed_calls']} of {evaluation['int8']['n']} test images are called otherwise; ranges "
        f"({used['method']}) from {used['n']} training images"
    )
    return "\n".join(lines)


def _batches(prepared: PreparedDataset, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """(n, S, S, 3) each: a file takes no grey ones."""
    for start in range(0, len(rows), BATCH):
        pixels = prepared.pixels(rows[start : start + BATCH])
        yield pixels if prepared.channels == 3 else np.repeat(pixels, 3, axis=3)


def _answers(file: Path, batches: Iterator[NDArray[np.uint8]]) -> NDArray[np.float64]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return np.concatenate([np.asarray(session.run(None, {"pixels": batch})[0], np.float64) for batch in batches])


def _processor() -> dict[str, Any]:
    found = torch.cpu.get_capabilities()
    vnni = bool(found.get("avx512_vnni") or found.get("avx_vnni"))
    return {"architecture": found.get("architecture", platform.machine()), "vnni": vnni}
