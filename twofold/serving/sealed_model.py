"""A sealed model: whole weights, decision, preprocessing and labels in one folder, each file held to its SHA-256.

In: the folder that `twofold.serving.sealed_model_writer` wrote. Out: a model that maps the bytes of image files to probabilities. Reads
safetensors and JSON only; nothing of the folder is ever run. A sealed model carries a copy of this file.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.core.errors import ArtifactError
from twofold.data.decoding import AMPLE_KEY, Limits, prepare
from twofold.metrics.temperature_scaling import apply_temperature
from twofold.model.classifier import Classifier, load_classifier
from twofold.model.fused_classifier import PRECISIONS, FusedClassifier
from twofold.model.inference import predict_views

SEAL = "seal.json"
WEIGHTS, ARCHITECTURE = "model.safetensors", "meta.json"
DECISION, PREPROCESSING = "decision.json", "preprocessing.json"
FILES = (WEIGHTS, ARCHITECTURE, DECISION, PREPROCESSING)  # of every model; its seal may list further ones
SPLITS = "splits.json"  # SHA-256 of every image of train, validation and test
SCHEMA_VERSION = 2
# 1: the decision has no precision, and means float32.
READABLE = (1, SCHEMA_VERSION)
# By how much a probability may differ from what was said of the same image elsewhere. In float32 the same arithmetic on
# another processor differs by about 1e-5, other pixels or weights by more than 1e-3. In bfloat16 another order of the
# same sums now and then rounds to the neighbour: by up to 0.004 where it is emulated.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.02}
BATCH = 16  # images a forward pass; more is slower on a CPU


@dataclass(frozen=True)
class SealedModel:
    """A model with all that it takes to answer for an image.

    Attributes:
        labels: (negative, positive).
        threshold: an image is called positive when its probability is at or above it.
        preprocessing: `image_size`, `fit` and `limits`: what turns a file's bytes into the model's pixels.
        digest: SHA-256 of seal.json, which holds every other file's.
    """

    classifier: Classifier
    architecture: dict[str, Any]
    decision: dict[str, Any]
    preprocessing: dict[str, Any]
    digest: str

    @property
    def labels(self) -> tuple[str, str]:
        negative, positive = self.decision["labels"]
        return str(negative), str(positive)

    @property
    def threshold(self) -> float:
        return float(self.decision["threshold"])

    @property
    def temperature(self) -> float:
        """By which the probabilities are calibrated; a model that was sealed before there was one has 1."""
        return float(self.decision.get("temperature", 1.0))

    @property
    def precision(self) -> str:
        """In which the network computes; one that was sealed before there was a choice computes in float32."""
        return str(self.decision.get("precision", "float32"))

    @property
    def tolerance(self) -> float:
        """By how much a probability may differ on another machine."""
        return TOLERANCES[self.precision]

    @cached_property
    def network(self) -> FusedClassifier:
        """What answers: a replica of the classifier in its precision, made where the classifier lies at first use."""
        return FusedClassifier(self.classifier, self.precision)

    def pixels(self, data: bytes) -> NDArray[np.uint8]:
        """One file's bytes to (S, S, C) uint8, C 1 or 3.

        Raises:
            DataError: not an image that the model accepts.
        """
        limits = Limits(**self.preprocessing["limits"])
        about = self.preprocessing
        return prepare(data, limits, about["image_size"], about["fit"], about.get(AMPLE_KEY, 0)).pixels

    def probabilities(self, batches: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Probability of the positive class for batches of pixels (n, S, S, C), calibrated."""
        found = predict_views(
            self.network,
            batches,
            mean=self.architecture["mean"],
            std=self.architecture["std"],
            views=self.decision["views"],
        )
        return apply_temperature(found, self.temperature)

    def score(self, images: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Probability of the positive class for single images (S, S, C), grey and colour mixed, in their order."""
        return self.probabilities(_batches(images))


def open_sealed(directory: Path, digest: str | None = None) -> SealedModel:
    """Read a sealed model after checking every file of it.

    Args:
        digest: what seal.json must hash to, known from elsewhere (a registry's tag); None takes the seal as it is.

    Raises:
        ArtifactError: a file is missing, altered or cannot be read.
    """
    found = check_seal(directory, digest)
    classifier, architecture = load_classifier(directory)
    decision = _object(directory / DECISION)
    preprocessing = _object(directory / PREPROCESSING)
    missing = {"labels", "threshold", "views"} - decision.keys() | {
        "image_size",
        "fit",
        "limits",
    } - preprocessing.keys()
    if missing:
        raise ArtifactError(f"{directory}: the sealed model lacks {', '.join(sorted(missing))}; seal it again")
    sealed = SealedModel(classifier, architecture, decision, preprocessing, found)
    if sealed.precision not in PRECISIONS:
        raise ArtifactError(
            f"{directory / DECISION}: precision: found {sealed.precision!r}, known are {', '.join(PRECISIONS)};"
            " use the version of Twofold that sealed it"
        )
    return sealed


def check_seal(directory: Path, digest: str | None = None) -> str:
    """Hold every sealed file to its SHA-256 and return that of the seal.

    Raises:
        ArtifactError: a file is missing or altered, or the seal is not the one asked for.
    """
    found = sha256(directory / SEAL)
    if digest is not None and found != digest:
        raise ArtifactError(
            f"{directory / SEAL}: altered: SHA-256 is {found}, expected {digest}; do not use this model"
        )
    seal = _object(directory / SEAL)
    files = seal.get("files")
    if seal.get("schema_version") not in READABLE or not isinstance(files, dict) or not set(FILES) <= set(files):
        raise ArtifactError(
            f"{directory / SEAL}: not the seal of a model of schema version {' or '.join(map(str, READABLE))}"
        )
    for name in sorted(files):
        if Path(name).name != name or name in ("", ".."):
            raise ArtifactError(f"{directory / SEAL}: lists {name!r}, which is no file's name; do not use this model")
        actual = sha256(directory / name)
        if actual != files[name]:
            raise ArtifactError(
                f"{directory / name}: altered: SHA-256 is {actual}, sealed was {files[name]}; do not use this model"
            )
    there = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}
    if foreign := sorted(there - {SEAL, *files}):
        raise ArtifactError(f"{directory / foreign[0]}: added: the seal knows no such file; do not use this model")
    return found


def sealed_splits(directory: Path) -> dict[str, frozenset[str]]:
    """The SHA-256 of the images that a sealed model was trained, validated and tested on; checked by `check` before.

    Raises:
        ArtifactError: they were not sealed with it.
    """
    found = _object(directory / SPLITS)
    names = ("train", "validation", "test")
    if any(not isinstance(found.get(name), list) for name in names):
        raise ArtifactError(f"{directory / SPLITS}: needs the lists {', '.join(names)}, found {sorted(found)}")
    return {name: frozenset(map(str, found[name])) for name in names}


def sha256(path: Path) -> str:
    """SHA-256 of a regular file, as 64 hexadecimal digits."""
    if not path.is_file() or path.is_symlink():
        raise ArtifactError(f"{path}: no such file; the sealed model is incomplete")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}; the sealed model is incomplete") from None
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: must be a JSON object, found {type(value).__name__}")
    return value


def _batches(images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    batch: list[NDArray[np.uint8]] = []
    for image in images:
        # Grey and colour images of one request share a batch.
        batch.append(np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image)
        if len(batch) == BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
