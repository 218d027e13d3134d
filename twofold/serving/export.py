"""`twofold export onnx|torch MODEL DIR`: a model as one file for where there is no Twofold.

In: a sealed model. Out: `model.onnx` or `model.pt2` (what `torch.export.load` reads). Either takes pixels, uint8
(N, S, S, 3), and gives the probability of the positive class, float32 (N,): normalisation, the views and the
temperature are inside. What lies outside, the way from a file to pixels and the threshold, is in the file's metadata.

A file computes in float32. A model that answers in bfloat16 is another one there, whose figures nobody has measured: it
is exported only for who asks for that. The file is tried before it gets its name: on random images it must say what the
sealed model says, computed in float32.

In int8 (`model.int8.onnx`) a model is another one too; its figures are measured again on the test images, and lie in
the metadata.
"""

import json
import tempfile
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
from twofold.core.errors import ArtifactError, DataError, ParameterError
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
TRIED = 32  # random images
EXTRA = "twofold.json"  # the metadata's name in a .pt2 file
_TRACED = 3  # images of the batch that the graph is made from: a size that stands for no other


class Exported(NamedTuple):
    """Where it was written, of which model, and by how much a probability differed at most.

    Attributes:
        difference: from the model computed in float32; of a file in int8, before it was that.
        moved: from the model as it is sealed.
        evaluation: of a file in int8, what `twofold.serving.quantization_evaluation` found; else None.
    """

    path: Path
    version: str
    difference: float
    precision: str
    moved: float
    evaluation: Mapping[str, Any] | None


class PixelsToProbability(nn.Module):
    """A sealed model from pixels to probability."""

    def __init__(self, sealed: SealedModel) -> None:
        super().__init__()
        self.classifier: Classifier = sealed.classifier
        self.mean, self.std = sealed.architecture["mean"], sealed.architecture["std"]
        self.views = VIEWS[sealed.decision["views"]]
        self.temperature = sealed.temperature

    def forward(self, pixels: Tensor) -> Tensor:
        """(N, S, S, 3) uint8 -> (N,) float32."""
        batch = normalise(pixels, self.mean, self.std)
        # All views in one pass: so the network stands in the graph once.
        seen = torch.cat([apply_view(batch, number).contiguous() for number in self.views])
        # The logit of the mean probability, by way of logarithms: of a model that is very sure, a float32 probability
        # would be 1, and no temperature could tell it from another.
        by_view = self.classifier(seen).log_softmax(dim=1).reshape(len(self.views), -1, 2)
        means = torch.logsumexp(by_view, dim=0)
        return torch.sigmoid((means[:, 1] - means[:, 0]) / self.temperature)


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
    """Write a model into a folder, which is made if need be; a file of that name is replaced.

    Args:
        kind: `onnx` or `torch`.
        model: as `twofold.serving.model_resolver` takes it.
        directory: for the file.
        name: gives the name of the registered model, where `model` names none.
        precision: `float32` allows a model that is sealed in another one; None does not; `int8`, of `onnx` alone, is
            another model, which is measured again.
        data: for int8, the prepared data that the model was trained and tested on.
        max_auc_loss: for int8, by how much ROC-AUC on the test may fall, 0 to 1; None is `remeasuring.MAX_AUC_LOSS`.

    Raises:
        ParameterError: a package is missing that the export needs, the model answers in another precision, or `data`
            or `max_auc_loss` is missing, out of range or not for this precision.
        DataError: the folder cannot be made or written, or the data are not those of the model.
        RegistryError, ArtifactError: the model cannot be had; or what was written does not say what the model says, or
            loses too much in int8.
    """
    _check(kind, precision, data, max_auc_loss)
    path = directory / (INT8_NAME if precision == INT8 else NAMES[kind])
    with resolve_model(model, name) as picked, tempfile.TemporaryDirectory() as scratch:
        sealed = picked.sealed
        if precision is None and sealed.precision != PRECISION:
            raise ParameterError(
                f"export {kind}: {picked.version} answers in {sealed.precision}; a file computes in {PRECISION} and "
                f"gives other probabilities than those that its figures and threshold come from; say --precision "
                f"{PRECISION} if that is meant, or set evaluate.precision: {PRECISION}, evaluate and register again"
            )
        prepared = quantization_evaluation.open_own_data(picked, data) if data is not None else None
        draft = Path(scratch) / NAMES[kind]
        (write_onnx if kind == "onnx" else _write_torch)(sealed, metadata_of(picked), draft)
        difference, moved = _tried(sealed, draft, kind)
        evaluation = None
        if prepared is not None:
            most = quantization_evaluation.MAX_AUC_LOSS if max_auc_loss is None else max_auc_loss
            draft, evaluation = _in_int8(picked, draft, prepared, most)
        try:
            write_bytes(path, draft.read_bytes())
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {error.strerror}") from None
        return Exported(path, picked.version, difference, sealed.precision, moved, evaluation)


