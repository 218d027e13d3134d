"""Resizes the pixels of an image to a square, the same way in training and in serving.

The sealed model contains this file, so it imports only numpy, Pillow and the errors.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.core.errors import DataError

Pixels = NDArray[np.uint8]
Fit = Literal["squash", "crop", "pad"]

PADDING = 0  # black, beside a picture that is not square
# The filter of torchvision's ImageNet evaluation; Pillow widens it by the scale, which makes it antialiased.
FILTER = Image.Resampling.BILINEAR


def to_image(pixels: Pixels) -> Image.Image:
    """Pillow's image, mode L or RGB, of (H, W, C) uint8 pixels with C 1 or 3."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def resize(pixels: Pixels, size: int, fit: Fit) -> Pixels:
    """Scale to a square, antialiased.

    Args:
        pixels: (H, W, C) uint8, C 1 or 3.
        size: side of the result, pixels.
        fit: `squash` changes the proportions; `crop` keeps the largest central square; `pad` adds black borders.

    Returns:
        (size, size, C) uint8.
    """
    image = to_image(pixels)
    return resize_image(image, (0.0, 0.0, float(image.width), float(image.height)), size, fit)


def resize_image(image: Image.Image, extent: tuple[float, float, float, float], size: int, fit: Fit) -> Pixels:
    """Like `resize`, for Pillow's image.

    Args:
        image: in Pillow's mode L or RGB.
        extent: (left, top, right, bottom) of the part to use, in pixels; fractions of a pixel count.

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
    # Pillow first halves very large images in whole steps; with a gap of 3 or more the result looks the same.
    image = image.resize(target, FILTER, box=extent, reducing_gap=3.0)
    if target != (size, size):
        canvas = Image.new(image.mode, (size, size), (PADDING,) * 3 if image.mode == "RGB" else PADDING)
        canvas.paste(image, ((size - target[0]) // 2, (size - target[1]) // 2))
        image = canvas
    return np.asarray(image).reshape(size, size, -1)


def level_histogram(pixels: Pixels) -> NDArray[np.int64]:
    """How often each level occurs in each channel of (H, W, C) uint8 pixels: (C, 256)."""
    return np.array(to_image(pixels).histogram(), np.int64).reshape(pixels.shape[2], 256)
