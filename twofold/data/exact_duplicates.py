"""Files that show the same picture: which of them is kept, and which contradict each other.

In: an image for every file that was accepted. Out: one image for every SHA-256, what repeats what, and the sets of
files that show one picture and have both labels.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from twofold.data.raw import Duplicate, ImageRecord

# Where copies of one image were given to several splits, the one that is held back furthest from training counts.
_RANK = {"test": 0, "validation": 1, "train": 2, None: 3}


class Deduplicated(NamedTuple):
    """Every file, in one of three lists: kept, a repeat of a kept one, or in a set with both labels."""

    images: list[ImageRecord]
    duplicates: list[Duplicate]
    torn: list[list[ImageRecord]]


def deduplicate(copies: Sequence[ImageRecord]) -> Deduplicated:
    """One image for every SHA-256.

    Files that differ but show the same pixels all stay; preprocess leaves the repeats out, as it knows the splits. Of a
    content that stands under both labels nothing stays.
    """
    by_content: dict[str, list[ImageRecord]] = defaultdict(list)
    for image in copies:
        by_content[image.content].append(image)
    found = Deduplicated([], [], [])
    for same in by_content.values():
        if len({image.label for image in same}) > 1:
            found.torn.append(same)
            continue
        by_file: dict[str, list[ImageRecord]] = defaultdict(list)
        for image in sorted(same, key=_precedence):
            by_file[image.sha256].append(image)
        kept = [files[0] for files in by_file.values()]
        found.images.extend(kept)
        found.duplicates.extend(
            _duplicate(image, files[0], "bytes") for files in by_file.values() for image in files[1:]
        )
        found.duplicates.extend(_duplicate(image, kept[0], "pixels") for image in kept[1:])
    return found


def _precedence(image: ImageRecord) -> tuple[int, str, tuple[str, ...], str]:
    return _RANK[image.split], image.group or "", tuple(value or "" for value in image.slices), image.key


def _duplicate(image: ImageRecord, of: ImageRecord, kind: str) -> Duplicate:
    return Duplicate(image.key, image.sha256, kind, of.key, of.sha256, image.label)
