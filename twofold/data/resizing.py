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


def resize(image: Image.Image, extent: tuple[float, float, float, float], size: int, fit: Fit) -> Image.Image:
    """Scale to a square, antialiased.

    Args:
        image: in Pillow's mode L or RGB, as is the result.
        extent: (left, top, right, bottom) of the part to use, in pixels; fractions of a pixel count.
        size: side of the result, pixels.
        fit: `squash` changes the proportions; `crop` keeps the largest central square; `pad` adds black borders.
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
    return image
