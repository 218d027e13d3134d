"""What an image looks like, in a few figures that an audit judges it by.

In: the decoded pixels of a file, and its bytes. Out: a `Look`.

All figures are taken from the image scaled down to `SIDE` pixels, about as much as a model sees of it: so they compare
across sizes, and a photograph that is soft only at its full size is not called blurred.
"""

import io
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from twofold.data.decoding import FORMATS
from twofold.data.resizing import Pixels

SIDE = 256  # pixels of the longer side; a smaller image stays as it is
_TAGS = {
    "make": ExifTags.Base.Make,
    "model": ExifTags.Base.Model,
    "software": ExifTags.Base.Software,
    "orientation": ExifTags.Base.Orientation,
}
_LONGEST = 60  # characters of an EXIF value


class ImageStatistics(NamedTuple):
    """One image in figures; levels are those of 8 bits, 0 (black) to 255 (white).

    Attributes:
        sharpness: variance of the Laplacian of the grey image, levels squared; little where it is blurred (Pech-Pacheco
            et al. 2000, "Diatom autofocusing in brightfield microscopy").
        spread: levels between the darkest and the brightest thousandth of the grey image.
        dark: the level above which only the brightest hundredth lies, 0 to 1; little in an under-exposed image.
        light: the level below which only the darkest twentieth lies, 0 to 1; much in an over-exposed one. Both are
            cleanvision's `brightness_perc_99` and `_5`, but of Rec. 601 luma where that takes a root of squares.
        brightness: mean of the grey image, 0 to 1.
        red, green, blue: means of the channels, 0 to 1; all the brightness of a grey file.
        exif: make, model, software and orientation as `name=value` and `date` if there is one, joined by "|".
    """

    sharpness: float = 0.0
    spread: float = 0.0
    dark: float = 0.0
    light: float = 0.0
    brightness: float = 0.0
    red: float = 0.0
    green: float = 0.0
    blue: float = 0.0
    exif: str = ""


def image_statistics(pixels: Pixels, data: bytes) -> ImageStatistics:
    """The figures of an image.

    Args:
        pixels: (H, W, C) uint8, C 1 or 3, upright, as `twofold.data.decoding.decode` returns them.
        data: the file that they were decoded from; its EXIF is read.
    """
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    shades = image.convert("L")
    grey = np.asarray(shades).astype(np.int16)
    ranks = np.cumsum(shades.histogram()) / grey.size
    counts = np.array(image.histogram()).reshape(-1, 256)
    means = [float(value) for value in counts @ np.arange(256) / grey.size / 255]
    low, high, light, dark = (float(level) for level in np.searchsorted(ranks, [0.001, 0.999, 0.05, 0.99]))
    return ImageStatistics(
        _sharpness(grey),
        high - low,
        dark / 255,
        light / 255,
        float(grey.mean(dtype=np.float64)) / 255,
        means[0],
        means[len(means) // 2],
        means[-1],
        _exif(data),
    )


def _sharpness(grey: NDArray[np.int16]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    inner = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.var(dtype=np.float64))


def _exif(data: bytes) -> str:
    """What a camera or a program wrote of itself. Damaged EXIF is none: it touches no pixel."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
                exif = image.getexif()
                values = {name: exif.get(tag) for name, tag in _TAGS.items()}
                date = exif.get(ExifTags.Base.DateTime) or exif.get_ifd(ExifTags.IFD.Exif).get(
                    ExifTags.Base.DateTimeOriginal
                )
    except Exception:  # Pillow raises almost anything, and only pixels decide whether a file is taken
        return ""
    parts = [f"{name}={_word(value)}" for name, value in values.items() if value not in (None, "")]
    return "|".join([*parts, "date"] if date else parts)


def _word(value: object) -> str:
    return "".join(c for c in str(value) if c.isprintable() and c not in "|=").strip()[:_LONGEST]
