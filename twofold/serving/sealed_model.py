"""A sealed model: weights, decision, preprocessing and labels in one folder, each file verified by its SHA-256.

Reads the folder that `twofold.serving.sealed_model_writer` wrote; returns a model that maps the bytes of image files to
probabilities. It reads only safetensors and JSON and executes nothing in the folder. Each sealed model contains a copy
of this file.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twofold.core.errors import ArtifactError
from twofold.data.decoding import AMPLE_KEY, Limits, prepare
from twofold.metrics.platt_scaling import PlattScaling, recorded_scaling

if TYPE_CHECKING:  # a seal is checked, and the lists of images are read, without torch
    from twofold.model.classifier import Classifier
    from twofold.model.fused_classifier import FusedClassifier

SEAL = "seal.json"
WEIGHTS, ARCHITECTURE = "model.safetensors", "meta.json"
DECISION, PREPROCESSING = "decision.json", "preprocessing.json"
FILES = (WEIGHTS, ARCHITECTURE, DECISION, PREPROCESSING)  # of every model; a seal may list more
SPLITS = "splits.json"  # SHA-256 of every image of train, validation and test
SCHEMA_VERSION = 3
# In versions 1 and 2 a decision has a temperature, or no calibration; in version 1 no precision, which means float32.
READABLE = (1, 2, SCHEMA_VERSION)
# Largest difference between two probabilities of one image. In float32 another processor gives differences of about
# 1e-5, other pixels or weights more than 1e-3. In bfloat16 another order of the same sums sometimes rounds to the
# neighbouring value: differences of up to 0.004 where bfloat16 is emulated.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.02}
BATCH = 16  # images per forward pass; more is slower on a CPU


@dataclass(frozen=True)
class SealedModel:
    """A model with everything that it needs to classify an image.

    Attributes:
        preprocessing: `image_size`, `fit` and `limits`: how a file's bytes become pixels.
        digest: SHA-256 of seal.json, which contains the SHA-256 of every other file.
    """

    classifier: "Classifier"
    architecture: dict[str, Any]
    decision: dict[str, Any]
    preprocessing: dict[str, Any]
    digest: str

    @property
    def labels(self) -> tuple[str, str]:
        """(negative, positive)."""
        negative, positive = self.decision["labels"]
        return str(negative), str(positive)

    @property
    def threshold(self) -> float:
        """An image is called positive if its probability is at or above it."""
        return float(self.decision["threshold"])

    @property
    def scaling(self) -> PlattScaling:
        """The calibration; slope 1 and intercept 0 for a model that was sealed before there was calibration."""
        return recorded_scaling(self.decision)

    @property
    def precision(self) -> str:
        """Of the network's arithmetic; float32 for a model that was sealed before there was a choice."""
        return str(self.decision.get("precision", "float32"))

    @property
    def tolerance(self) -> float:
        """Largest difference of a probability on another machine."""
        return TOLERANCES[self.precision]

    @cached_property
    def network(self) -> "FusedClassifier":
        """The inference copy of the classifier, built at first use on the classifier's device."""
        from twofold.model.fused_classifier import FusedClassifier

        return FusedClassifier(self.classifier, self.precision)

    def pixels(self, data: bytes) -> NDArray[np.uint8]:
        """Decode a file's bytes to (S, S, C) uint8, C 1 or 3.

        Raises:
            DataError: not an image that the model accepts.
        """
        about = self.preprocessing
        limits = Limits(**about["limits"])
        return prepare(data, limits, about["image_size"], about["fit"], about.get(AMPLE_KEY, 0)).pixels

    def probabilities(self, batches: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Return the calibrated probability of the positive class for batches of pixels (n, S, S, C)."""
        from twofold.model.inference import predict_views

        mean, std, views = self.architecture["mean"], self.architecture["std"], self.decision["views"]
        raw = predict_views(self.network, batches, mean=mean, std=std, views=views)
        return self.scaling.calibrate(raw)

    def score(self, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Return the calibrated probability for each image (S, S, C), grey and colour mixed, in their order."""
        return self.probabilities(colour_batches(images))


def open_sealed(directory: Path, digest: str | None = None) -> SealedModel:
    """Verify every file of a sealed model and load it.

    Args:
        digest: expected SHA-256 of seal.json, from another place (a registry's tag); None accepts any seal.

    Raises:
        ArtifactError: a file is missing, altered or cannot be read.
    """
    from twofold.model.classifier import load_classifier
    from twofold.model.fused_classifier import PRECISIONS

    seal_digest = check_seal(directory, digest)
    classifier, architecture = load_classifier(directory)
    decision, preprocessing = _read_object(directory / DECISION), _read_object(directory / PREPROCESSING)
    missing = {"labels", "threshold", "views"} - decision.keys()
    missing |= {"image_size", "fit", "limits"} - preprocessing.keys()
    if missing:
        raise ArtifactError(f"{directory}: the sealed model lacks {', '.join(sorted(missing))}; seal it again")
    sealed = SealedModel(classifier, architecture, decision, preprocessing, seal_digest)
    if sealed.precision not in PRECISIONS:
        raise ArtifactError(
            f"{directory / DECISION}: precision: found {sealed.precision!r}, allowed are {', '.join(PRECISIONS)};"
            " use the version of Twofold that sealed it"
        )
    return sealed


def check_seal(directory: Path, digest: str | None = None) -> str:
    """Verify the SHA-256 of every sealed file and return that of the seal.

    Raises:
        ArtifactError: a file is missing, altered or added, or the seal is not the expected one.
    """
    path = directory / SEAL
    found = sha256(path)
    if digest is not None and found != digest:
        raise ArtifactError(f"{path}: altered: SHA-256 is {found}, expected {digest}; do not use this model")
    seal = _read_object(path)
    files = seal.get("files")
    if seal.get("schema_version") not in READABLE or not isinstance(files, dict) or not set(FILES) <= set(files):
        raise ArtifactError(f"{path}: not the seal of a model of schema version {' or '.join(map(str, READABLE))}")
    for name in sorted(files):
        if Path(name).name != name or name in ("", ".."):
            raise ArtifactError(f"{path}: lists {name!r}, which is not a file name; do not use this model")
        actual = sha256(directory / name)
        if actual != files[name]:
            raise ArtifactError(
                f"{directory / name}: altered: SHA-256 is {actual}, sealed was {files[name]}; do not use this model"
            )
    present = {file.relative_to(directory).as_posix() for file in directory.rglob("*") if not file.is_dir()}
    if added := sorted(present - {SEAL, *files}):
        raise ArtifactError(f"{directory / added[0]}: added: the seal does not list this file; do not use this model")
    return found


def sealed_splits(directory: Path) -> dict[str, frozenset[str]]:
    """Return the SHA-256 of the images of a model's train, validation and test; `check_seal` must have passed.

    Raises:
        ArtifactError: they were not sealed with the model.
    """
    splits = _read_object(directory / SPLITS)
    names = ("train", "validation", "test")
    if any(not isinstance(splits.get(name), list) for name in names):
        raise ArtifactError(f"{directory / SPLITS}: needs the lists {', '.join(names)}, found {sorted(splits)}")
    return {name: frozenset(map(str, splits[name])) for name in names}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file, as 64 hexadecimal digits."""
    if not path.is_file() or path.is_symlink():
        raise ArtifactError(f"{path}: no such file; the sealed model is incomplete")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}; the sealed model is incomplete") from None
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: must be a JSON object, found {type(value).__name__}")
    return value


def colour_batches(images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Yield batches (n, S, S, 3) of images (S, S, C); grey is repeated, so that grey and colour can share a batch."""
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        batch.append(np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image)
        if len(batch) == BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
