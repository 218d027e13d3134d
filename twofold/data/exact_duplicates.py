"""Decides which of several files with the same pixels is kept, and which files contradict each other.

Takes one record for each accepted file; returns one image for each SHA-256, the list of duplicates, and the sets of
files that have the same pixels and different labels.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from twofold.data.raw import PRECEDENCE, Duplicate, ImageRecord


class Deduplicated(NamedTuple):
    """Every file, in one of three lists: kept, a duplicate of a kept one, or in a set with both labels."""

    images: list[ImageRecord]
    duplicates: list[Duplicate]
    conflicts: list[list[ImageRecord]]


def deduplicate(copies: Sequence[ImageRecord]) -> Deduplicated:
    """Keep one image for each SHA-256.

    Files with different bytes and the same pixels all stay: preprocess excludes the duplicates, as it knows the splits.
    If the same pixels occur under both labels, no file of them stays.
    """
    by_content: dict[str, list[ImageRecord]] = defaultdict(list)
    for image in copies:
        by_content[image.content].append(image)
    result = Deduplicated([], [], [])
    for same_pixels in by_content.values():
        if len({image.label for image in same_pixels}) > 1:
            result.conflicts.append(same_pixels)
            continue
        by_file: dict[str, list[ImageRecord]] = defaultdict(list)
        for image in sorted(same_pixels, key=_precedence):
            by_file[image.sha256].append(image)
        kept = [files[0] for files in by_file.values()]
        result.images.extend(kept)
        result.duplicates.extend(
            _duplicate(image, files[0], "bytes") for files in by_file.values() for image in files[1:]
        )
        result.duplicates.extend(_duplicate(image, kept[0], "pixels") for image in kept[1:])
    return result


def _precedence(image: ImageRecord) -> tuple[int, str, tuple[str, ...], str]:
    return PRECEDENCE[image.split], image.group or "", tuple(value or "" for value in image.slices), image.key


def _duplicate(image: ImageRecord, of: ImageRecord, kind: str) -> Duplicate:
    return Duplicate(image.key, image.sha256, kind, of.key, of.sha256, image.label)
