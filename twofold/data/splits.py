"""Assigns images to train, validation and test, and finds exact duplicates to exclude.

Takes the records of the manifest; returns a split for each image, and the images to exclude.

The split of an image depends only on the image (or its group), the two fractions and the salt, so new data never moves
an old image. The test split is drawn first, so another validation fraction does not change it.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from twofold.core.errors import DataError
from twofold.data.raw import PRECEDENCE, ImageRecord

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)


class ExcludedImage(NamedTuple):
    """A row of `left_out.csv`: the image, its split, why it is excluded, and the SHA-256 of the image it repeats."""

    sha256: str
    key: str
    split: str
    reason: str
    of: str


def assign_splits(images: Sequence[ImageRecord], *, test: float, validation: float, salt: str) -> list[str]:
    """The split of each image: the given one, otherwise drawn from the hash of its group or of its content.

    Args:
        images: of the manifest; the split of one does not depend on the others.
        test: expected fraction of images in test, 0 to 1.
        validation: expected fraction of all images in validation; test + validation < 1.
        salt: another salt draws other splits.

    Raises:
        DataError: some images came with a split and some without.
    """
    given = sum(image.split is not None for image in images)
    if 0 < given < len(images):
        raise DataError(f"{given} of {len(images)} images came with a split; give it for all of them or for none")
    return [image.split or _draw_split(image, test, validation, salt) for image in images]


def find_repeats(images: Sequence[ImageRecord], splits: Sequence[str]) -> dict[int, ExcludedImage]:
    """The images to exclude, by index in `images`, because an image that stays has the same pixels.

    A duplicate of a test image in train or validation would be split leakage, and a duplicate within a split would
    count twice. No image is moved to another split.
    """
    kept: dict[str, int] = {}
    excluded: dict[int, ExcludedImage] = {}
    for number in sorted(range(len(images)), key=lambda n: (PRECEDENCE[splits[n]], images[n].sha256)):
        image = images[number]
        first = kept.setdefault(image.content, number)
        if first != number:
            reason = f"same pixels as an image of {splits[first]}"
            excluded[number] = ExcludedImage(image.sha256, image.key, splits[number], reason, images[first].sha256)
    return excluded


def count_split_groups(images: Sequence[ImageRecord], splits: Sequence[str]) -> int:
    """The number of groups with images in more than one split, which only given splits allow."""
    splits_of: dict[str, set[str]] = {}
    for image, split in zip(images, splits, strict=True):
        if image.group is not None:
            splits_of.setdefault(image.group, set()).add(split)
    return sum(len(found) > 1 for found in splits_of.values())


def check_splits(
    images: Sequence[ImageRecord], splits: Sequence[str], classes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """The number of images, {split: {class: count}}; raises DataError if a split lacks a class."""
    pairs = list(zip(splits, (image.label for image in images), strict=True))
    counts = {split: {label: pairs.count((split, label)) for label in classes} for split in SPLITS}
    lacking = [split for split, row in counts.items() if 0 in row.values()]
    if lacking:
        rows = {split: ", ".join(f"{count} {label}" for label, count in row.items()) for split, row in counts.items()}
        table = "; ".join(f"{split}: {row}" for split, row in rows.items())
        raise DataError(f"every split needs both classes, found {table}; {_advise(images, lacking, classes)}")
    return counts


def _advise(images: Sequence[ImageRecord], lacking: Sequence[str], classes: Sequence[str]) -> str:
    if any(image.split for image in images):
        return f"the splits are given, by folders or a split column; put both classes into {' and '.join(lacking)}"
    units = {name: {i.group or i.sha256 for i in images if i.label == name} for name in classes}
    few = min(classes, key=lambda name: len(units[name]))
    if len(units[few]) < len(SPLITS):
        what = "groups, which are never divided between splits" if any(image.group for image in images) else "images"
        return f"{few} has {len(units[few])} {what}; at least {len(SPLITS)} are needed"
    shares = [f"raise preprocess.{split}_fraction" for split in (TEST, VALIDATION) if split in lacking]
    return f"add images, {' and '.join(shares) or 'lower both fractions'}, or give a split column in labels.csv"


def _draw_split(image: ImageRecord, test: float, validation: float, salt: str) -> str:
    token = f"group {image.group}" if image.group is not None else f"content {image.sha256}"
    if _to_unit_interval(f"{salt}\0{TEST}\0{token}") < test:
        return TEST
    # This fraction of the images outside test is `validation` of all images.
    is_validation = _to_unit_interval(f"{salt}\0{VALIDATION}\0{token}") < validation / (1 - test)
    return VALIDATION if is_validation else TRAIN


def _to_unit_interval(text: str) -> float:
    """A hash in [0, 1), uniform over texts."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48
