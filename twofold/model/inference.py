"""Probabilities of the positive class: uint8 images in, float64 out.

Training, evaluation and serving all predict through here. A sealed model carries a copy of this file, so it imports
nothing else of Twofold but the model and its replica.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twofold.model.classifier import Classifier
from twofold.model.fused_classifier import FusedClassifier

# How many views are averaged, and which (see `view`). The four rotations of an image say more than itself and its
# mirror images: docs/recipe.md.
VIEWS = {1: (0,), 2: (0, 1), 4: (0, 3, 5, 6), 8: (0, 1, 2, 3, 4, 5, 6, 7)}
WHOLE = 16  # images a forward pass that make the best of a CPU: fewer are slower, and so are more
SWAP = 4  # the bit of a view that swaps the axes


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
        classifier: on any device; it stays as it is, and answers as in evaluation mode.
        batches: (n, S, S, C) each, C 1 (grey, repeated) or 3; how they are cut decides speed and memory.
        mean, std: per channel, pixels in 0..1.
        views: 1 as it is; 2 and mirrored; 4 its rotations by right angles; 8 those and their mirror images.
        precision: float32 or bfloat16; where the caller has switched autocast on, that decides.

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
) -> npt.NDArray[np.float64]:
    """The same of a replica, for who asks more than once; see `probabilities`."""
    if views not in VIEWS:
        raise ValueError(f"views: found {views}, allowed are {', '.join(map(str, VIEWS))}")
    device = next(network.parameters()).device
    found = []
    with torch.inference_mode(), exact_float32():
        # Once and not for every batch: a GPU could not run ahead of the copies.
        centre, spread = torch.tensor(mean, device=device), torch.tensor(std, device=device)
        for batch in batches:
            images = normalise(pixels_to_device(batch, device), centre, spread)
            total = torch.zeros(len(images), dtype=torch.float64, device=device)
            for numbers in _together(VIEWS[views], len(images)):
                seen = torch.cat([apply_view(images, number) for number in numbers])
                logits = network(seen.contiguous(memory_format=torch.channels_last))
                total += logits.double().softmax(dim=1)[:, 1].view(len(numbers), -1).sum(dim=0)
            found.append(total / views)
        return torch.cat(found).cpu().numpy() if found else np.zeros(0, np.float64)


def _together(numbers: Sequence[int], images: int) -> Iterator[Sequence[int]]:
    """The views that go through the network at once: as many as make a small batch a whole one."""
    step = max(1, WHOLE // max(1, images))
    for start in range(0, len(numbers), step):
        yield numbers[start : start + step]


def exact_float32() -> AbstractContextManager[None]:
    """float32 as it is: a GPU's convolutions would otherwise keep ten bits of the 23 of their inputs."""
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    return cast(AbstractContextManager[None], flags)


def pixels_to_device(batch: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """Pixels (n, S, S, C) uint8 as a tensor; they may be a read-only file map, which torch does not take."""
    pixels = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
    # From pinned memory a GPU fetches them while it computes and this process goes on.
    return pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels.to(device)


def normalise(images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
    """(N, S, S, C) in 0..255, C 1 or 3 -> (N, 3, S, S) float32, channels last, as the backbone was pretrained.

    Args:
        images: on any device, of any type.
        mean, std: per channel, pixels in 0..1; as tensors on that device they need not be sent there each time.
    """
    number, height, width, _ = images.shape
    centre, spread = (torch.as_tensor(each, device=images.device).repeat(width) for each in (mean, std))
    # Whole rows at a time: a processor takes three numbers after three others fourteen times as long.
    rows = torch.div(images, 255).expand(-1, -1, -1, 3).reshape(number, height, 3 * width)
    return rows.sub_(centre).div_(spread).view(number, height, width, 3).permute(0, 3, 1, 2)


def apply_view(images: Tensor, number: int) -> Tensor:
    """One of the eight ways to lay a square down: bit 0 mirrors, bit 1 turns upside down, bit 2 swaps the axes.

    Args:
        images: (..., S, S)
        number: 0 (as it is) to 7; 3, 5 and 6 are the rotations by 180 and 90 degrees.
    """
    if number & 1:
        images = images.flip(-1)
    if number & 2:
        images = images.flip(-2)
    return images.transpose(-1, -2) if number & SWAP else images
