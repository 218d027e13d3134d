"""Decodes an image file to uint8 pixels and resizes them, the same way in training and in serving.

Takes the bytes of an image file; returns (H, W, C) uint8 pixels, C 1 for grey and 3 for colour, in full or resized.
The content of a file decides what it is, never its name:

| content | result |
|---|---|
| JPEG, PNG, WebP, BMP, TIFF | accepted; every other format is refused |
| an EXIF orientation | turned upright |
| black and white, grey, grey palette | one channel |
| 16 (12) bits a channel | the upper 8 bits; never stretched to the darkest and brightest value of the single image |
| 16 bits grey, with the largest sample value stated (TIFF's MaxSampleValue) | the upper 8 of the bits that it needs |
| 32-bit or signed integers, floats, LAB | refused: they have no range that holds for every file |
| colour palette, YCbCr | RGB |
| CMYK | RGB by the plain formula; colour profiles are never applied |
| transparency | blended over white |
| several pages or frames | refused: nobody can tell which of them the label is about |
| thousands of scans, chunks or strips; run-length BMP | refused by `file_validation.py`: they cost time and memory |
| several pictures of one camera shot (MPO) | the first one, which is the photograph |
| a PNG with a wrong checksum | refused; the other formats have no checksum: damage is found only if decoding fails |

Decoding takes up to 17 bytes a pixel (WebP; 8 for a PNG or a plain JPEG), the result included.

A large JPEG is scaled down by 2, 4 or 8 while it is decoded, to no less than `AMPLE` times the wanted size. The decoder
still reads the whole file, but computes fewer pixels. For photographs of 2000x1500 resized to 224 pixels the result
differs from full decoding by 0.6 of 255 levels on average.

The sealed model contains this file, so it imports only numpy, Pillow, its neighbours in this folder and the errors.
"""

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from twofold.core.errors import DataError
from twofold.data.file_validation import REMEDY, describe_unidentified, no_mode, validate_file
from twofold.data.resizing import Fit, Pixels, resize, to_image

# Pillow's name of a format -> the extension of a stored file. Pillow calls a JPEG of several pictures MPO.
FORMATS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif"}
BACKGROUND = 255  # white, under transparent pixels

_GREY = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112
_BAND = 1 << 16  # pixels converted at a time, few enough for the processor's cache
AMPLE = 1.5
AMPLE_KEY = "jpeg_ample"  # in a sealed model's preprocessing; a model without the key decodes large JPEGs in full
# EXIF orientation -> how to turn the image upright.
_Turn = Image.Transpose
_TRANSPOSES = {2: _Turn.FLIP_LEFT_RIGHT, 3: _Turn.ROTATE_180, 4: _Turn.FLIP_TOP_BOTTOM, 5: _Turn.TRANSPOSE}
_TRANSPOSES |= {6: _Turn.ROTATE_270, 7: _Turn.TRANSVERSE, 8: _Turn.ROTATE_90}
# The orientations whose upright left edge (top edge) was stored last.
_RIGHT_TO_LEFT, _BOTTOM_TO_TOP = (2, 3, 6, 7), (3, 4, 7, 8)
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_MAXIMUM, _TIFF_FORMAT = 258, 262, 281, 339
# Pillow can unpack these grey samples, but its table has only some of their byte orders and black levels.
TiffImagePlugin.OPEN_INFO[(b"MM", 0, (1,), 1, (16,), ())] = ("I;16B", "I;16B")
TiffImagePlugin.OPEN_INFO |= {(o, b, (1,), 1, (12,), ()): ("I;16", "I;12") for o in (b"II", b"MM") for b in (0, 1)}


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image file may have.

    `max_bytes`: of the file. `max_pixels`: width x height, at most 89,478,485, above which Pillow reports a
    decompression bomb. `min_side`: pixels of the shorter side.
    """

    max_bytes: int
    max_pixels: int
    min_side: int


class Decoded(NamedTuple):
    """An upright image: `pixels` (H, W, C) uint8 with C 1 or 3; `mode` and `format` of the file in Pillow's terms."""

    pixels: Pixels
    width: int
    height: int
    mode: str
    format: str


