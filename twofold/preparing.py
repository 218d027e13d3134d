"""One image made ready: from the file in its shard to the pixels that are trained on, and what else is seen on the way.

In: images of the manifest, and how they are resized. Out: for each its pixels and its thumbnail. The memo keeps both
under the file's content and everything else that they depend on, so an image that was prepared is not decoded again.
"""

from collections.abc import Sequence
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from twofold import memo
from twofold.errors import ArtifactError, DataError
from twofold.images import Fit, Limits, Pixels, decode, resize
from twofold.imports import code_digest
from twofold.near import SIDE, Thumbnails, thumbnail
from twofold.raw import Image, read_member
from twofold.seen import decoders

KIND = "pixels"
_THUMBNAIL = 2 * SIDE * SIDE  # bytes


class Ready(NamedTuple):
    """An image's `pixels`, (S, S, C) uint8 with C 1 or 3, and the thumbnail by which near duplicates are found."""

    pixels: Pixels
    thumbnail: Thumbnails


def ready(images: Sequence[Image], raw: Path, size: int, fit: Fit, limits: Limits) -> list[Ready]:
    """The images, in their order; those that the memo lacks are read and decoded.

    Args:
        images: of the manifest of `raw`.
        raw: the folder with the shards.
        size: pixels of a side.
        fit: as for `images.resize`.
        limits: those of ingest.

    Raises:
        DataError: an image cannot be decoded.
        ArtifactError: a shard has changed, or an image decodes otherwise than ingest saw it.
    """
    fixed = _circumstances(size, fit, limits)
    shapes = [f"{image.width} {image.height} {image.channels}" for image in images]
    keys = [memo.key(KIND, *fixed, image.sha256, shape) for image, shape in zip(images, shapes, strict=True)]
    known = memo.get(keys)
    found: list[Ready] = []
    fresh: list[tuple[str, str, bytes]] = []
    for image, key in zip(images, keys, strict=True):
        one = _unpacked(known[key], size, image.channels) if key in known else None
        if one is None:
            one = _made(image, raw, size, fit, limits)
            fresh.append((key, image.sha256, one.thumbnail.tobytes() + one.pixels.tobytes()))
        found.append(one)
    memo.put(fresh, KIND)
    return found


@cache
def _circumstances(size: int, fit: Fit, limits: Limits) -> list[str]:
    return [str(size), fit, str(astuple(limits)), code_digest(__name__), *decoders()]


def _made(image: Image, raw: Path, size: int, fit: Fit, limits: Limits) -> Ready:
    data = read_member(raw, image.shard, image.offset, image.bytes, image.sha256)
    try:
        decoded = decode(data, limits).pixels
    except DataError as error:
        raise DataError(f"{image.key} ({image.sha256}): {error}; ingest accepted it: run ingest again") from None
    if decoded.shape != (image.height, image.width, image.channels):
        raise ArtifactError(
            f"{image.key} ({image.sha256}): decodes as {decoded.shape}, ingest saw "
            f"{(image.height, image.width, image.channels)}; run ingest again with this version of Pillow"
        )
    return Ready(resize(decoded, size, fit), thumbnail(decoded))


def _unpacked(value: bytes, size: int, channels: int) -> Ready | None:
    """What `ready` kept; None if it is something else."""
    if len(value) != _THUMBNAIL + size * size * channels:
        return None
    small = np.frombuffer(value, np.float16, SIDE * SIDE).reshape(SIDE, SIDE)
    return Ready(np.frombuffer(value, np.uint8, offset=_THUMBNAIL).reshape(size, size, channels), small)
