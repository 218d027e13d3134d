"""`twofold export onnx|torch MODEL DIR`: a model as one self-contained file, for use without Twofold.

Reads a sealed model; writes `model.onnx` or `model.pt2` (for `torch.export.load`), which maps pixels, uint8
(N, S, S, 3), to the probability of the positive class, float32 (N,). Normalisation, test-time augmentation and
calibration are inside; the metadata describes how a file becomes pixels, and the decision threshold.

A file computes in float32 and is published only if it reproduces the model's float32 probabilities on random images.
The probabilities of a bfloat16 model, or of an int8 file (`model.int8.onnx`), are other ones than those that were
evaluated: the former is exported only on request, the latter is evaluated on the test images again.
"""

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twofold.core.artifacts import write_bytes
from twofold.core.drafts import scratch_folder
from twofold.core.errors import ArtifactError, ParameterError
from twofold.data import resizing
from twofold.data.decoding import AMPLE_KEY
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import Classifier
from twofold.model.inference import VIEWS, apply_view, normalise
from twofold.serving import quantization_evaluation
from twofold.serving.model_resolver import ResolvedModel, resolve_model
from twofold.serving.quantization import quantize, replace_metadata
from twofold.serving.sealed_model import SealedModel

NAMES = {"onnx": "model.onnx", "torch": "model.pt2"}
PRECISION = "float32"  # of a file
INT8, INT8_NAME = "int8", "model.int8.onnx"
NEEDED = ("onnx", "onnxruntime", "onnxscript")
TOLERANCE = 1e-4  # of a probability
RANDOM_IMAGES = 32  # on which a file is compared with the model
EXTRA = "twofold.json"  # the metadata's name in a .pt2 file
_TRACED_IMAGES = 3  # batch size of the traced graph; torch would treat a size of 1 as a constant


class Exported(NamedTuple):
    """The written file, the version of the model, and how far its probabilities are from the model's.

    Attributes:
        difference: largest difference from the model computed in float32; for int8, before quantization.
        precision: of the sealed model.
        moved: largest difference from the model in its own precision.
        evaluation: of an int8 file: see `quantization_evaluation.evaluate`; otherwise None.
    """

    path: Path
    version: str
    difference: float
    precision: str
    moved: float
    evaluation: Mapping[str, Any] | None


class PixelsToProbability(nn.Module):
    """A sealed model from pixels to calibrated probability."""

    def __init__(self, sealed: SealedModel) -> None:
        super().__init__()
        self.classifier: Classifier = sealed.classifier
        self.mean, self.std = sealed.architecture["mean"], sealed.architecture["std"]
        self.views = VIEWS[sealed.decision["views"]]
        self.slope, self.intercept = sealed.scaling

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, S, S, 3) uint8 -> (N,) float32."""
        images = normalise(pixels, self.mean, self.std)
        # All views in one pass, so that the graph contains the network once.
        views = torch.cat([apply_view(images, number).contiguous() for number in self.views])
        # The logit of the mean probability, computed from logarithms: a float32 probability of a very confident model
        # rounds to 1, and nothing could calibrate it.
        log_probability = self.classifier(views).log_softmax(dim=1).reshape(len(self.views), -1, 2)
        means = torch.logsumexp(log_probability, dim=0)
        return torch.sigmoid((means[:, 1] - means[:, 0]) * self.slope + self.intercept)


def export(
    kind: str,
    model: str,
    directory: Path,
    *,
    name: Callable[[], str],
    precision: str | None,
    data: Path | None = None,
    max_auc_loss: float | None = None,
) -> Exported:
    """Write a model into a folder, which is created if needed; an existing file of that name is replaced.

    Args:
        kind: `onnx` or `torch`.
        model, name: see `resolve_model`.
        precision: `float32` allows a model that was sealed in another precision, None does not; `int8` (onnx only)
            quantizes the model and measures its metrics again.
        data: for int8: the prepared data that the model was trained and tested on.
        max_auc_loss: for int8: largest loss of ROC-AUC on the test, 0 to 1; by default MAX_AUC_LOSS.

    Raises:
        ParameterError: a package for the export is missing, the model computes in another precision, or `data` or
            `max_auc_loss` is missing, out of range or not for this precision.
        DataError: the folder cannot be created or written, or the data are not those of the model.
        RegistryError, ArtifactError: the model is not available, the file does not reproduce the model's
            probabilities, or its int8 version loses too much ROC-AUC.
    """
    _check_options(kind, precision, data, max_auc_loss)
    path = directory / (INT8_NAME if precision == INT8 else NAMES[kind])
    with resolve_model(model, name) as resolved, scratch_folder() as scratch:
        sealed = resolved.sealed
        if precision is None and sealed.precision != PRECISION:
            raise ParameterError(
                f"export {kind}: {resolved.version} computes in {sealed.precision}, a file in {PRECISION}, with other "
                f"probabilities than the metrics and threshold are based on; add --precision {PRECISION} to export it "
                f"anyway, or set evaluate.precision: {PRECISION}, evaluate and register again"
            )
        prepared = quantization_evaluation.open_own_data(resolved, data) if data is not None else None
        draft, metadata = scratch / NAMES[kind], metadata_of(resolved)
        (write_onnx if kind == "onnx" else _write_torch)(sealed, metadata, draft)
        difference, moved = _compare_with_model(sealed, draft, kind)
        evaluation = None
        if prepared is not None:
            limit = quantization_evaluation.MAX_AUC_LOSS if max_auc_loss is None else max_auc_loss
            draft, evaluation = _quantize(sealed, draft, metadata, prepared, limit)
        write_bytes(path, draft.read_bytes())
        return Exported(path, resolved.version, difference, sealed.precision, moved, evaluation)


def metadata_of(resolved: ResolvedModel) -> dict[str, str]:
    """Return all that is needed to use the file, as text (JSON if there is more than one value)."""
    sealed, preprocessing = resolved.sealed, resolved.sealed.preprocessing
    pixels = {
        "image_size": preprocessing["image_size"],
        "fit": preprocessing["fit"],
        "filter": resizing.FILTER.name.lower(),
        "padding": resizing.PADDING,
        "exif_orientation": "applied",
        "grey_to_colour": "repeat",
        AMPLE_KEY: preprocessing.get(AMPLE_KEY, 0),
        "limits": preprocessing["limits"],
    }
    return {
        "version": resolved.version,
        "seal": sealed.digest,
        "labels": json.dumps(list(sealed.labels)),
        "positive": sealed.labels[1],
        "threshold": repr(sealed.threshold),
        "platt_slope": repr(sealed.scaling.slope),
        "platt_intercept": repr(sealed.scaling.intercept),
        "views": str(sealed.decision["views"]),
        "precision": PRECISION,
        "sealed_precision": sealed.precision,
        "preprocessing": json.dumps(pixels, sort_keys=True),
        "input": "pixels: uint8 (N, S, S, 3), RGB, 0 to 255",
        "output": "probability: float32 (N,), calibrated, of the positive label; positive if at or above the threshold",
    }


def write_onnx(sealed: SealedModel, metadata: Mapping[str, str], path: Path) -> None:
    """Write a model's float32 graph with this metadata."""
    with redirect_stdout(StringIO()):  # the exporter prints its passes
        program = torch.onnx.export(
            _trace(sealed), dynamo=True, input_names=["pixels"], output_names=["probability"], verbose=False
        )
    if program is None:
        raise ArtifactError("torch.onnx.export returned no program")
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)


