"""One image made ready: from the file in its shard to the pixels that are trained on, and what else is seen on the way.

In: images of the manifest, and how they are resized. Out: for each its pixels and what was measured on the way. The
memo keeps them under the file's content and everything else that they depend on, so an image that was prepared is not
decoded again.
"""

import functools
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from twofold.audit.near_duplicates import SIDE, Thumbnails, shades, thumbnail_of
from twofold.core.code_digest import code_digest
from twofold.core.errors import ArtifactError, DataError
from twofold.data.decode_cache import content_of, decoders
from twofold.data.decoding import Limits, prepare
from twofold.data.raw import Image, read_member
from twofold.data.resizing import Fit, Pixels, histogram
from twofold.storage import cache

KIND = "pixels"
_DIGEST, _NUMBER, _THUMBNAIL = 32, 8, 2 * SIDE * SIDE  # bytes
_LEVELS = np.arange(256, dtype=np.int64)


class Ready(NamedTuple):
    """An image made ready.

    Attributes:
        pixels: (S, S, C) uint8 with C 1 or 3.
        content: of the pixels, see `seen.content_of`.
        thumbnail: by which near duplicates are found; None where nobody looks for them.
        brightness: see `brightness`.
        values, squares: (C,) int64, the sums over the pixels of each channel's values, and of their squares.
    """

    pixels: Pixels
    content: str
    thumbnail: Thumbnails | None
    brightness: float
    values: NDArray[np.int64]
    squares: NDArray[np.int64]


def ready(
    images: Sequence[Image], raw: Path, size: int, fit: Fit, limits: Limits, *, thumbnails: bool = True
) -> list[Ready]:
    """The images, in their order; those that the memo lacks are read and decoded.

    Args:
        images: of the manifest of `raw`.
        raw: the folder with the shards.
        size: pixels of a side.
        fit: as for `scaling.resize`.
        limits: those of ingest.
        thumbnails: whether near duplicates are looked for; one takes about a tenth of the time of a small image.

    Raises:
        DataError: an image cannot be decoded.
        ArtifactError: a shard has changed, or an image decodes otherwise than ingest saw it.
    """
    fixed = _circumstances(size, fit, limits)
    shapes = [f"{image.width} {image.height} {image.channels}" for image in images]
    keys = [cache.key(KIND, *fixed, image.sha256, shape) for image, shape in zip(images, shapes, strict=True)]
    known = cache.get(keys)
    found: list[Ready] = []
    fresh: list[tuple[str, str, bytes]] = []
    for image, key in zip(images, keys, strict=True):
        one = _unpacked(known[key], size, image.channels, thumbnails) if key in known else None
        if one is None:
            one = _made(image, raw, size, fit, limits, thumbnails)
            fresh.append((key, image.sha256, _packed(one)))
        found.append(one)
    cache.put(fresh, KIND)
    return found


def brightness(pixels: Pixels) -> float:
    """The mean of the grey image (Rec. 601 luma) as it came, nothing cut off or added: 0 (black) to 1 (white)."""
    return _brightness(shades(pixels))


@functools.cache
def _circumstances(size: int, fit: Fit, limits: Limits) -> list[str]:
    return [str(size), fit, str(astuple(limits)), code_digest(__name__), *decoders()]


def _made(image: Image, raw: Path, size: int, fit: Fit, limits: Limits, thumbnails: bool) -> Ready:
    data = read_member(raw, image.shard, image.offset, image.bytes, image.sha256)
    try:
        made = prepare(data, limits, size, fit)
    except DataError as error:
        raise DataError(f"{image.key} ({image.sha256}): {error}; ingest accepted it: run ingest again") from None
    found = (made.height, made.width, made.pixels.shape[2])
    if found != (image.height, image.width, image.channels):
        raise ArtifactError(
            f"{image.key} ({image.sha256}): decodes as {found}, ingest saw "
            f"{(image.height, image.width, image.channels)}; run ingest again with this version of Pillow"
        )
    # Whole numbers, so that the order in which images are added up cannot change the last digit.
    counts = histogram(made.pixels)
    grey = made.upright.convert("L")
    small = thumbnail_of(grey) if thumbnails else None
    light = _brightness(grey)
    return Ready(made.pixels, content_of(made.pixels), small, light, counts @ _LEVELS, counts @ _LEVELS**2)


def _brightness(grey: Pillow.Image) -> float:
    # Whole numbers, so that nothing but the picture decides the last digit.
    total = int(np.array(grey.histogram(), np.int64) @ _LEVELS)
    return float(total / (255 * grey.width * grey.height))


def _packed(one: Ready) -> bytes:
    numbers = bytes.fromhex(one.content) + np.float64(one.brightness).tobytes()
    small = b"" if one.thumbnail is None else one.thumbnail.tobytes()
    return b"".join((numbers, one.values.tobytes(), one.squares.tobytes(), small, one.pixels.tobytes()))


def _unpacked(value: bytes, size: int, channels: int, thumbnails: bool) -> Ready | None:
    """What `ready` kept, whose length tells whether a thumbnail is in it; None if it is something else, or if one is
    wanted that is not there.
    """
    bare = _DIGEST + _NUMBER * (1 + 2 * channels)
    count = size * size * channels
    if len(value) != bare + _THUMBNAIL + count and (thumbnails or len(value) != bare + count):
        return None
    sums = np.frombuffer(value, np.int64, 2 * channels, _DIGEST + _NUMBER)
    small = np.frombuffer(value, np.float16, SIDE * SIDE, bare).reshape(SIDE, SIDE) if thumbnails else None
    pixels = np.frombuffer(value, np.uint8, offset=len(value) - count).reshape(size, size, channels)
    seen = float(np.frombuffer(value, np.float64, 1, _DIGEST)[0])
    return Ready(pixels, value[:_DIGEST].hex(), small, seen, sums[:channels], sums[channels:])
