"""Small grey pictures, normalised in brightness and contrast, in which near duplicates are searched."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32  # pixels of a thumbnail
_GAP = 3.0  # at least so many pixels a side become one of a thumbnail
FLAT = 1.0  # levels of 0..255; a thumbnail with a lower standard deviation has nothing to compare
Thumbnails = NDArray[np.float16]


def thumbnail(grey: Image.Image) -> Thumbnails:
    """The (SIDE, SIDE) thumbnail of a grey picture (Pillow's mode L): mean 0, length 1; zeros if it has no contrast."""
    # In floats: rounding to levels would lose most of a picture of low contrast.
    exact = grey.convert("F")
    # Averaging whole blocks first, to a few times the size, gives as smooth a result in much less time.
    small = np.asarray(exact.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=_GAP), np.float32)
    centred = small - small.mean()
    if centred.std() < FLAT:
        return np.zeros((SIDE, SIDE), np.float16)
    normalised: Thumbnails = (centred / np.linalg.norm(centred)).astype(np.float16)
    return normalised
