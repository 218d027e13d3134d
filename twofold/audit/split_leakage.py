"""Leaks between the splits, and what else near duplicates and groups tell of them.

In: images with their splits, and the pairs of them that nearly repeat each other. Out: the checks of preprocess's
audit, and which images are left out for them.

Nothing is ever moved to another split. Of two images that repeat each other across splits the one that is held back
further from training stays: test before validation before train. Along a chain of repeats only images that stay count:
where test ~ validation ~ train, the image of validation is left out, and then nothing speaks against the one of train.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from twofold.audit.checks import Check, Issue, Policy
from twofold.audit.near_duplicates import NearDuplicate
from twofold.data.raw import ImageRecord
from twofold.data.splits import RANK, SPLITS, ExcludedImage

VALUES = 20  # of a slice, the most frequent ones, in the page's table
TITLES = {
    "leaks": (
        "The same picture in two splits",
        "An image of train or validation that shows the same picture as one of test, or an image of train as one of "
        "validation: as it is, resized, encoded anew, brighter or darker, flipped or turned. Test figures that count "
        "such images are too good. Two parts that look the same in every detail are found too, and as harmful. Left "
        "out is the one that is held back less; nothing is moved.",
    ),
    "groups": (
        "A group in two splits",
        "Images of one group (a patient, a part, a module) in more than one split, which only given splits can do. The "
        "model then meets in the test what it knows from training. Left out are those that are held back less.",
    ),
    "label_conflicts": (
        "The same picture under both labels",
        "Two images that nearly repeat each other and stand under different labels: one of the labels is wrong, or the "
        "difference between the classes is smaller than what a thumbnail of 32 pixels shows.",
    ),
    "near_duplicates": (
        "The same picture twice in a split",
        "Two images of one split that show the same picture. They count twice, in training or in a figure.",
    ),
}


class LeakageResult(NamedTuple):
    """The checks, and what is left out for them, by place."""

    checks: list[Check]
    left_out: dict[int, ExcludedImage]


def exact_duplicate_issues(
    images: Sequence[ImageRecord], splits: Sequence[str], left_out: Mapping[int, ExcludedImage]
) -> tuple[list[Issue], list[Issue]]:
    """The findings of what `splits.repeats` left out: (across splits, within one)."""
    place_of = {image.sha256: place for place, image in enumerate(images)}
    across: list[Issue] = []
    within: list[Issue] = []
    for place, row in sorted(left_out.items()):
        of = place_of[row.of]
        detail = f"{row.reason}, {images[of].key}; left out"
        found = Issue("", row.sha256, row.key, images[place].label, row.split, detail, row.of, 1.0)
        if splits[of] == row.split:
            within.append(found._replace(check="near_duplicates"))
        else:
            across.append(found._replace(check="leaks"))
    return across, within


def group_issues(
    images: Sequence[ImageRecord], splits: Sequence[str], places: Iterable[int], policy: Policy
) -> LeakageResult:
    """Groups in several splits.

    Args:
        images: all of them.
        splits: of each.
        places: of those that are still in.
        policy: with `quarantine` the images of the less held-back splits are left out.
    """
    held: dict[str, str] = {}
    of_groups = [place for place in places if images[place].group is not None]
    for place in of_groups:
        group, split = str(images[place].group), splits[place]
        held[group] = min(held.get(group, split), split, key=RANK.__getitem__)
    found: list[Issue] = []
    out: dict[int, ExcludedImage] = {}
    for place in of_groups if policy != "ignore" else ():
        image, split = images[place], splits[place]
        furthest = held[str(image.group)]
        if split == furthest:
            continue
        reason = f"its group {image.group} is in {furthest} too"
        found.append(Issue("groups", image.sha256, image.key, image.label, split, reason))
        if policy == "quarantine":
            out[place] = ExcludedImage(image.sha256, image.key, split, reason, "")
    found.sort(key=lambda row: (row.detail, row.key))
    return LeakageResult([Check("groups", policy, *TITLES["groups"], found)], out)


def near_duplicate_issues(
    images: Sequence[ImageRecord], splits: Sequence[str], pairs: Sequence[NearDuplicate], policies: Mapping[str, Policy]
) -> LeakageResult:
    """Near duplicates: under both labels, across splits, within one.

    Args:
        images: those that are still in.
        splits: of each.
        pairs: of places among them.
        policies: of `label_conflicts`, `leaks` and `near_duplicates`.
    """
    found: dict[str, list[Issue]] = {name: [] for name in ("leaks", "label_conflicts", "near_duplicates")}
    out: dict[int, ExcludedImage] = {}

    def note(check: str, place: int, other: int, pair: NearDuplicate) -> None:
        image, of = images[place], images[other]
        seen = f"correlation {pair.similarity:.3f}" + ("" if pair.turn == "as it is" else f", {pair.turn}")
        detail = f"nearly repeats {of.key} ({of.label}, {splits[other]}): {seen}"
        row = Issue(check, image.sha256, image.key, image.label, splits[place], detail, of.sha256, pair.similarity)
        found[check].append(row)
        if policies[check] == "quarantine" and place not in out:
            reason = f"nearly the same picture as an image of {splits[other]}"
            out[place] = ExcludedImage(image.sha256, image.key, splits[place], reason, of.sha256)

    if policies["label_conflicts"] != "ignore":
        torn = [pair for pair in pairs if images[pair.first].label != images[pair.second].label]
        for pair in sorted(torn, key=lambda pair: (-pair.similarity, pair)):
            note("label_conflicts", pair.first, pair.second, pair)
            if policies["label_conflicts"] == "quarantine":
                one, of = images[pair.second], images[pair.first]
                reason = f"nearly the same picture as an image of {of.label}"
                out.setdefault(pair.second, ExcludedImage(one.sha256, one.key, splits[pair.second], reason, of.sha256))
    partners: dict[int, list[NearDuplicate]] = {}
    for pair in pairs:
        partners.setdefault(pair.first, []).append(pair)
        partners.setdefault(pair.second, []).append(pair)
    # From the most held-back split on, so that what an image is compared with is decided already.
    for place in sorted(partners, key=lambda place: (RANK[splits[place]], images[place].sha256)):
        here = (RANK[splits[place]], images[place].sha256)
        before = [
            (pair, other)
            for pair in partners[place]
            for other in (pair.first + pair.second - place,)
            if other not in out and (RANK[splits[other]], images[other].sha256) < here
        ]
        if not before:
            continue
        pair, other = min(before, key=lambda one: (RANK[splits[one[1]]], -one[0].similarity, images[one[1]].sha256))
        check = "near_duplicates" if splits[other] == splits[place] else "leaks"
        if policies[check] != "ignore" and place not in out:
            note(check, place, other, pair)
    for rows in found.values():
        rows.sort(key=lambda row: (-(row.value or 0), row.key))
    return LeakageResult([Check(name, policies[name], *TITLES[name], rows) for name, rows in found.items()], out)


def split_statistics(
    images: Sequence[ImageRecord], splits: Sequence[str], classes: Sequence[str], slices: Sequence[str]
) -> dict[str, Any]:
    """What the audit's page shows of the splits: images of each class, groups, and images of each slice.

    Args:
        images: that are left.
        splits: of each.
        classes: the negative one, then the positive one.
        slices: names of the slice columns.
    """
    table: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        inside = [image for image, name in zip(images, splits, strict=True) if name == split]
        row: dict[str, Any] = {label: sum(image.label == label for image in inside) for label in classes}
        row["images"] = len(inside)
        row[f"share of {classes[-1]}"] = f"{row[classes[-1]] / max(1, len(inside)):.1%}"
        row["groups"] = len({image.group for image in inside if image.group is not None})
        table[split] = row
    found: dict[str, Any] = {"Images of each class in the splits, after leaving out": table}
    for number, name in enumerate(slices):
        counts = Counter((image.slices[number], split) for image, split in zip(images, splits, strict=True))
        values = Counter(image.slices[number] for image in images)
        # A value that a split lacks is trained without being judged, or judged without being trained.
        found[f"Images of each {name} in the splits"] = {
            value or "none": {split: counts[value, split] for split in SPLITS}
            for value in sorted(values, key=lambda value: (-values[value], value or ""))[:VALUES]
        }
    return found
