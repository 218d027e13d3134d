"""Small grey pictures of one brightness and contrast, by which near duplicates are found."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.data.resizing import Pixels

SIDE = 32  # pixels of a thumbnail
_GAP = 3.0  # at least so many pixels a side become one of a thumbnail
FLAT = 1.0  # levels of 0..255; a thumbnail with a lower standard deviation shows nothing to compare
Thumbnails = NDArray[np.float16]


def thumbnail(pixels: Pixels) -> Thumbnails:
    """What near duplicates are found by: (SIDE, SIDE), mean 0 and length 1; zeros for a picture without contrast.

    Args:
        pixels: (H, W, C) uint8, C 1 or 3, of any size.
    """
    return grey_thumbnail(to_grey(pixels))


def to_grey(pixels: Pixels) -> Image.Image:
    """The grey picture (Rec. 601 luma) of (H, W, C) uint8 pixels, C 1 or 3."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("L")


def grey_thumbnail(grey: Image.Image) -> Thumbnails:
    """`thumbnail` of what is grey already."""
    # Without rounding to levels, which would be most of what a picture of low contrast has.
    exact = grey.convert("F")
    # Averages of whole blocks first, to a few times the size: the rest of the way is as smooth, and much shorter.
    small = np.asarray(exact.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=_GAP), np.float32)
    centred = small - small.mean()
    if centred.std() < FLAT:
        return np.zeros((SIDE, SIDE), np.float16)
    normalised: Thumbnails = (centred / np.linalg.norm(centred)).astype(np.float16)
    return normalised
