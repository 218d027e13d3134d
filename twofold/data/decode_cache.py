"""What is learnt of a file by decoding it, learnt once.

In: the bytes of image files, and the limits. Out: for each what its pixels are, or why it is refused. The memo keeps
that under the file's content, the limits, the code and the decoders, so a file that was seen is not decoded again.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple
from typing import NamedTuple

import numpy as np
import PIL
from PIL import features

from twofold.core.code_digest import code_digest
from twofold.core.errors import DataError
from twofold.data.decoding import Decoded, Limits, decode
from twofold.data.image_statistics import ImageStatistics, image_statistics
from twofold.data.resizing import Pixels
from twofold.storage import cache

KIND = "decoded"
_LIBRARIES = ("libjpeg_turbo", "jpg", "jpg_2000", "zlib", "libtiff", "webp")


class DecodedFile(NamedTuple):
    """A file as its decoder saw it.

    Attributes:
        sha256: of the file; empty if only its beginning was read.
        reason: why it is refused; then nothing below is known.
        content: see `content_of`.
        width, height: pixels, upright.
        channels: 1 or 3.
        mode, format: as Pillow names the file's.
        look: what an audit judges it by.
    """

    sha256: str
    reason: str = ""
    content: str = ""
    width: int = 0
    height: int = 0
    channels: int = 0
    mode: str = ""
    format: str = ""
    look: ImageStatistics = ImageStatistics()


def decode_cached(files: Sequence[bytes], limits: Limits) -> list[DecodedFile]:
    """What they are, in their order; those that the memo does not know are decoded."""
    digests, keys = _names(files, limits)
    found: list[DecodedFile] = []
    fresh: list[tuple[str, str, bytes]] = []
    for data, sha256, key, known in zip(files, digests, keys, _known(digests, keys), strict=True):
        one = known or _decoded(data, sha256, limits)
        if known is None and key:
            fresh.append((key, sha256, json.dumps(one).encode()))
        found.append(one)
    cache.store(fresh, KIND)
    return found


def cached(files: Sequence[bytes], limits: Limits) -> list[DecodedFile | None]:
    """What the memo knows of the files, in their order; nothing is decoded."""
    return _known(*_names(files, limits))


def decoder_versions() -> list[str]:
    """Pillow's version and those of the libraries that it decodes with."""
    built = [f"{name} {features.version(name)}" for name in _LIBRARIES if features.check(name)]
    return [f"Pillow {PIL.__version__}", *built]


def pixel_digest(pixels: Pixels) -> str:
    """SHA-256 over the shape and the values of (H, W, C) uint8 pixels: the same for the same picture alone."""
    height, width, channels = pixels.shape
    content = hashlib.sha256(f"{height} {width} {channels}\n".encode())
    content.update(np.ascontiguousarray(pixels).data)
    return content.hexdigest()


def _names(files: Sequence[bytes], limits: Limits) -> tuple[list[str], list[str]]:
    """The SHA-256 of each file, and its key in the memo; of a file over the limit, of which only the beginning was
    read, neither.
    """
    digests = [hashlib.sha256(data).hexdigest() if len(data) <= limits.max_bytes else "" for data in files]
    return digests, [cache.key(KIND, sha256, *_circumstances(limits)) if sha256 else "" for sha256 in digests]


def _known(digests: Sequence[str], keys: Sequence[str]) -> list[DecodedFile | None]:
    values = cache.lookup([key for key in keys if key])
    return [_parsed(values[key], sha256) if key in values else None for sha256, key in zip(digests, keys, strict=True)]


def _decoded(data: bytes, sha256: str, limits: Limits) -> DecodedFile:
    try:
        return _seen(decode(data, limits), sha256, data)
    except DataError as error:
        return DecodedFile(sha256, str(error))


def _seen(decoded: Decoded, sha256: str, data: bytes) -> DecodedFile:
    height, width, channels = decoded.pixels.shape
    content, figures = pixel_digest(decoded.pixels), image_statistics(decoded.pixels, data)
    return DecodedFile(sha256, "", content, width, height, channels, decoded.mode, decoded.format, figures)


def _parsed(value: bytes, sha256: str) -> DecodedFile | None:
    """What `see` kept of this file; None if it is something else."""
    try:
        one = DecodedFile._make(json.loads(value))
        one = one._replace(look=ImageStatistics._make(one.look))
    except (ValueError, TypeError, RecursionError):
        return None
    return one if one.sha256 == sha256 and _typed(one) and _typed(one.look) else None


def _typed(values: DecodedFile | ImageStatistics) -> bool:
    return [*map(type, values)] == [*type(values).__annotations__.values()]


@functools.cache
def _circumstances(limits: Limits) -> list[str]:
    return [str(astuple(limits)), code_digest(__name__), *decoder_versions()]