class ResizedImage(NamedTuple):
    """A decoded and resized image; `width` and `height` are those of the file, upright."""

    pixels: Pixels  # (S, S, C) uint8 with C 1 or 3
    image: Image.Image  # the same, in Pillow's mode L or RGB
    upright: Image.Image  # before resizing, in Pillow's mode L or RGB; smaller than the file's for a large JPEG
    width: int
    height: int


class _LoadedImage(NamedTuple):
    """Pillow's image, upright; `extent` is (left, top, right, bottom) of the file's picture within it."""

    image: Any
    extent: tuple[float, float, float, float]
    width: int
    height: int
    mode: str
    format: str
    depth: tuple[int, bool]


def decode(data: bytes, limits: Limits) -> Decoded:
    """Decode a whole file at full size.

    Raises:
        DataError: the reason without the file's name, which the caller knows.
    """
    with _decoder_errors(data, limits):
        found = _load(data, limits)
        pixels = _to_array(found.image, found.mode, found.depth)
        return Decoded(pixels, found.width, found.height, found.mode, found.format)


def prepare(data: bytes, limits: Limits, size: int, fit: Fit, ample: float = AMPLE) -> ResizedImage:
    """Decode a file and scale it to a square.

    Args:
        size, fit: as for `resize`.
        ample: a JPEG scaled down while it is decoded keeps at least `ample` times `size`; 0 decodes it at full size.

    Raises:
        DataError: the reason without the file's name, which the caller knows.
    """
    with _decoder_errors(data, limits):
        found = _load(data, limits, math.ceil(ample * size))
        image = found.image
        if image.mode not in ("L", "RGB") or image.has_transparency_data or found.mode.startswith("I;16"):
            image = to_image(_to_array(image, found.mode, found.depth))
        resized = resize(image, found.extent, size, fit)
        pixels = np.asarray(resized).reshape(size, size, -1)
        return ResizedImage(pixels, resized, image, found.width, found.height)


