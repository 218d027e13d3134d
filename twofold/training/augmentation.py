"""Random augmentation of training images that keeps their label true: flips and rotations, crops, light.

Takes a batch of uint8 images and a generator, and returns the batch as the network gets it in this step. The generator
is seeded by (seed, epoch, step), so a resumed training gets the same images.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.model.inference import SWAP_AXES, apply_view


@dataclass(frozen=True)
class Augmentation:
    """Which changes are allowed.

    Attributes:
        flips: mirror left and right.
        orientation_free: any of the eight flips and rotations of a square.
        crop_min_area: smallest share of the image that a random square crop keeps, in (0, 1]; 1 is no crop.
        brightness, contrast: greatest relative change, in 0..1.
    """

    flips: bool
    orientation_free: bool
    crop_min_area: float
    brightness: float
    contrast: float

    @property
    def view_count(self) -> int:
        """How many of the views of `inference.apply_view` an image may get."""
        return 8 if self.orientation_free else 2 if self.flips else 1


def seeded_generator(*address: int) -> torch.Generator:
    """A generator whose random numbers depend on the address alone, such as (seed, epoch, step)."""
    state = np.random.SeedSequence(address).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


class AugmentationDraws(NamedTuple):
    """All random draws of a batch, made on the CPU so that every device gets the same.

    Attributes:
        views: (n,) int64, the view of `inference.apply_view` of each image.
        crops: (n, 3) float32, side of the crop (the image's being 1), and x and y of its centre in -1..1.
        light: (n, 2) float32, factors of contrast and of brightness.
    """

    views: Tensor
    crops: Tensor
    light: Tensor


def draw_augmentation(n: int, settings: Augmentation, random: torch.Generator) -> AugmentationDraws:
    """Draw the changes of n images."""
    views = torch.randint(settings.view_count, (n,), generator=random)
    crops = torch.tensor([1.0, 0.0, 0.0]).repeat(n, 1)
    if settings.crop_min_area < 1:
        crops[:, 0] = torch.empty(n).uniform_(settings.crop_min_area, 1, generator=random).sqrt()
        # The crop lies inside the image.
        crops[:, 1:] = (2 * torch.rand(n, 2, generator=random) - 1) * (1 - crops[:, :1])
    light = [torch.empty(n).uniform_(1 - r, 1 + r, generator=random) for r in (settings.contrast, settings.brightness)]
    return AugmentationDraws(views, crops, torch.stack(light, dim=1))


def augment(images: Tensor, settings: Augmentation, draws: AugmentationDraws) -> Tensor:
    """(N, S, S, C) uint8 -> (N, S, S, C) in 0..255, changed as drawn: float32, or uint8 if only flipped and rotated.

    The operations depend on settings and shapes, never on the draws, so that a CUDA graph can capture them.
    """
    if settings.view_count > 1:
        apply = _apply_views_on_cpu if images.device.type == "cpu" else apply_views
        images = apply(images, draws.views)
    if settings.crop_min_area < 1:
        images = _crop(images.float().permute(0, 3, 1, 2), draws.crops).permute(0, 2, 3, 1)
    if settings.brightness or settings.contrast:
        images = _change_light(images.float(), draws.light)
    return images


def _apply_views_on_cpu(images: Tensor, views: Tensor) -> Tensor:
    result = torch.empty_like(images)
    for image, view, target in zip(images, views.tolist(), result, strict=True):
        changed = apply_view(image.permute(2, 0, 1), view)
        if view & SWAP_AXES:
            # One channel at a time: copying interleaved channels takes twice as long.
            for plane, target_plane in zip(changed, target.unbind(-1), strict=True):
                target_plane.copy_(plane)
        else:
            target.copy_(changed.permute(1, 2, 0))
    return result


def apply_views(images: Tensor, views: Tensor) -> Tensor:
    """`inference.apply_view` for a batch (N, S, S, C) with views (N,) int64; fast on a GPU, slow on a CPU."""
    size = images.shape[1]
    index = torch.arange(size, device=images.device)
    mirrored, upside_down, swapped = ((views >> bit & 1).bool().view(-1, 1, 1) for bit in range(3))
    row, column = index.view(1, -1, 1), index.view(1, 1, -1)
    # A view flips left-right, up-down and then swaps the axes; a pixel's origin is found in the reverse order.
    y, x = torch.where(swapped, column, row), torch.where(swapped, row, column)
    y, x = torch.where(upside_down, size - 1 - y, y), torch.where(mirrored, size - 1 - x, x)
    return images[torch.arange(len(images), device=images.device).view(-1, 1, 1), y, x]


def _crop(images: Tensor, crops: Tensor) -> Tensor:
    # Square crops: a stretched image could turn one kind of defect into another.
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = crops[:, 0]
    theta[:, :, 2] = crops[:, 1:]
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _change_light(images: Tensor, light: Tensor) -> Tensor:
    contrast, brightness = light.view(-1, 2, 1, 1, 1).unbind(1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (((images - mean) * contrast + mean) * brightness).clamp(0, 255)
