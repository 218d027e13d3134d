"""Random changes of training images that leave their label true: turns, crops, light.

In: a batch of uint8 images and a generator. Out: the batch as it is shown to the network in this step. The generator
is seeded by (seed, epoch, step), so a training that was killed goes on with the same images.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.predicting import view


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


def generator(*address: int) -> torch.Generator:
    """Random numbers that depend on nothing but the address, such as (seed, epoch, step)."""
    state = np.random.SeedSequence(address).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def augment(images: Tensor, settings: Augmentation, random: torch.Generator) -> Tensor:
    """(N, S, S, C) uint8 -> (N, S, S, C) float32 in 0..255, each image changed in its own way."""
    changed = images.permute(0, 3, 1, 2).float()  # (N, C, S, S)
    changed = _turned(changed, 8 if settings.orientation_free else 2 if settings.flips else 1, random)
    if settings.crop_min_area < 1:
        changed = _cropped(changed, settings.crop_min_area, random)
    changed = _lit(changed, settings.brightness, settings.contrast, random)
    return changed.permute(0, 2, 3, 1)


def _turned(images: Tensor, ways: int, random: torch.Generator) -> Tensor:
    numbers = torch.randint(ways, (len(images),), generator=random)
    turned = images.clone()
    for number in range(1, ways):
        chosen = (numbers == number).nonzero().flatten().to(images.device)
        turned[chosen] = view(images[chosen], number)
    return turned


def _cropped(images: Tensor, min_area: float, random: torch.Generator) -> Tensor:
    # Square crops: a stretched image could turn one kind of defect into another.
    n = len(images)
    side = torch.empty(n).uniform_(min_area, 1, generator=random).sqrt()  # of the crop, the image's being 1
    centre = (2 * torch.rand(n, 2, generator=random) - 1) * (1 - side).unsqueeze(1)  # in -1..1, crop inside the image
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = centre
    grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _lit(images: Tensor, brightness: float, contrast: float, random: torch.Generator) -> Tensor:
    def factor(reach: float) -> Tensor:
        drawn = torch.empty(len(images), 1, 1, 1).uniform_(1 - reach, 1 + reach, generator=random)
        return drawn.to(images.device)

    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (((images - mean) * factor(contrast) + mean) * factor(brightness)).clamp(0, 255)
