"""Random changes of training images that leave their label true: turns, crops, light.

In: a batch of uint8 images and a generator. Out: the batch as it is shown to the network in this step. The generator
is seeded by (seed, epoch, step), so a training that was killed goes on with the same images.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.model.inference import SWAP, apply_view


@dataclass(frozen=True)
class Augmentation:
    """What may be done to an image.

    Attributes:
        flips: mirror left and right.
        orientation_free: any of the eight ways to lay the square down.
        crop_min_area: share of the image that a random square crop keeps at least, in (0, 1]; 1 is no crop.
        brightness, contrast: greatest relative change, in 0..1.
    """

    flips: bool
    orientation_free: bool
    crop_min_area: float
    brightness: float
    contrast: float


def seeded_generator(*address: int) -> torch.Generator:
    """Random numbers that depend on nothing but the address, such as (seed, epoch, step)."""
    state = np.random.SeedSequence(address).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


class AugmentationDraws(NamedTuple):
    """What chance has decided for a batch: everything random is drawn here, on the CPU, so that every device gets the
    same; what follows from it is arithmetic.

    Attributes:
        ways: (n,) int64, number of the view of `predicting.view` that each image is shown as.
        crops: (n, 3) float32, side of the crop (the image's being 1) and its centre's x and y in -1..1.
        light: (n, 2) float32, factors of contrast and of brightness.
    """

    ways: Tensor
    crops: Tensor
    light: Tensor


def draw_augmentation(n: int, settings: Augmentation, random: torch.Generator) -> AugmentationDraws:
    """Decide what is done to each of n images."""
    ways = torch.randint(_ways(settings), (n,), generator=random)
    crops = torch.tensor([1.0, 0.0, 0.0]).repeat(n, 1)
    if settings.crop_min_area < 1:
        crops[:, 0] = torch.empty(n).uniform_(settings.crop_min_area, 1, generator=random).sqrt()
        # The crop lies inside the image.
        crops[:, 1:] = (2 * torch.rand(n, 2, generator=random) - 1) * (1 - crops[:, :1])
    light = [torch.empty(n).uniform_(1 - r, 1 + r, generator=random) for r in (settings.contrast, settings.brightness)]
    return AugmentationDraws(ways, crops, torch.stack(light, dim=1))


def augment(images: Tensor, settings: Augmentation, draws: AugmentationDraws) -> Tensor:
    """(N, S, S, C) uint8 -> (N, S, S, C) in 0..255, changed as was drawn: float32, or uint8 if only turned.

    Its operations depend on the settings and on shapes, never on what was drawn: a CUDA graph can hold them.
    """
    if _ways(settings) > 1:
        images = _turned(images, draws.ways)
    if settings.crop_min_area < 1:
        images = _cropped(images.float().permute(0, 3, 1, 2), draws.crops).permute(0, 2, 3, 1)
    if settings.brightness or settings.contrast:
        images = _lit(images.float(), draws.light)
    return images


def _ways(settings: Augmentation) -> int:
    return 8 if settings.orientation_free else 2 if settings.flips else 1


def _turned(images: Tensor, ways: Tensor) -> Tensor:
    if images.device.type != "cpu":
        return apply_views(images, ways)
    turned = torch.empty_like(images)
    for image, way, into in zip(images, ways.tolist(), turned, strict=True):
        planes = apply_view(image.permute(2, 0, 1), way)
        if way & SWAP:
            # One channel after the other: three numbers at a time take twice as long.
            for plane, place in zip(planes, into.unbind(-1), strict=True):
                place.copy_(plane)
        else:
            into.copy_(planes.permute(1, 2, 0))
    return turned


def apply_views(images: Tensor, ways: Tensor) -> Tensor:
    """`predicting.view` for a whole batch at once, (N, S, S, C): what a GPU is quick at, and a CPU is not.

    Args:
        ways: (N,) int64, number of the view of each image.
    """
    size = images.shape[1]
    here = torch.arange(size, device=images.device)
    mirrored, upside_down, swapped = ((ways >> bit & 1).bool().view(-1, 1, 1) for bit in range(3))
    row, column = here.view(1, -1, 1), here.view(1, 1, -1)
    # A view mirrors, turns upside down and then swaps; a pixel's origin is found the other way round.
    y, x = torch.where(swapped, column, row), torch.where(swapped, row, column)
    y, x = torch.where(upside_down, size - 1 - y, y), torch.where(mirrored, size - 1 - x, x)
    return images[torch.arange(len(images), device=images.device).view(-1, 1, 1), y, x]


def _cropped(images: Tensor, crops: Tensor) -> Tensor:
    # Square crops: a stretched image could turn one kind of defect into another.
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = crops[:, 0]
    theta[:, :, 2] = crops[:, 1:]
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _lit(images: Tensor, light: Tensor) -> Tensor:
    contrast, brightness = light.view(-1, 2, 1, 1, 1).unbind(1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (((images - mean) * contrast + mean) * brightness).clamp(0, 255)
