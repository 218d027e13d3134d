"""The audit of ingest: all checks of the original images, before they are resized.

Takes the accepted images, their statistics, the exact duplicates, the conflicting labels and the refused files; returns
the checks, and statistics of the classes.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from statistics import median
from typing import Any, Literal

from pydantic import Field

from twofold.audit.checks import Check, Issue, Policy, PolicyOfAll
from twofold.audit.image_quality import image_quality_checks
from twofold.audit.spurious_correlations import CONFIDENCE, MARGIN, SpuriousCorrelation, find_spurious_correlations
from twofold.core.params import Section
from twofold.data.image_statistics import ImageStatistics
from twofold.data.raw import Duplicate, ImageRecord, QuarantinedFile

MINORITY = 0.1  # share of the images
NARROW = 32  # levels of 255; 12 bits in a file of 16 have 16
ROWS = 10  # of a table

_WARN = "ignore, warn, quarantine (left out), fail"
_ALL = "ignore, warn, fail"


class Audit(Section):
    """The checks of the images: a policy for each."""

    blank: Policy = Field(description=f"Images of nearly one colour: {_WARN}")
    odd_aspect: Policy = Field(description=f"Images with an unusual aspect ratio (outliers): {_WARN}")
    under_exposed: Policy = Field(description=f"Under-exposed images (outliers): {_WARN}")
    over_exposed: Policy = Field(description=f"Over-exposed images (outliers): {_WARN}")
    blurred: Policy = Field(description=f"Blurred images (outliers): {_WARN}")
    narrow_range: PolicyOfAll = Field(description=f"Less than {NARROW} of 255 levels are used (12 bits in 16): {_ALL}")
    # Nothing here tells which of the two labels is right, so the images cannot stay.
    both_labels: Literal["quarantine", "fail"] = Field(
        description="Exact duplicates with conflicting labels: quarantine (every copy is left out), fail"
    )
    # A duplicate file is kept once whatever the policy.
    exact_duplicates: PolicyOfAll = Field(description=f"Exact duplicates within a class: {_ALL}")
    imbalance: PolicyOfAll = Field(description=f"One class has less than {MINORITY:.0%} of the images: {_ALL}")
    readable_label: PolicyOfAll = Field(
        description="Label leakage / spurious correlation: image or file size, format, file name, EXIF or brightness "
        f"alone predicts the label: {_ALL}"
    )


def run_ingest_checks(
    policies: Audit,
    images: Sequence[ImageRecord],
    statistics: Mapping[str, ImageStatistics],
    *,
    labels: tuple[str, str],
    duplicates: Sequence[Duplicate],
    conflicts: Sequence[Sequence[ImageRecord]],
    refused: Sequence[QuarantinedFile],
) -> tuple[list[Check], dict[str, Any]]:
    """Run all checks; returns them, and the statistics for the page.

    Args:
        images: one for every SHA-256; none of `conflicts`.
        statistics: by SHA-256.
        labels: the negative class, then the positive one.
        duplicates: files that repeat an image.
        conflicts: sets of files with the same pixels and both labels.
        refused: files that are not among the images.
    """
    images = sorted(images)
    of_images = [statistics[image.sha256] for image in images]
    correlations = find_spurious_correlations(images, of_images, labels) if policies.readable_label != "ignore" else []
    checks = [
        _check_conflicting_labels(policies.both_labels, conflicts),
        _check_correlations(policies.readable_label, correlations),
        _check_imbalance(policies.imbalance, images, labels),
        _check_narrow_range(policies.narrow_range, [*zip(images, of_images, strict=True)]),
        *image_quality_checks(policies.model_dump(), images, of_images),
        _check_exact_duplicates(policies.exact_duplicates, duplicates),
        _list_refused(refused),
    ]
    return checks, _data_statistics(images, labels, correlations)


def files_to_quarantine(copies: Sequence[ImageRecord], checks: Sequence[Check]) -> list[QuarantinedFile]:
    """Every file with the pixels of an issue whose policy is `quarantine`, with the reason.

    Args:
        copies: a record for every accepted file, duplicates included.
        checks: as `run_ingest_checks` returns them.
    """
    reasons: dict[str, str] = {}
    content = {image.sha256: image.content for image in copies}
    for check in checks:
        for issue in check.found if check.policy == "quarantine" else ():
            if issue.sha256:
                reasons.setdefault(content[issue.sha256], f"{check.name}: {issue.detail}")
    return [
        QuarantinedFile(image.key, image.label, "audit", reasons[image.content], image.sha256)
        for image in copies
        if image.content in reasons
    ]


def _data_statistics(
    images: Sequence[ImageRecord], labels: tuple[str, str], correlations: Sequence[SpuriousCorrelation] = ()
) -> dict[str, Any]:
    """Numbers and tables about the images, for the page and audit.json."""
    by_label = {label: [image for image in images if image.label == label] for label in labels}
    found: dict[str, Any] = {
        "images": len(images),
        "size of all files": f"{sum(image.bytes for image in images) / 1e6:,.1f} MB",
        "classes": {
            label: {
                "images": len(some),
                "share": f"{len(some) / max(1, len(images)):.1%}",
                "groups": len({image.group for image in some if image.group is not None}) or None,
                "median file": f"{median(image.bytes for image in some) / 1000:,.1f} kB" if some else None,
            }
            for label, some in by_label.items()
        },
        "sizes": _table(by_label, lambda image: f"{image.width} x {image.height}"),
        "colour modes": _table(by_label, lambda image: image.mode),
        "file formats": _table(by_label, lambda image: image.format),
        "source folders": _table(by_label, lambda image: str(PurePosixPath(image.key).parent)),
    }
    if correlations:
        found["the label predicted from one kind of metadata alone (0.5 is guessing)"] = {
            one.family: {"ROC-AUC": one.auc, f"at least ({CONFIDENCE})": one.bound, "from": one.facts}
            for one in correlations
        }
    return found


def _table(
    by_label: Mapping[str, Sequence[ImageRecord]], value: Callable[[ImageRecord], str]
) -> dict[str, dict[str, int]]:
    """How often each value occurs in each class, the most frequent ones first."""
    counts = {label: Counter(value(image) for image in some) for label, some in by_label.items()}
    total = sum(counts.values(), Counter[str]())
    names = sorted(total, key=lambda name: (-total[name], name))
    rows = {name: {label: count[name] for label, count in counts.items()} for name in names[:ROWS]}
    if len(names) > ROWS:
        rows[f"{len(names) - ROWS} others"] = {
            label: sum(count[name] for name in names[ROWS:]) for label, count in counts.items()
        }
    return rows


def _check_conflicting_labels(policy: Policy, conflicts: Sequence[Sequence[ImageRecord]]) -> Check:
    issues = []
    for same_pixels in conflicts:
        first, *others = sorted(same_pixels, key=lambda image: image.key)
        other = next((image for image in others if image.label != first.label), first)
        detail = " = ".join(f"{image.key} ({image.label})" for image in [first, *others])
        issues.append(Issue("both_labels", first.sha256, first.key, first.label, "", detail, other.sha256))
    return Check(
        "both_labels",
        policy,
        "Conflicting labels of exact duplicates",
        "Files with equal pixels have different labels: one of the labels is wrong, and only you know which. Keep each "
        "picture under the right label only. With quarantine every copy is left out.",
        sorted(issues, key=lambda issue: issue.key),
    )


def _check_correlations(policy: Policy, correlations: Sequence[SpuriousCorrelation]) -> Check:
    return Check(
        "readable_label",
        policy,
        "Label leakage / spurious correlation",
        "A small decision tree predicts the label from image size, file size, format, file name, EXIF or mean "
        "brightness alone, in a cross-validation that keeps groups together. It is reported if it is significantly "
        f"better than chance (the lower {CONFIDENCE} bound of its ROC-AUC is above {0.5 + MARGIN}). The model sees "
        "only pixels, never names or EXIF. But if these differ, the classes were collected in different ways, and "
        "that often shows in the pixels too. The cause can also be a real difference: a broken part may well be "
        "darker. Numbers in file names, folders and class names are not used.",
        [
            Issue("readable_label", "", "", "", "", one.description, "", one.auc)
            for one in sorted(correlations, key=lambda one: (-one.auc, one.family))
            if one.is_significant
        ],
    )


def _check_imbalance(policy: PolicyOfAll, images: Sequence[ImageRecord], labels: tuple[str, str]) -> Check:
    counts = {label: sum(image.label == label for image in images) for label in labels}
    rare = min(labels, key=lambda label: counts[label])
    share = counts[rare] / max(1, len(images))
    detail = f"{counts[rare]} of {len(images)} images are {rare}: {share:.1%}"
    issue = Issue("imbalance", "", "", rare, "", detail, "", share)
    return Check(
        "imbalance",
        policy,
        "Class imbalance",
        f"One class has less than {MINORITY:.0%} of the images: then accuracy says little, metrics of the rare class "
        "are uncertain, and class_weights of train_head and finetune_all may help.",
        [issue] if share < MINORITY and policy != "ignore" else [],
    )


def _check_narrow_range(policy: PolicyOfAll, rows: Sequence[tuple[ImageRecord, ImageStatistics]]) -> Check:
    issues = []
    for mode, count in sorted(Counter(image.mode for image, _ in rows).items()):
        some = [each for image, each in rows if image.mode == mode]
        # Without the outermost twentieth of the images, so that a few others do not hide the rest.
        low = 255 * sorted(each.light for each in some)[count // 20]
        high = 255 * sorted(each.dark for each in some)[-1 - count // 20]
        if high - low < NARROW and count >= MINORITY * len(rows) and policy != "ignore":
            detail = f"{count} images of mode {mode}: nearly all levels lie between {low:.0f} and {high:.0f} of 255"
            issues.append(Issue("narrow_range", "", "", "", "", detail, "", high - low))
    return Check(
        "narrow_range",
        policy,
        "Small part of the range of levels",
        f"Images of one colour mode use less than {NARROW} of 255 levels, so most detail is lost. Often 12 bits lie in "
        "16-bit files: multiply all of them by 16, or state 4095 as MaxSampleValue (tag 281) of each grey TIFF. "
        "Otherwise, change exposure or light.",
        issues,
    )


def _check_exact_duplicates(policy: PolicyOfAll, duplicates: Sequence[Duplicate]) -> Check:
    issues = []
    for item in sorted(duplicates):
        same, of = ("file", "") if item.kind == "bytes" else ("pixels", item.of_sha256)
        detail = f"the same {same} as {item.of}"
        issues.append(Issue("exact_duplicates", item.sha256, item.key, item.label, "", detail, of))
    return Check(
        "exact_duplicates",
        policy,
        "Exact duplicates",
        "Files that repeat another one of their class, byte for byte or pixel for pixel. A duplicate file is kept "
        "once. Of different files with the same pixels preprocess leaves out all but one.",
        issues if policy != "ignore" else [],
    )


def _list_refused(refused: Sequence[QuarantinedFile]) -> Check:
    return Check(
        "refused",
        "quarantine",
        "Refused files",
        "Damaged, too large, too small, not of an accepted format, or without the required checksum. quarantine.csv "
        "lists them; ingest.max_refused_fraction limits how many there may be.",
        [Issue("refused", "", item.key, item.label, "", item.reason) for item in sorted(refused)],
        "ingest.max_refused_fraction",
    )
