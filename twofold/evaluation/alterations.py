"""Mild changes to an image after which a person would give the same answer: uint8 pixels in, uint8 pixels out.

Nothing is drawn by chance, each image is changed by itself, and what leaves 0..255 is held there.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]  # (N, S, S, C), C 1 or 3

QUALITY = 50  # of the JPEG; Pillow's scale, its chroma at half the resolution
SIGMA = 1.0  # pixels, of the Gaussian blur
REACH = 3  # pixels to each side that the blur takes in
LIGHT = 0.2  # share by which brightness and contrast change
SHIFT = 2  # pixels


class Alteration(NamedTuple):
    """One way to change images, and what it does in words."""

    words: str
    apply: Callable[[Pixels], Pixels]


def jpeg(pixels: Pixels) -> Pixels:
    """Each image saved as JPEG of QUALITY and read again."""
    changed = np.empty_like(pixels)
    for number, image in enumerate(pixels):
        stream = io.BytesIO()
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(stream, "JPEG", quality=QUALITY)
        with Image.open(stream) as again:
            changed[number] = np.asarray(again).reshape(image.shape)
    return changed


def blur(pixels: Pixels) -> Pixels:
    """A Gaussian of SIGMA, cut at REACH; beyond the edge its last pixel goes on."""
    weights = np.exp(-0.5 * np.square(np.arange(-REACH, REACH + 1) / SIGMA))
    weights /= weights.sum()
    found = pixels.astype(np.float64)
    for axis in (1, 2):
        around = [(0, 0)] * 4
        around[axis] = (REACH, REACH)
        padded, length = np.pad(found, around, mode="edge"), found.shape[axis]
        found = sum(
            weight * np.take(padded, range(offset, offset + length), axis=axis) for offset, weight in enumerate(weights)
        )
    return _levels(found)


def brighter(pixels: Pixels) -> Pixels:
    """Every level times 1 + LIGHT."""
    return _levels(pixels * (1 + LIGHT))


def darker(pixels: Pixels) -> Pixels:
    """Every level times 1 - LIGHT."""
    return _levels(pixels * (1 - LIGHT))


def flatter(pixels: Pixels) -> Pixels:
    """Every level's distance from the image's mean times 1 - LIGHT."""
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float64)
    return _levels(mean + (1 - LIGHT) * (pixels - mean))


def shifted(pixels: Pixels) -> Pixels:
    """Moved SHIFT pixels to the right and down; the first row and column fill the gap."""
    side = pixels.shape[1]
    padded = np.pad(pixels, ((0, 0), (SHIFT, 0), (SHIFT, 0), (0, 0)), mode="edge")
    return padded[:, :side, :side]


ALTERATIONS = {
    "jpeg": Alteration(f"saved as JPEG of quality {QUALITY}", jpeg),
    "blur": Alteration(f"blurred, by a Gaussian of {SIGMA:g} pixel", blur),
    "brighter": Alteration(f"{100 * LIGHT:g} % brighter", brighter),
    "darker": Alteration(f"{100 * LIGHT:g} % darker", darker),
    "flatter": Alteration(f"{100 * LIGHT:g} % less contrast", flatter),
    "shifted": Alteration(f"moved by {SHIFT} pixels right and down", shifted),
}


def _levels(values: NDArray[np.floating]) -> Pixels:
    held: Pixels = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    return held
