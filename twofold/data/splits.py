"""Which image trains, which validates, which tests; and which repeats are left out.

In: what the manifest knows of each image. Out: a split for each, and a list of those to leave out.

An image's split depends on nothing but itself (or its group), the two shares and the salt: growing the data never
moves an old image. The test bucket is drawn first, so another validation share never touches it.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from twofold.core.errors import DataError
from twofold.data.raw import ImageRecord

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
# Of images that repeat each other the one that is held back furthest from training stays.
RANK = {TEST: 0, VALIDATION: 1, TRAIN: 2}


class ExcludedImage(NamedTuple):
    """A row of `left_out.csv`: the image, the split it was drawn for, why it is not used, and what it repeats."""

    sha256: str
    key: str
    split: str
    reason: str
    of: str


def assign_splits(images: Sequence[ImageRecord], *, test: float, validation: float, salt: str) -> list[str]:
    """The split of each image: the one that it came with, else drawn by the hash of its group or of its content.

    Args:
        images: of the manifest; what is given to one of them never touches another.
        test: expected share of the test split, 0 to 1.
        validation: expected share of the validation split, of all images; test + validation < 1.
        salt: another salt draws other splits.

    Raises:
        DataError: some images came with a split and some without.
    """
    given = sum(image.split is not None for image in images)
    if 0 < given < len(images):
        raise DataError(f"{given} of {len(images)} images came with a split; give it for all of them or for none")
    return [image.split or _drawn(image, test, validation, salt) for image in images]


def find_repeats(images: Sequence[ImageRecord], splits: Sequence[str]) -> dict[int, ExcludedImage]:
    """What to leave out because it shows the same pixels as an image that stays; by place in `images`.

    An image of train or validation that repeats one of test would be a leak, and a repeat within a split would count
    twice. Nothing is ever moved.
    """
    kept: dict[str, int] = {}
    out: dict[int, ExcludedImage] = {}
    for place in sorted(range(len(images)), key=lambda n: (RANK[splits[n]], images[n].sha256)):
        image = images[place]
        first = kept.setdefault(image.content, place)
        if first != place:
            reason = f"same pixels as an image of {splits[first]}"
            out[place] = ExcludedImage(image.sha256, image.key, splits[place], reason, images[first].sha256)
    return out


def count_split_groups(images: Sequence[ImageRecord], splits: Sequence[str]) -> int:
    """How many groups have images in more than one split: 0 when drawn, maybe not when the splits were given."""
    seen: dict[str, set[str]] = {}
    for image, split in zip(images, splits, strict=True):
        if image.group is not None:
            seen.setdefault(image.group, set()).add(split)
    return sum(len(found) > 1 for found in seen.values())


def check_splits(labels: Sequence[str], splits: Sequence[str], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images of each class in each split, {split: {class: count}}.

    Raises:
        DataError: a split lacks a class.
    """
    pairs = list(zip(splits, labels, strict=True))
    counts = {split: {label: pairs.count((split, label)) for label in classes} for split in SPLITS}
    if any(count == 0 for of_split in counts.values() for count in of_split.values()):
        table = "; ".join(
            f"{split}: " + ", ".join(f"{count} {label}" for label, count in of_split.items())
            for split, of_split in counts.items()
        )
        raise DataError(
            f"every split needs both classes, found {table}; add images, raise preprocess.test_fraction or "
            "preprocess.validation_fraction, or give a split column in labels.csv"
        )
    return counts


def _drawn(image: ImageRecord, test: float, validation: float, salt: str) -> str:
    token = f"group {image.group}" if image.group is not None else f"content {image.sha256}"
    if _unit(f"{salt}\0{TEST}\0{token}") < test:
        return TEST
    # Of what is left after test this share makes `validation` of the whole.
    return VALIDATION if _unit(f"{salt}\0{VALIDATION}\0{token}") < validation / (1 - test) else TRAIN


def _unit(text: str) -> float:
    """A number in [0, 1), even over texts."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48
