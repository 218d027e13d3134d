"""What a model saw and said of its test images: the ground on which drift is judged, sealed with it.

In: the test images, the model, its predictions. Out: one safetensors file: `features` (n, F) float16, the pooled
features of the whole, fine-tuned network, and `scores` (n,) float32, the calibrated probabilities. Test images, since
the model has learned from none of them, so that new images of the same kind look the same to it. At most MOST of
them, the first in the order of their SHA-256, which is as good as drawn at random; of a group (a patient, a module)
only one, as the tests take images for independent.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.core.errors import ArtifactError
from twofold.data.prepared import PreparedDataset
from twofold.evaluation.predictions import Predictions
from twofold.model.classifier import Classifier

REFERENCE = "reference.safetensors"
MOST = 1000  # images: 4 MB of ResNet-50's features
BATCH = 16
_LARGEST = 65504.0  # of a float16


class ReferenceSample(NamedTuple):
    """Features (n, F) float16 and scores (n,) float32 of n images."""

    features: NDArray[np.float16]
    scores: NDArray[np.float32]


def reference_of_test(
    prepared: PreparedDataset, classifier: Classifier, about: Mapping[str, Any], test: Predictions
) -> ReferenceSample:
    """The reference of a model.

    Args:
        prepared: the images.
        classifier: on the device to compute on, in the precision to compute in: a replica of it.
        about: its meta.json.
        test: its predictions on the test images, in the order of their rows.
    """
    from twofold.core.progress import track

    chosen = first_of_each_group([None if group is None else str(group) for group in test.group])[:MOST]
    rows = prepared.rows("test")[chosen]
    batches = (prepared.pixels(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH))
    shown = track(batches, "reference for drift", len(rows), per_item=BATCH)
    seen = pooled_features(classifier, shown, mean=about["mean"], std=about["std"])
    return ReferenceSample(seen, test.probability[chosen].astype(np.float32))


def first_of_each_group(groups: Sequence[str | None]) -> list[int]:
    """The places of the first of each group and of all that belong to none, in their order."""
    seen: set[str] = set()
    places = []
    for place, group in enumerate(groups):
        if group is None or group not in seen:
            places.append(place)
        if group is not None:
            seen.add(group)
    return places


def pooled_features(
    classifier: Classifier, batches: Iterable[NDArray[np.uint8]], *, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float16]:
    """Pooled features (N, F) of batches of pixels (n, S, S, C), each image as it is, in its precision."""
    import torch

    from twofold.model.inference import exact_float32, normalise, pixels_to_device

    device = next(classifier.parameters()).device
    classifier.eval()
    found = []
    with torch.inference_mode(), exact_float32():
        for batch in batches:
            pooled = classifier.features(normalise(pixels_to_device(batch, device), mean, std))
            found.append(pooled.float().cpu().numpy().clip(-_LARGEST, _LARGEST).astype(np.float16))
    return np.concatenate(found) if found else np.zeros((0, 0), np.float16)


def write(path: Path, sample: ReferenceSample) -> None:
    """Write the file; the same sample gives the same bytes."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(values) for name, values in sample._asdict().items()}, path)


def read(folder: Path) -> ReferenceSample:
    """The reference of a sealed model.

    Raises:
        ArtifactError: it was sealed without one, or the file holds something else.
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
        found = load_file(path)
        sample = ReferenceSample(found["features"], found["scores"])
    except (SafetensorError, OSError, KeyError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from None
    kinds = (sample.features.dtype.name, sample.scores.dtype.name, sample.features.ndim, sample.scores.shape)
    if kinds != ("float16", "float32", 2, (len(sample.features),)) or not _finite(sample):
        raise ArtifactError(f"{path}: must hold finite features (n, F) float16 and scores (n,) float32, found {kinds}")
    return sample


def _finite(sample: ReferenceSample) -> bool:
    return all(bool(np.isfinite(values).all()) for values in sample)
