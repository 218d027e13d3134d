"""Pixels of any size to a square of one size, in training and in serving alike.

This file travels inside the sealed model, so it imports nothing but numpy, Pillow and the errors.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.core.errors import DataError

Pixels = NDArray[np.uint8]
Fit = Literal["squash", "crop", "pad"]

PADDING = 0  # black, beside a picture that is not square
# The filter of torchvision's own ImageNet evaluation; widened by the scale, which is what makes it antialiased.
FILTER = Image.Resampling.BILINEAR


def resize(pixels: Pixels, size: int, fit: Fit) -> Pixels:
    """Scale to a square, antialiased.

    Args:
        pixels: (H, W, C) uint8, C 1 or 3.
        size: pixels of a side of the result.
        fit: `squash` changes the proportions; `crop` keeps the largest central square; `pad` keeps everything and
            fills up with black.

    Returns:
        (size, size, C) uint8.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return resize_image(image, (0.0, 0.0, float(image.width), float(image.height)), size, fit)


def resize_image(image: Image.Image, extent: tuple[float, float, float, float], size: int, fit: Fit) -> Pixels:
    """`resize` of a picture as Pillow has it.

    Args:
        image: in Pillow's mode L or RGB.
        extent: (left, top, right, bottom) of what counts of it, in its pixels; their parts count too.
        size, fit: as for `resize`.

    Returns:
        (size, size, C) uint8.
    """
    left, top, right, bottom = extent
    width, height = right - left, bottom - top
    target = (size, size)
    if fit == "crop":
        side = min(width, height)
        left, top = left + (width - side) / 2, top + (height - side) / 2
        extent = (left, top, left + side, top + side)
    elif fit == "pad":
        scale = size / max(width, height)
        target = (max(1, round(width * scale)), max(1, round(height * scale)))
    elif fit != "squash":
        raise DataError(f"fit: found {fit!r}; allowed are squash, crop, pad")
    # Pillow halves very large images in whole steps first; from a gap of 3 on the result is the same to the eye.
    image = image.resize(target, FILTER, box=extent, reducing_gap=3.0)
    if target != (size, size):
        canvas = Image.new(image.mode, (size, size), (PADDING,) * 3 if image.mode == "RGB" else PADDING)
        canvas.paste(image, ((size - target[0]) // 2, (size - target[1]) // 2))
        image = canvas
    return np.asarray(image).reshape(size, size, -1)


def level_histogram(pixels: Pixels) -> NDArray[np.int64]:
    """How often each level occurs in each channel of (H, W, C) uint8 pixels: (C, 256)."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.array(image.histogram(), np.int64).reshape(pixels.shape[2], 256)