@contextmanager
def _decoder_errors(data: bytes, limits: Limits) -> Iterator[None]:
    """Refuse an empty or too large file, and turn every error of a decoder into a DataError."""
    if not data:
        raise DataError("the file is empty")
    if len(data) > limits.max_bytes:
        raise DataError(f"{len(data)} bytes, allowed are at most {limits.max_bytes}")
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, which does not affect the pixels, and of bombs.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except (DataError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise DataError(describe_unidentified(data)) from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(f"too many pixels: {error}") from None
        except Exception as error:  # a damaged file makes Pillow raise almost anything
            damaged = f"damaged or cut short: {type(error).__name__}: {error}"
            raise DataError(no_mode("BMP", str(error)) if "Unsupported BMP" in damaged else damaged) from None


def _load(data: bytes, limits: Limits, min_draft: int = 0) -> _LoadedImage:
    """Open, check and load a file; unless `min_draft` is 0, a JPEG may be scaled down to sides of at least that."""
    validate_file(data, limits.max_pixels)
    formats = [name for name in FORMATS if name != "MPO"]
    image: Any = Image.open(io.BytesIO(data), formats=formats)
    width, height = image.size
    if width * height > limits.max_pixels:
        raise DataError(f"{width}x{height} are {width * height} pixels, allowed are at most {limits.max_pixels}")
    if min(width, height) < limits.min_side:
        raise DataError(f"{width}x{height}: the shorter side must have at least {limits.min_side} pixels")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise DataError("several frames in one file; save the one that the label is about on its own")
    kind, mode = str(image.format), str(image.mode)
    # Pillow leaves the bits of a sample, and whether 0 means white, to the caller in deep TIFF files.
    tags = getattr(image, "tag_v2", {})
    if mode == "L" and 2 in tags.get(_TIFF_FORMAT, ()):
        raise DataError(no_mode(kind, "signed integers"))
    depth = _bits(tags), tags.get(_TIFF_PHOTOMETRIC, 1) == 0
    # Pillow's mode for a PNG of 16 bits, grey and alpha.
    grey = kind == "PNG" and mode == "RGBA" and image.tile[0][3] == "LA;16B"
    # After scaling down, the picture may end within the last column and row of pixels.
    draft = image.draft(None, (min_draft, min_draft)) if kind == "JPEG" and min_draft else None
    right, bottom = map(float, draft[1][2:] if draft else (width, height))
    image.load()
    if kind == "WEBP":  # Pillow keeps its decoder, which holds two more copies of the pixels
        vars(image).update(_decoder=None, fp=None)
    if grey:
        image, mode = image.convert("LA"), "LA"
    # Pillow has already turned a TIFF at this point, and removed the tag.
    tag = image.getexif().get(_ORIENTATION, 1)
    transpose = _TRANSPOSES.get(tag)
    if transpose is not None:
        info = image.info
        image = image.transpose(transpose)
        image.info = info
        if tag > 4:  # width and height change places
            right, bottom, width, height = bottom, right, height, width
    elif kind == "TIFF":
        right, bottom, width, height = float(image.width), float(image.height), image.width, image.height
    left = image.width - right if tag in _RIGHT_TO_LEFT else 0.0
    top = image.height - bottom if tag in _BOTTOM_TO_TOP else 0.0
    return _LoadedImage(image, (left, top, left + right, top + bottom), width, height, mode, kind, depth)


def _bits(tags: Any) -> int:
    """Whole bits that the largest value stated needs: programs that state an image's own must not change its light."""
    bits, stated = int(tags.get(_TIFF_BITS, (16,))[0]), (tags.get(_TIFF_MAXIMUM) or (0,))[0]
    return min(bits, max(8, stated.bit_length())) if isinstance(stated, int) and stated > 0 else bits


def _to_array(image: Any, mode: str, depth: tuple[int, bool]) -> Pixels:
    """(H, W, C), converted a band of rows at a time, so that only the image and the result are in memory in full."""
    width, height = image.size
    rows = max(1, _BAND // width)
    bands = (image.crop((0, top, width, min(height, top + rows))) for top in range(0, height, rows))
    parts = (_deep_to_grey(band, depth) if mode.startswith("I;16") else _channels(band) for band in bands)
    first = next(parts)
    result = np.empty((height, width, first.shape[2]), np.uint8)
    result[:rows] = first
    for number, part in enumerate(parts, 1):
        result[number * rows : (number + 1) * rows] = part
    return result


def _deep_to_grey(image: Any, depth: tuple[int, bool]) -> Pixels:
    bits, white_is_zero = depth
    deep = np.asarray(image).astype(np.uint16)
    grey: Pixels = np.minimum(deep >> (bits - 8), 255).astype(np.uint8)
    if white_is_zero:
        grey = 255 - grey
    if "transparency" in image.info:
        grey[deep == image.info["transparency"]] = BACKGROUND
    return grey[:, :, None]


def _channels(image: Any) -> Pixels:
    mode = image.mode
    grey = mode in _GREY
    if mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        grey = bool((palette == palette[:, :1]).all())
    elif not grey and mode not in ("RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"):
        raise DataError(f"pixels of Pillow's mode {mode} have no fixed range; {REMEDY}")
    if image.has_transparency_data:
        layers = np.asarray(image.convert("LA" if mode in _GREY else "RGBA")).astype(np.uint16)
        colour, alpha = layers[:, :, :-1], layers[:, :, -1:]
        flat = ((colour * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)
    else:
        plain = np.asarray(image.convert("L" if mode in _GREY else "RGB"))
        flat = plain[:, :, None] if plain.ndim == 2 else plain
    return flat[:, :, :1] if grey else flat
