"""Probabilities of the positive class (float64) from uint8 images: training, evaluation and serving all use this.

A sealed model carries a copy of this file, so it imports nothing else of Twofold but the classifiers.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twofold.model.classifier import Classifier
from twofold.model.fused_classifier import FusedClassifier

# Test-time augmentation: the views to average (see `apply_view`), by their number. The four rotations of an image add
# more than its mirror images do: docs/benchmarks.md.
VIEWS = {1: (0,), 2: (0, 1), 4: (0, 3, 5, 6), 8: (0, 1, 2, 3, 4, 5, 6, 7)}
CPU_BATCH = 16  # images per forward pass at which a CPU is fastest
SWAP_AXES = 4  # the bit of a view's number that swaps the axes


def probabilities(
    classifier: Classifier,
    batches: Iterable[npt.NDArray[np.uint8]],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    views: int,
    precision: str,
) -> npt.NDArray[np.float64]:
    """Probability of the positive class (index 1), averaged over `views` views of each image.

    Args:
        classifier: on any device; it stays unchanged, and answers as in evaluation mode.
        batches: (n, S, S, C) each, C 1 (grey, repeated) or 3; their sizes affect speed and memory only.
        mean, std: per channel, pixels in 0..1.
        views: 1 the image; 2 also mirrored; 4 its rotations by right angles; 8 those and their mirror images.
        precision: float32 or bfloat16; an autocast of the caller takes precedence.

    Returns:
        (N,), in the order of the images.
    """
    return predict_views(FusedClassifier(classifier, precision), batches, mean=mean, std=std, views=views)


def predict_views(
    network: FusedClassifier,
    batches: Iterable[npt.NDArray[np.uint8]],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    views: int,
    features: list[Tensor] | None = None,
) -> npt.NDArray[np.float64]:
    """As `probabilities`, with a fused classifier that the caller keeps for several calls.

    Args:
        features: receives the pooled features (n, F) of each batch's images as they are, the first view.
    """
    if views not in VIEWS:
        raise ValueError(f"views: found {views}, allowed are {', '.join(map(str, VIEWS))}")
    device = next(network.parameters()).device
    results = []
    with torch.inference_mode(), exact_float32():
        # Once, not for every batch: a GPU would wait for each copy.
        centre, spread = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        for batch in batches:
            images = normalise(pixels_to_device(batch, device), centre, spread)
            total = torch.zeros(len(images), dtype=torch.float64, device=device)
            # Several views of a small batch go through the network together.
            step = max(1, CPU_BATCH // max(1, len(images)))
            for start in range(0, views, step):
                numbers = VIEWS[views][start : start + step]
                stacked = torch.cat([apply_view(images, number) for number in numbers])
                pooled = network.features(stacked.contiguous(memory_format=torch.channels_last))
                if features is not None and start == 0:
                    features.append(pooled[: len(images)])
                total += classify_features(network, pooled).view(len(numbers), -1).sum(dim=0)
            results.append(total / views)
        return torch.cat(results).cpu().numpy() if results else np.zeros(0, np.float64)


def classify_features(network: Classifier, features: Tensor) -> Tensor:
    """Pooled features (N, F) -> probabilities of the positive class (N,), float64."""
    logits: Tensor = network.head(features)
    return logits.double().softmax(dim=1)[:, 1]


def exact_float32() -> AbstractContextManager[None]:
    """Disable TF32, in which a GPU's convolutions keep 10 of the 23 mantissa bits of their inputs."""
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    return cast(AbstractContextManager[None], flags)


def pixels_to_device(batch: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """Pixels (n, S, S, C) uint8 as a tensor on the device; they may be a read-only memory map, which is copied."""
    pixels = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
    # A copy from pinned memory runs beside the computation.
    return pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels.to(device)


def normalise(images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """(N, S, S, C) in 0..255, C 1 or 3 -> (N, 3, S, S) float32, channels last, as the backbone was pretrained.

    Args:
        images: on any device, of any type.
        mean, std: per channel, pixels in 0..1; tensors on that device save a copy per call.
    """
    number, height, width, _ = images.shape
    centre, spread = (torch.as_tensor(each, device=images.device).repeat(width) for each in (mean, std))
    # Whole rows at a time: on a CPU, operations on three channels at a time take fourteen times as long.
    rows = torch.div(images, 255).expand(-1, -1, -1, 3).reshape(number, height, 3 * width)
    return rows.sub_(centre).div_(spread).view(number, height, width, 3).permute(0, 3, 1, 2)


def apply_view(images: Tensor, number: int) -> Tensor:
    """One of the eight flips and rotations of a square: bit 0 flips left-right, bit 1 up-down, bit 2 swaps the axes.

    Args:
        images: (..., S, S)
        number: 0 (unchanged) to 7; 3, 5 and 6 are the rotations by 180 and 90 degrees.
    """
    if number & 1:
        images = images.flip(-1)
    if number & 2:
        images = images.flip(-2)
    return images.transpose(-1, -2) if number & SWAP_AXES else images
