"""The reference sample for drift detection: features and scores of test images, sealed with the model.

Takes the test images, the model and its predictions. Returns, and writes to one safetensors file, `features` (n, F)
float16, the pooled features of the fine-tuned network, and `scores` (n,) float32, the calibrated probabilities.

The sample holds test images because the model has not learned from them. It holds at most MOST of them, the first in
the order of their SHA-256, which is as good as a random choice, and only one image per group (a patient, a module),
because the drift tests assume independent images.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from twofold.core.errors import ArtifactError
from twofold.evaluation.predictions import Predictions
from twofold.model.classifier import Classifier
from twofold.model.inference import exact_float32, normalise, pixels_to_device

REFERENCE = "reference.safetensors"
MOST = 1000  # images: 4 MB of ResNet-50 features
BATCH = 16
_FLOAT16_MAX = 65504.0


class ReferenceSample(NamedTuple):
    """Features (n, F) float16 and scores (n,) float32 of n images."""

    features: NDArray[np.float16]
    scores: NDArray[np.float32]


def reference_of_test(test: Predictions, features: torch.Tensor) -> ReferenceSample:
    """Build the reference sample of a model from its predictions on the test images, and their features (N, F)."""
    chosen = first_of_each_group(test.group.tolist())[:MOST]
    return ReferenceSample(_to_float16(features[chosen]), test.probability[chosen].astype(np.float32))


def first_of_each_group(groups: Sequence[str | None]) -> list[int]:
    """Positions of the first image of each group and of every image without a group, in ascending order."""
    first: dict[str | int, int] = {}
    for position, group in enumerate(groups):
        first.setdefault(position if group is None else group, position)
    return list(first.values())


def pooled_features(
    classifier: Classifier, batches: Iterable[NDArray[np.uint8]], *, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float16]:
    """Pooled features (N, F) of batches of pixels (n, S, S, C), without test-time augmentation."""
    device = next(classifier.parameters()).device
    classifier.eval()
    features = []
    with torch.inference_mode(), exact_float32():
        for batch in batches:
            features.append(_to_float16(classifier.features(normalise(pixels_to_device(batch, device), mean, std))))
    return np.concatenate(features) if features else np.zeros((0, 0), np.float16)


def _to_float16(features: torch.Tensor) -> NDArray[np.float16]:
    values: NDArray[np.float32] = features.float().cpu().numpy()
    return values.clip(-_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)


def write(path: Path, sample: ReferenceSample) -> None:
    """Write the file; the same sample gives the same bytes."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(values) for name, values in sample._asdict().items()}, path)


def read(folder: Path) -> ReferenceSample:
    """Read the reference sample of a sealed model.

    Raises:
        ArtifactError: the model was sealed without one, or the file has another content.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / REFERENCE
    if not path.is_file():
        raise ArtifactError(
            f"{folder}: the model was sealed without {REFERENCE}, by an earlier version; run evaluate and register "
            "again"
        )
    try:
        tensors = load_file(path)
        sample = ReferenceSample(tensors["features"], tensors["scores"])
    except (SafetensorError, OSError, KeyError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from None
    kinds = (sample.features.dtype.name, sample.scores.dtype.name, sample.features.ndim, sample.scores.shape)
    expected = ("float16", "float32", 2, (len(sample.features),))
    if kinds != expected or not all(np.isfinite(values).all() for values in sample):
        raise ArtifactError(f"{path}: must hold finite features (n, F) float16 and scores (n,) float32, found {kinds}")
    return sample