def metadata_of(picked: ResolvedModel) -> dict[str, str]:
    """The metadata: all that it takes to use the file, as text (JSON where it is more than one value)."""
    sealed = picked.sealed
    about = sealed.preprocessing
    pixels = {
        "image_size": about["image_size"],
        "fit": about["fit"],
        "filter": resizing.FILTER.name.lower(),
        "padding": resizing.PADDING,
        "exif_orientation": "applied",
        "grey_to_colour": "repeat",
        AMPLE_KEY: about.get(AMPLE_KEY, 0),
        "limits": about["limits"],
    }
    return {
        "version": picked.version,
        "seal": sealed.digest,
        "labels": json.dumps(list(sealed.labels)),
        "positive": sealed.labels[1],
        "threshold": repr(sealed.threshold),
        "temperature": repr(sealed.temperature),
        "views": str(sealed.decision["views"]),
        "precision": PRECISION,
        "sealed_precision": sealed.precision,
        "preprocessing": json.dumps(pixels, sort_keys=True),
        "input": "pixels: uint8 (N, S, S, 3), RGB, 0 to 255",
        "output": "probability: float32 (N,), calibrated, of the positive label; positive if at or above the threshold",
    }


def write_onnx(sealed: SealedModel, about: Mapping[str, str], path: Path) -> None:
    """Write a model's graph in float32 with that metadata."""
    with redirect_stdout(StringIO()):  # it tells of its passes
        program = torch.onnx.export(
            _graph(sealed), dynamo=True, input_names=["pixels"], output_names=["probability"], verbose=False
        )
    if program is None:
        raise ArtifactError("torch.onnx.export gave nothing back")
    program.model.metadata_props.update(about)
    program.save(path, external_data=False)


def _check(kind: str, precision: str | None, data: Path | None, max_auc_loss: float | None) -> None:
    if precision == INT8:
        if kind != "onnx":
            raise ParameterError(f"export {kind}: --precision {INT8} is for onnx")
        if data is None:
            raise ParameterError(
                f"export onnx: --precision {INT8} needs --data, the prepared data that the model was trained and "
                "tested on (data/prepared)"
            )
        if max_auc_loss is not None and not 0 <= max_auc_loss <= 1:
            raise ParameterError(f"--max-auc-loss: found {max_auc_loss}; allowed are 0 to 1")
    else:
        for option, value in (("--data", data), ("--max-auc-loss", max_auc_loss)):
            if value is not None:
                raise ParameterError(f"export {kind}: {option} is for --precision {INT8}")
    if kind == "onnx" and (missing := [name for name in NEEDED if find_spec(name) is None]):
        raise ParameterError(f"export onnx: needs {', '.join(missing)}; install twofold[export]")


def _in_int8(picked: ResolvedModel, graph: Path, prepared: PreparedDataset, most: float) -> tuple[Path, dict[str, Any]]:
    """Write a graph in int8 beside it, with its figures in its metadata; and these figures.

    Raises:
        ArtifactError: its ROC-AUC is lower by more than `most`.
    """
    to = graph.with_name(INT8_NAME)
    used, batches = quantization_evaluation.calibration_images(prepared)
    quantize(graph, batches, to)
    found = quantization_evaluation.evaluate(picked.sealed, to, prepared, used)
    quantization_evaluation.require_auc(found, most)
    found["max_auc_loss"] = most
    replace_metadata(to, metadata_of(picked) | {"precision": INT8, "evaluation": json.dumps(found, sort_keys=True)})
    return to, found


def _graph(sealed: SealedModel) -> torch.export.ExportedProgram:
    size = sealed.preprocessing["image_size"]
    whole = PixelsToProbability(sealed).eval()
    traced = torch.zeros((_TRACED, size, size, 3), dtype=torch.uint8)
    return torch.export.export(whole, (traced,), dynamic_shapes=({0: torch.export.Dim("n", min=1)},), strict=False)


def _write_torch(sealed: SealedModel, about: Mapping[str, str], path: Path) -> None:
    with warnings.catch_warnings():
        # It cannot tell a tensor with its channels last from a part of one; what it writes is tried below.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(_graph(sealed), path, extra_files={EXTRA: json.dumps(dict(about), sort_keys=True)})


def _tried(sealed: SealedModel, path: Path, kind: str) -> tuple[float, float]:
    """By how much what was written differs at most from the model in float32, and from the model as it is sealed.

    Raises:
        ArtifactError: from the model in float32 by more than TOLERANCE.
    """
    size = sealed.preprocessing["image_size"]
    batch = np.random.default_rng(0).integers(0, 256, (TRIED, size, size, 3), dtype=np.uint8)
    answered = (_answers_onnx if kind == "onnx" else _answers_torch)(path, batch)
    said = replace(sealed, decision=sealed.decision | {"precision": PRECISION}).score(batch)
    difference = float(np.abs(answered - said).max())
    if not difference <= TOLERANCE:
        raise ArtifactError(
            f"export {kind}: a probability differs from the model's by {difference:.2g}, allowed is {TOLERANCE:g}; "
            "nothing was written"
        )
    return difference, float(np.abs(answered - sealed.score(batch)).max())


def _answers_onnx(path: Path, batch: NDArray[np.uint8]) -> NDArray[Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    # In parts, as the graph must take any number of images.
    parts = np.array_split(batch, [1, 16])
    return np.concatenate([np.asarray(session.run(None, {"pixels": part})[0]) for part in parts])


def _answers_torch(path: Path, batch: NDArray[np.uint8]) -> NDArray[Any]:
    module = torch.export.load(path).module()
    with torch.inference_mode():
        return np.asarray(module(torch.from_numpy(batch)).numpy())
