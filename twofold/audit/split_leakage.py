"""Finds split leakage: near duplicates and groups across train, validation and test.

Takes images with their splits, and the pairs of near duplicates among them; returns the checks of preprocess's audit,
and the images to exclude.

No image is moved to another split. Of two duplicates across splits the one furthest from training stays: test before
validation before train. Along a chain of duplicates only images that stay count: where test ~ validation ~ train, the
image of validation is excluded, and then the image of train has no reason to be.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from twofold.audit.checks import Check, Issue, Policy
from twofold.audit.near_duplicates import NearDuplicate
from twofold.data.raw import PRECEDENCE, ImageRecord
from twofold.data.splits import SPLITS, ExcludedImage

VALUES = 20  # of a slice, the most frequent ones, in the page's table
TITLES = {
    "leaks": (
        "Split leakage",
        "An image of train or validation is a duplicate of one in test, or an image of train of one in validation: the "
        "same picture, possibly resized, encoded again, brighter or darker, flipped or rotated. Then test metrics are "
        "too good. Two parts that look the same in every detail are also found, and do the same harm. With quarantine "
        "the image closer to training is left out; no image is moved to another split.",
    ),
    "groups": (
        "Group leakage",
        "Images of one group (a patient, a part, a module) are in more than one split, which only given splits "
        "allow. The model then meets in the test what it knows from training. With quarantine the images closer to "
        "training are left out.",
    ),
    "label_conflicts": (
        "Conflicting labels of near duplicates",
        "Two near duplicates have different labels: one of the labels is wrong, or the classes differ in "
        "something too small to show in a thumbnail of 32 pixels.",
    ),
    "near_duplicates": (
        "Near duplicates",
        "Two images of one split show the same picture, so it counts twice in training or in a metric.",
    ),
}


class LeakageResult(NamedTuple):
    """Checks, and the images to exclude by their policies, by index."""

    checks: list[Check]
    left_out: dict[int, ExcludedImage]


def exact_duplicate_issues(
    images: Sequence[ImageRecord], splits: Sequence[str], left_out: Mapping[int, ExcludedImage]
) -> tuple[list[Issue], list[Issue]]:
    """The issues of the images that `find_repeats` excluded: (across splits, within a split)."""
    index_of = {image.sha256: index for index, image in enumerate(images)}
    across: list[Issue] = []
    within: list[Issue] = []
    for index, row in sorted(left_out.items()):
        of = index_of[row.of]
        check, issues = ("near_duplicates", within) if splits[of] == row.split else ("leaks", across)
        detail = f"{row.reason}, {images[of].key}; left out"
        issues.append(Issue(check, row.sha256, row.key, images[index].label, row.split, detail, row.of, 1.0))
    return across, within


def group_issues(
    images: Sequence[ImageRecord], splits: Sequence[str], places: Iterable[int], policy: Policy
) -> LeakageResult:
    """Groups with images in several splits.

    Args:
        places: indices of the images that are not excluded yet.
        policy: with `quarantine` the images in splits closer to training are excluded.
    """
    grouped = [(index, str(images[index].group)) for index in places if images[index].group is not None]
    furthest: dict[str, str] = {}  # the split of each group that is furthest from training
    for index, group in grouped:
        furthest[group] = min(furthest.get(group, splits[index]), splits[index], key=PRECEDENCE.__getitem__)
    issues: list[Issue] = []
    excluded: dict[int, ExcludedImage] = {}
    for index, group in grouped if policy != "ignore" else ():
        image, split = images[index], splits[index]
        if split != furthest[group]:
            reason = f"its group {group} is in {furthest[group]} too"
            issues.append(Issue("groups", image.sha256, image.key, image.label, split, reason))
            if policy == "quarantine":
                excluded[index] = ExcludedImage(image.sha256, image.key, split, reason, "")
    issues.sort(key=lambda issue: (issue.detail, issue.key))
    return LeakageResult([Check("groups", policy, *TITLES["groups"], issues)], excluded)


def near_duplicate_issues(
    images: Sequence[ImageRecord], splits: Sequence[str], pairs: Sequence[NearDuplicate], policies: Mapping[str, Policy]
) -> LeakageResult:
    """Near duplicates with different labels, across splits, and within a split.

    Args:
        images: those that are not excluded yet.
        pairs: of indices of `images`.
        policies: of `label_conflicts`, `leaks` and `near_duplicates`.
    """
    found: dict[str, list[Issue]] = {name: [] for name in ("leaks", "label_conflicts", "near_duplicates")}
    excluded: dict[int, ExcludedImage] = {}

    def exclude(index: int, other: int, which: str) -> None:
        image, reason = images[index], f"nearly the same picture as an image of {which}"
        excluded.setdefault(index, ExcludedImage(image.sha256, image.key, splits[index], reason, images[other].sha256))

    def report(check: str, index: int, other: int, pair: NearDuplicate) -> None:
        image, of = images[index], images[other]
        match = f"correlation {pair.similarity:.3f}" + ("" if pair.turn == "as it is" else f", {pair.turn}")
        detail = f"near duplicate of {of.key} ({of.label}, {splits[other]}): {match}"
        row = Issue(check, image.sha256, image.key, image.label, splits[index], detail, of.sha256, pair.similarity)
        found[check].append(row)
        if policies[check] == "quarantine":
            exclude(index, other, splits[other])

    def rank(index: int) -> tuple[int, str]:
        return PRECEDENCE[splits[index]], images[index].sha256

    if policies["label_conflicts"] != "ignore":
        conflicts = [pair for pair in pairs if images[pair.first].label != images[pair.second].label]
        for pair in sorted(conflicts, key=lambda pair: (-pair.similarity, pair)):
            report("label_conflicts", pair.first, pair.second, pair)
            if policies["label_conflicts"] == "quarantine":
                exclude(pair.second, pair.first, images[pair.first].label)
    partners: dict[int, list[tuple[NearDuplicate, int]]] = {}
    for pair in pairs:
        partners.setdefault(pair.first, []).append((pair, pair.second))
        partners.setdefault(pair.second, []).append((pair, pair.first))
    # Starts with the split furthest from training, so that each image is compared with images already decided on.
    for index in sorted(partners, key=rank):
        kept = [(pair, other) for pair, other in partners[index] if other not in excluded and rank(other) < rank(index)]
        if not kept:
            continue
        pair, other = min(kept, key=lambda one: (PRECEDENCE[splits[one[1]]], -one[0].similarity, images[one[1]].sha256))
        check = "near_duplicates" if splits[other] == splits[index] else "leaks"
        if policies[check] != "ignore" and index not in excluded:
            report(check, index, other, pair)
    for issues in found.values():
        issues.sort(key=lambda issue: (-(issue.value or 0), issue.key))
    return LeakageResult([Check(name, policies[name], *TITLES[name], rows) for name, rows in found.items()], excluded)


def sample_names(
    images: Sequence[ImageRecord],
    splits: Sequence[str],
    pairs: Sequence[NearDuplicate],
    left_out: Iterable[int],
) -> list[str | None]:
    """The name that images share which count as one sample: of one group, or near duplicates within a split.

    Chains count as one: near duplicates join their groups. None for an image that is a sample of its own.

    Args:
        images, pairs: as in `near_duplicate_issues`.
        left_out: indices of images that join nothing, as they are excluded.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    excluded = set(left_out)
    first_of: dict[str | None, int] = {}
    links = [
        (pair.first, pair.second)
        for pair in pairs
        if splits[pair.first] == splits[pair.second] and not excluded & {pair.first, pair.second}
    ]
    links += [
        (first_of.setdefault(image.group, index), index)
        for index, image in enumerate(images)
        if image.group is not None and index not in excluded
    ]
    starts, ends = zip(*links, strict=True) if links else ((), ())
    graph = coo_array(([1] * len(links), (starts, ends)), shape=(len(images), len(images)))
    component = connected_components(graph, directed=False)[1].tolist()
    names: dict[int, str] = {}
    for image, number in sorted(zip(images, component, strict=True), key=lambda row: row[0].sha256):
        names.setdefault(number, image.group or f"near duplicates of {image.sha256}")
    sizes = Counter(component)
    return [names[number] if sizes[number] > 1 else None for number in component]


def split_statistics(
    images: Sequence[ImageRecord], splits: Sequence[str], classes: Sequence[str], slices: Sequence[str]
) -> dict[str, Any]:
    """The splits for the audit's page: images of each class, groups, and images of each slice.

    Args:
        images: those that are not excluded.
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
        # Shows a value that is missing in a split: trained on but not evaluated, or evaluated but not trained on.
        found[f"Images of each {name} in the splits"] = {
            value or "none": {split: counts[value, split] for split in SPLITS}
            for value in sorted(values, key=lambda value: (-values[value], value or ""))[:VALUES]
        }
    return found
