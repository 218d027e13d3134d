"""Image statistics for the audit: brightness, contrast, sharpness and EXIF of one image.

Takes the decoded pixels of a file and its bytes, returns `ImageStatistics`. All statistics are of the image scaled down
to `SIDE` pixels, about what a model sees. So they are comparable across sizes, and a photograph that is soft only at
full size does not count as blurred.
"""

import io
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from twofold.data.decoding import FORMATS
from twofold.data.resizing import Pixels, to_image

SIDE = 256  # pixels of the longer side; a smaller image is not resized
_TAGS = {
    "make": ExifTags.Base.Make,
    "model": ExifTags.Base.Model,
    "software": ExifTags.Base.Software,
    "orientation": ExifTags.Base.Orientation,
}
_MAX_LENGTH = 60  # characters of an EXIF value


class ImageStatistics(NamedTuple):
    """Statistics of one image.

    Levels are those of 8 bits, 0 (black) to 255 (white). `dark` and `light` are cleanvision's `brightness_perc_99` and
    `_5`, but of Rec. 601 luma where cleanvision takes a root of squares. Red, green and blue of a grey file are equal.
    """

    # Variance of the Laplacian of the grey image, levels squared; low where it is blurred (Pech-Pacheco et al. 2000,
    # "Diatom autofocusing in brightfield microscopy").
    sharpness: float = 0.0
    spread: float = 0.0  # levels between the darkest and the brightest thousandth of the grey image
    dark: float = 0.0  # 99th percentile of the grey image, 0 to 1; low if under-exposed
    light: float = 0.0  # 5th percentile of the grey image, 0 to 1; high if over-exposed
    brightness: float = 0.0  # mean of the grey image, 0 to 1
    red: float = 0.0  # means of the channels, 0 to 1
    green: float = 0.0
    blue: float = 0.0
    exif: str = ""  # make, model, software, orientation as `name=value`, and `date` if there is one, joined by "|"


def image_statistics(pixels: Pixels, data: bytes) -> ImageStatistics:
    """The statistics of an image.

    Args:
        pixels: (H, W, C) uint8, C 1 or 3, upright, as `decode` returns them.
        data: the file that they were decoded from, for its EXIF.
    """
    image = to_image(pixels)
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
    """What a camera or a program wrote about itself; empty if the EXIF is damaged, as that affects no pixel."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
                exif = image.getexif()
                values = {name: exif.get(tag) for name, tag in _TAGS.items()}
                taken = ExifTags.Base.DateTimeOriginal
                date = exif.get(ExifTags.Base.DateTime) or exif.get_ifd(ExifTags.IFD.Exif).get(taken)
    except Exception:  # Pillow raises almost anything, and only pixels decide whether a file is accepted
        return ""
    parts = [f"{name}={_printable(value)}" for name, value in values.items() if value not in (None, "")]
    return "|".join([*parts, "date"] if date else parts)


def _printable(value: object) -> str:
    return "".join(c for c in str(value) if c.isprintable() and c not in "|=").strip()[:_MAX_LENGTH]
