"""From a file's bytes to pixels, in training and in serving alike.

In: the bytes of one image file. Out: uint8 pixels (H, W, C), C 1 for grey and 3 for colour, and their resized form.

What a file holds decides, never its name:

| the file | becomes |
|---|---|
| JPEG, PNG, WebP, BMP, TIFF | accepted; everything else is refused |
| an EXIF orientation | turned upright |
| black and white, grey, grey palette | one channel |
| 16 (12) bits a channel | the upper 8 bits; never stretched to the darkest and brightest of the single image |
| 32-bit integers or floats, LAB | refused: they have no range that holds for every file |
| colour palette, YCbCr | RGB |
| CMYK | RGB by the plain formula; colour profiles are not applied, here or anywhere |
| transparency | laid over white |
| several pages or frames | refused, as nobody can tell which of them the label is about |
| thousands of scans, chunks, strips; BMP of run lengths | refused (`twofold/data/file_validation.py`): a decoder's time and memory |
| several pictures of one camera shot (MPO) | the first one, which is the photograph |
| a PNG with a wrong checksum | refused; the others have none, so damage shows there only if it stops the decoder |

Decoding takes up to 17 bytes a pixel (WebP; 8 for a PNG or a plain JPEG), the result included.

A large JPEG is scaled down by 2, 4 or 8 while it is decoded, to no less than `AMPLE` times the wanted size: its
decoder does that on the way from waves to pixels, and reads all of the file all the same. For photographs of 2000x1500
made 224 pixels wide the result is 0.6 of 255 levels away from the longer way, in the mean.

This file travels inside the sealed model, so it imports nothing but numpy, Pillow, its neighbours and the errors.
"""

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from twofold.core.errors import DataError
from twofold.data.file_validation import validate_file
from twofold.data.resizing import Fit, Pixels, resize_image

T = TypeVar("T")

# Pillow's name -> the extension under which such a file is stored. MPO is what Pillow calls a JPEG of several pictures.
FORMATS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif"}
BACKGROUND = 255  # white, under what is transparent

