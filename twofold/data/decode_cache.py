"""Decodes image files and caches the result, so that no file is decoded twice.

Takes the bytes of image files and the limits; returns for each file the properties of its pixels, or why it is refused.
The cache key covers the file's content, the limits, the code and the versions of the decoders.
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
from twofold.data.decoding import Limits, decode
from twofold.data.image_statistics import ImageStatistics, image_statistics
from twofold.data.resizing import Pixels
from twofold.storage import cache

KIND = "decoded"
_LIBRARIES = ("libjpeg_turbo", "jpg", "jpg_2000", "zlib", "libtiff", "webp")


class DecodedFile(NamedTuple):
    """What decoding a file found; if it is refused, all fields after `reason` are empty."""

    sha256: str  # of the file; empty if it is over the size limit, because then only its beginning was read
    reason: str = ""  # why the file is refused
    content: str = ""  # `pixel_digest` of the decoded pixels
    width: int = 0  # upright
    height: int = 0
    channels: int = 0  # 1 or 3
    mode: str = ""  # Pillow's name
    format: str = ""  # Pillow's name
    statistics: ImageStatistics = ImageStatistics()  # for the audit


def decode_cached(files: Sequence[bytes], limits: Limits) -> list[DecodedFile]:
    """The result for each file, in their order; files that the cache lacks are decoded."""
    names = _digests_and_keys(files, limits)
    results: list[DecodedFile] = []
    fresh: list[tuple[str, str, bytes]] = []
    for data, (sha256, key), stored in zip(files, names, _lookup(names), strict=True):
        result = stored or _decode(data, sha256, limits)
        if stored is None and key:
            fresh.append((key, sha256, json.dumps(result).encode()))
        results.append(result)
    cache.store(fresh, KIND)
    return results


def cached(files: Sequence[bytes], limits: Limits) -> list[DecodedFile | None]:
    """The cached result for each file, in their order, or None; decodes nothing."""
    return _lookup(_digests_and_keys(files, limits))


def decoder_versions() -> list[str]:
    """The versions of Pillow and of the libraries that it decodes with."""
    libraries = [f"{name} {features.version(name)}" for name in _LIBRARIES if features.check(name)]
    return [f"Pillow {PIL.__version__}", *libraries]


def pixel_digest(pixels: Pixels) -> str:
    """SHA-256 over the shape and the values of (H, W, C) uint8 pixels: equal exactly for equal pictures."""
    height, width, channels = pixels.shape
    content = hashlib.sha256(f"{height} {width} {channels}\n".encode())
    content.update(np.ascontiguousarray(pixels).data)
    return content.hexdigest()


def _digests_and_keys(files: Sequence[bytes], limits: Limits) -> list[tuple[str, str]]:
    """(SHA-256, cache key) of each file; both are empty for a file over the size limit, which was not read in full."""
    digests = [hashlib.sha256(data).hexdigest() if len(data) <= limits.max_bytes else "" for data in files]
    return [(sha256, cache.key(KIND, sha256, *_key_parts(limits)) if sha256 else "") for sha256 in digests]


def _lookup(names: Sequence[tuple[str, str]]) -> list[DecodedFile | None]:
    values = cache.lookup([key for _, key in names if key])
    return [_parse(values[key], sha256) if key in values else None for sha256, key in names]


def _decode(data: bytes, sha256: str, limits: Limits) -> DecodedFile:
    try:
        pixels, _, _, mode, kind = decode(data, limits)
    except DataError as error:
        return DecodedFile(sha256, str(error))
    height, width, channels = pixels.shape
    statistics = image_statistics(pixels, data)
    return DecodedFile(sha256, "", pixel_digest(pixels), width, height, channels, mode, kind, statistics)


def _parse(value: bytes, sha256: str) -> DecodedFile | None:
    """The cached result of this file; None if the value is anything else."""
    try:
        result = DecodedFile._make(json.loads(value))
        result = result._replace(statistics=ImageStatistics._make(result.statistics))
    except (ValueError, TypeError, RecursionError):
        return None
    return result if result.sha256 == sha256 and _has_types(result) and _has_types(result.statistics) else None


def _has_types(values: DecodedFile | ImageStatistics) -> bool:
    return [*map(type, values)] == [*type(values).__annotations__.values()]


@functools.cache
def _key_parts(limits: Limits) -> list[str]:
    return [str(astuple(limits)), code_digest(__name__), *decoder_versions()]