def _check_options(kind: str, precision: str | None, data: Path | None, max_auc_loss: float | None) -> None:
    if precision != INT8:
        for option, value in (("--data", data), ("--max-auc-loss", max_auc_loss)):
            if value is not None:
                raise ParameterError(f"export {kind}: {option} is for --precision {INT8}")
    elif kind != "onnx":
        raise ParameterError(f"export {kind}: --precision {INT8} is for onnx")
    elif data is None:
        raise ParameterError(
            f"export onnx: --precision {INT8} needs --data, the prepared data that the model was trained and "
            "tested on (data/prepared)"
        )
    elif max_auc_loss is not None and not 0 <= max_auc_loss <= 1:
        raise ParameterError(f"--max-auc-loss: found {max_auc_loss}; allowed are 0 to 1")
    if kind == "onnx" and (missing := [name for name in NEEDED if find_spec(name) is None]):
        raise ParameterError(f"export onnx: needs {', '.join(missing)}; install twofold[export]")


def _quantize(
    sealed: SealedModel, graph: Path, metadata: Mapping[str, str], prepared: PreparedDataset, max_auc_loss: float
) -> tuple[Path, dict[str, Any]]:
    """Write the int8 version of a graph beside it, with its evaluation in the metadata; return both.

    Raises:
        ArtifactError: its ROC-AUC is lower by more than `max_auc_loss`.
    """
    file = graph.with_name(INT8_NAME)
    count, batches = quantization_evaluation.calibration_images(prepared)
    quantize(graph, batches, file)
    evaluation = quantization_evaluation.evaluate(sealed, file, prepared, count)
    quantization_evaluation.require_auc(evaluation, max_auc_loss)
    evaluation["max_auc_loss"] = max_auc_loss
    replace_metadata(file, {**metadata, "precision": INT8, "evaluation": json.dumps(evaluation, sort_keys=True)})
    return file, evaluation


def _trace(sealed: SealedModel) -> torch.export.ExportedProgram:
    size = sealed.preprocessing["image_size"]
    images = torch.zeros((_TRACED_IMAGES, size, size, 3), dtype=torch.uint8)
    dynamic = ({0: torch.export.Dim("n", min=1)},)
    return torch.export.export(PixelsToProbability(sealed).eval(), (images,), dynamic_shapes=dynamic, strict=False)


def _write_torch(sealed: SealedModel, metadata: Mapping[str, str], path: Path) -> None:
    with warnings.catch_warnings():
        # torch mistakes a channels-last tensor for a part of another one; the written file is compared with the model.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(_trace(sealed), path, extra_files={EXTRA: json.dumps(dict(metadata), sort_keys=True)})


def _compare_with_model(sealed: SealedModel, path: Path, kind: str) -> tuple[float, float]:
    """Return the largest difference of a written file from the model in float32, and in the model's own precision.

    Raises:
        ArtifactError: the difference from the model in float32 is above TOLERANCE.
    """
    size = sealed.preprocessing["image_size"]
    batch = np.random.default_rng(0).integers(0, 256, (RANDOM_IMAGES, size, size, 3), dtype=np.uint8)
    if kind == "onnx":
        # In batches of several sizes, since the graph must accept any number of images.
        from_file = quantization_evaluation.run_onnx(path, np.array_split(batch, [1, 16]))
    else:
        from_file = _run_torch(path, batch)
    from_model = replace(sealed, decision=sealed.decision | {"precision": PRECISION}).score(batch)
    difference = float(np.abs(from_file - from_model).max())
    if not difference <= TOLERANCE:
        raise ArtifactError(
            f"export {kind}: a probability differs from the model's by {difference:.2g}, allowed is {TOLERANCE:g}; "
            "nothing was written"
        )
    return difference, float(np.abs(from_file - sealed.score(batch)).max())


def _run_torch(path: Path, batch: NDArray[np.uint8]) -> NDArray[Any]:
    module = torch.export.load(path).module()
    with torch.inference_mode():
        return np.asarray(module(torch.from_numpy(batch)).numpy())
