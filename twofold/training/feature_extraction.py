"""Pooled features of the frozen base, one vector per image, computed once and cached.

The cache key holds the image's content, the base, the code and the machine's numerics, so that a cached vector is the
one that would be computed.
"""

import numpy as np
import numpy.typing as npt
import torch

from twofold.core.code_digest import code_digest
from twofold.core.progress import track
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import Backbone, Classifier, find_backbone
from twofold.model.device import autocast, device_description, inference_batch_size
from twofold.model.inference import apply_view, normalise
from twofold.storage import cache
from twofold.training.conv_bn_folding import folded_batchnorm

_LOOKUP_ROWS = 2048  # at a time, because the cached values need memory in addition to the result


def extract_features(
    classifier: Classifier, backbone: str, base: str, images: PreparedDataset, rows: npt.NDArray[np.int64], number: int
) -> npt.NDArray[np.float32]:
    """The pooled features (N, F) of rows of prepared images.

    Args:
        classifier: on the device to compute on; put into evaluation mode.
        base: SHA-256 of the backbone's weights.
        rows: row numbers, in the order of the result.
        number: the view of `inference.apply_view`; 0 is the unchanged image.
    """
    fixed = [backbone, base, f"view {number}", code_digest(__name__), *device_description().values()]
    contents = images.column("pixels")
    keys = [cache.key("features", *fixed, f"{images.channels} {contents[row]}") for row in rows]
    architecture = find_backbone(backbone, images.size)
    vectors = np.empty((len(rows), architecture.features), np.float32)
    missing: list[int] = []
    for start in range(0, len(keys), _LOOKUP_ROWS):
        part = range(start, min(start + _LOOKUP_ROWS, len(keys)))
        cached = cache.lookup([keys[i] for i in part])
        for i in part:
            # A value of another length is damaged.
            if len(value := cached.get(keys[i], b"")) == vectors[:1].nbytes:
                vectors[i] = np.frombuffer(value, np.float32)
            else:
                missing.append(i)
    size = inference_batch_size(next(classifier.parameters()).device, images.size)
    batches = [missing[start : start + size] for start in range(0, len(missing), size)]
    with folded_batchnorm(classifier.backbone):
        for batch in track(batches, f"features, view {number + 1}", len(missing), per_item=size):
            vectors[batch] = _batch(classifier, architecture, images.pixels(rows[batch]), number, size)
            cache.store(((keys[i], str(images.sha256[rows[i]]), vectors[i].tobytes()) for i in batch), "features")
    return vectors


def _batch(
    classifier: Classifier, architecture: Backbone, pixels: npt.NDArray[np.uint8], number: int, size: int
) -> npt.NDArray[np.float32]:
    device = next(classifier.parameters()).device
    # Every batch has the same size, on which the last bits of a feature may depend.
    padded = np.concatenate([pixels, np.zeros((size - len(pixels), *pixels.shape[1:]), np.uint8)])
    batch = normalise(torch.from_numpy(padded).to(device), architecture.mean, architecture.std)
    classifier.eval()
    with torch.inference_mode(), autocast(device):
        features = classifier.features(apply_view(batch, number).contiguous(memory_format=torch.channels_last))
    vectors: npt.NDArray[np.float32] = features[: len(pixels)].float().cpu().numpy()
    return vectors