_GREY = ("1", "L", "LA", "La")
_KNOWN = {b"GIF8": "GIF", b"%PDF": "PDF", b"<svg": "SVG", b"<?xml": "XML", b"PK\x03\x04": "ZIP", b"\x1f\x8b": "gzip"}
_OURS = {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"RIFF": "WebP", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_ORIENTATION = 0x0112
_BAND = 1 << 16  # pixels that are turned into numbers at a time; more would not stay in the processor's cache
AMPLE = 1.5
AMPLE_KEY = "jpeg_ample"  # in what a model says of its pixels; a model that says nothing has them decoded whole
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Of what is turned upright, the tags whose left edge (whose top edge) was stored last.
_FROM_THE_RIGHT, _FROM_BELOW = (2, 3, 6, 7), (3, 4, 7, 8)
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may cost before it is opened, and how small a picture may be.

    `max_bytes`: of the file. `max_pixels`: width x height, at most 89,478,485, where Pillow itself sees a bomb.
    `min_side`: pixels of the shorter side.
    """

    max_bytes: int
    max_pixels: int
    min_side: int


class Decoded(NamedTuple):
    """One image, upright: `pixels` (H, W, C) uint8 with C 1 or 3; `mode` and `format` as Pillow names the file's."""

    pixels: Pixels
    width: int
    height: int
    mode: str
    format: str


class ResizedImage(NamedTuple):
    """One image made ready.

    Attributes:
        pixels: (S, S, C) uint8 with C 1 or 3.
        upright: the picture that it was scaled down from, in Pillow's mode L or RGB; a large JPEG is smaller in it.
        width, height: of the file, upright.
    """

    pixels: Pixels
    upright: Image.Image
    width: int
    height: int


class _Upright(NamedTuple):
    """A file's picture as Pillow has it; `extent` of it is (left, top, right, bottom) what the file shows."""

    image: Any
    extent: tuple[float, float, float, float]
    width: int
    height: int
    mode: str
    format: str
    depth: tuple[int, bool]


def decode(data: bytes, limits: Limits) -> Decoded:
    """Decode a whole file, every pixel of it.

    Raises:
        DataError: with the reason alone; the caller knows the file's name.
    """
    return _told(data, limits, _whole)


def prepare(data: bytes, limits: Limits, size: int, fit: Fit, ample: float = AMPLE) -> ResizedImage:
    """Decode a file and scale it to a square, as `scaling.resize` does; in training and in serving.

    Args:
        size, fit: as for `scaling.resize`.
        ample: times `size` that a JPEG has at least where it is scaled down while it is decoded; 0 decodes it whole.

    Raises:
        DataError: with the reason alone; the caller knows the file's name.
    """
    return _told(data, limits, partial(_made, size=size, fit=fit, ample=ample))


def _told(data: bytes, limits: Limits, work: Callable[[bytes, Limits], T]) -> T:
    """What `work` makes of a file; whatever stands in its way is a DataError."""
    if not data:
        raise DataError("the file is empty")
    if len(data) > limits.max_bytes:
        raise DataError(f"{len(data)} bytes, allowed are at most {limits.max_bytes}")
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, which does not touch the pixels; a bomb does.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return work(data, limits)
        except (DataError, MemoryError):
            raise
        except UnidentifiedImageError:
            raise DataError(_unidentified(data)) from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(f"too many pixels: {error}") from None
        except Exception as error:  # a damaged file makes Pillow raise almost anything
            raise DataError(f"damaged or cut short: {type(error).__name__}: {error}") from None


def _whole(data: bytes, limits: Limits) -> Decoded:
    found = _upright(data, limits)
    return Decoded(_pixels(found.image, found.mode, found.depth), found.width, found.height, found.mode, found.format)


def _made(data: bytes, limits: Limits, size: int, fit: Fit, ample: float) -> ResizedImage:
    found = _upright(data, limits, math.ceil(ample * size))
    image = found.image
    if image.mode not in ("L", "RGB") or image.has_transparency_data or found.mode.startswith("I;16"):
        pixels = _pixels(image, found.mode, found.depth)
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return ResizedImage(resize_image(image, found.extent, size, fit), image, found.width, found.height)


def _upright(data: bytes, limits: Limits, least: int = 0) -> _Upright:
    """Open, check and load a file; a JPEG may come scaled down, with no side below `least` pixels, if that is not 0."""
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
    depth = _depth(image)
    # The last column and row of what is scaled down may be a part of a pixel's worth.
    shown = (image.draft(None, (least, least)) if kind == "JPEG" and least else None) or (mode, (0, 0, width, height))
    right, bottom = float(shown[1][2]), float(shown[1][3])
    image.load()
    if kind == "WEBP":  # Pillow keeps the decoder, with two more copies of the pixels, and the decoder's answer
        vars(image).update(_decoder=None, fp=None)
    # A TIFF has been turned by Pillow at this point, and has lost the tag.
    tag = image.getexif().get(_ORIENTATION, 1)
    turn = _TURNS.get(tag)
    if turn is not None:
        info = image.info
        image = image.transpose(turn)
        image.info = info
        if tag > 4:  # lying on its side
            right, bottom, width, height = bottom, right, height, width
    elif kind == "TIFF":
        right, bottom, width, height = float(image.width), float(image.height), image.width, image.height
    left = image.width - right if tag in _FROM_THE_RIGHT else 0.0
    top = image.height - bottom if tag in _FROM_BELOW else 0.0
    return _Upright(image, (left, top, left + right, top + bottom), width, height, mode, kind, depth)


def _pixels(image: Any, mode: str, depth: tuple[int, bool]) -> Pixels:
    """(H, W, C), a band of rows at a time: nothing but the image and the result is held in full."""
    width, height = image.size
    rows = max(1, _BAND // width)
    bands = (image.crop((0, top, width, min(height, top + rows))) for top in range(0, height, rows))
    parts = (_eight_bits(band, depth) if mode.startswith("I;16") else _channels(band) for band in bands)
    first = next(parts)
    result = np.empty((height, width, first.shape[2]), np.uint8)
    result[:rows] = first
    for number, part in enumerate(parts, 1):
        result[number * rows : (number + 1) * rows] = part
    return result


def _depth(image: Any) -> tuple[int, bool]:
    """Bits of a sample, and whether 0 stands for white; Pillow leaves both to the caller in deep TIFF files."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(_TIFF_BITS, (16,))[0]), tags.get(_TIFF_PHOTOMETRIC, 1) == 0


def _eight_bits(image: Any, depth: tuple[int, bool]) -> Pixels:
    bits, white_is_zero = depth
    deep = np.asarray(image).astype(np.uint16)
    grey = (deep >> (bits - 8)).astype(np.uint8)
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
        raise DataError(f"pixels of Pillow's mode {mode} have no fixed range; save it as 8 or 16 bit grey, or as RGB")
    if image.has_transparency_data:
        layers = np.asarray(image.convert("LA" if mode in _GREY else "RGBA")).astype(np.uint16)
        colour, alpha = layers[:, :, :-1], layers[:, :, -1:]
        flat = ((colour * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)
    else:
        plain = np.asarray(image.convert("L" if mode in _GREY else "RGB"))
        flat = plain[:, :, None] if plain.ndim == 2 else plain
    return flat[:, :, :1] if grey else flat


def _unidentified(data: bytes) -> str:
    for start, name in _OURS.items():
        if data.startswith(start):
            return f"damaged or cut short: begins like a {name} file, but its header cannot be read"
    accepted = ", ".join(name for name in FORMATS if name != "MPO")
    return f"not an image of an accepted format ({accepted}); found {_sniff(data)}"


def _sniff(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return f"a file of the family of {data[8:12].decode('latin-1')}"
    if data[128:132] == b"DICM":
        return "a DICOM file"
    for start, name in _KNOWN.items():
        if data.startswith(start):
            return f"a {name} file"
    return f"a file that begins with {data[:8].hex(' ')}"
