"""What the frozen base sees in each image, computed once and kept.

In: a classifier, prepared images, the rows wanted. Out: one pooled feature vector a row. The memo keeps them under the
image's content, the base, the code and the numerics of the machine, so a cached vector is the one that would be
computed.
"""

import numpy as np
import numpy.typing as npt
import torch

from twofold.core.code_digest import code_digest
from twofold.core.progress import track
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import BACKBONES, Classifier
from twofold.model.device import autocast, device_description, inference_batch_size
from twofold.model.inference import apply_view, normalise
from twofold.storage import cache
from twofold.training.conv_bn_folding import folded_batchnorm

_LOOKED_UP = 2048  # rows at a time: what the memo gives lies beside the result


def extract_features(
    classifier: Classifier, backbone: str, base: str, images: PreparedDataset, rows: npt.NDArray[np.int64], number: int
) -> npt.NDArray[np.float32]:
    """The pooled features (N, F) of rows of prepared images, as the frozen base sees them.

    Args:
        classifier: on the device to compute on; put into evaluation mode.
        backbone: its name.
        base: SHA-256 of its weights.
        images: prepared.
        rows: row numbers, in the order of the result.
        number: the view of `predicting.view`; 0 is the image as it is.
    """
    fixed = [backbone, base, f"view {number}", code_digest(__name__), *device_description().values()]
    contents = images.column("pixels")
    keys = [cache.key("features", *fixed, f"{images.channels} {contents[row]}") for row in rows]
    vectors = np.empty((len(rows), BACKBONES[backbone].features), np.float32)
    missing: list[int] = []
    for start in range(0, len(keys), _LOOKED_UP):
        some = range(start, min(start + _LOOKED_UP, len(keys)))
        known = cache.lookup([keys[i] for i in some])
        for i in some:
            # What is of another length was not put there by this function.
            if len(value := known.get(keys[i], b"")) == vectors[:1].nbytes:
                vectors[i] = np.frombuffer(value, np.float32)
            else:
                missing.append(i)
    size = inference_batch_size(next(classifier.parameters()).device, images.size)
    batches = [missing[start : start + size] for start in range(0, len(missing), size)]
    label = f"features, view {number + 1}"
    for chosen in track(batches, label, len(missing), per_item=size):
        vectors[chosen] = _batch(classifier, backbone, images.pixels(rows[chosen]), number, size)
        cache.store(((keys[i], str(images.sha256[rows[i]]), vectors[i].tobytes()) for i in chosen), "features")
    return vectors


def _batch(
    classifier: Classifier, backbone: str, pixels: npt.NDArray[np.uint8], number: int, size: int
) -> npt.NDArray[np.float32]:
    architecture = BACKBONES[backbone]
    device = next(classifier.parameters()).device
    # Batches are always whole: the last bits of a feature may depend on the size of its batch.
    filled = np.concatenate([pixels, np.zeros((size - len(pixels), *pixels.shape[1:]), np.uint8)])
    batch = normalise(torch.from_numpy(filled).to(device), architecture.mean, architecture.std)
    classifier.eval()
    with torch.inference_mode(), autocast(device), folded_batchnorm(classifier.backbone):
        seen = classifier.features(apply_view(batch, number).contiguous(memory_format=torch.channels_last))
    vectors: npt.NDArray[np.float32] = seen[: len(pixels)].float().cpu().numpy()
    return vectors
