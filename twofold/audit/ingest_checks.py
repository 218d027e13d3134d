"""The audit of ingest: everything that is looked for before an image is prepared.

In: the images that ingest accepted, their looks, the repeats, the contradictions and what was refused. Out: the checks,
and figures about the classes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
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
ROWS = 10  # of a table

_WARN = "ignore, warn, quarantine (left out), fail"
_ALL = "ignore, warn, fail"


class Audit(Section):
    """What is looked for, and what is done about it: a policy for each check."""

    blank: Policy = Field(description=f"Images of nearly one colour: {_WARN}")
    odd_aspect: Policy = Field(description=f"Images of far other proportions than the others: {_WARN}")
    under_exposed: Policy = Field(description=f"Images far darker than the others: {_WARN}")
    over_exposed: Policy = Field(description=f"Images far brighter than the others: {_WARN}")
    blurred: Policy = Field(description=f"Images far softer than the others: {_WARN}")
    # Which of two labels is right cannot be known here, so the images cannot stay.
    both_labels: Literal["quarantine", "fail"] = Field(
        description="The same picture under both labels: quarantine (every copy is left out), fail"
    )
    # A repeated file is kept once anyway.
    exact_duplicates: PolicyOfAll = Field(description=f"Files that repeat another one of their class: {_ALL}")
    imbalance: PolicyOfAll = Field(description=f"One class has less than {MINORITY:.0%} of the images: {_ALL}")
    readable_label: PolicyOfAll = Field(
        description=f"The label can be read from size, bytes, format, file name, EXIF or brightness alone: {_ALL}"
    )


def run_ingest_checks(
    policies: Audit,
    images: Sequence[ImageRecord],
    looks: Mapping[str, ImageStatistics],
    *,
    labels: tuple[str, str],
    duplicates: Sequence[Duplicate],
    torn: Sequence[Sequence[ImageRecord]],
    refused: Sequence[QuarantinedFile],
) -> tuple[list[Check], dict[str, Any]]:
    """Look for everything.

    Args:
        policies: a policy for each check.
        images: one for every SHA-256; none of `torn`.
        looks: by SHA-256.
        labels: the negative class, then the positive one.
        duplicates: what repeats what.
        torn: sets of files that show one picture and have both labels.
        refused: files that were not taken at all.

    Returns:
        The checks, and the figures for the page.
    """
    ordered = sorted(images)
    seen = [looks[image.sha256] for image in ordered]
    policy = {name: getattr(policies, name) for name in type(policies).model_fields}
    readable = find_spurious_correlations(ordered, seen, labels) if policies.readable_label != "ignore" else []
    checks = [
        _both_labels(policies.both_labels, torn),
        _readable(policies.readable_label, readable),
        _imbalance(policies.imbalance, ordered, labels),
        *image_quality_checks(policy, ordered, seen),
        _exact(policies.exact_duplicates, duplicates),
        _refused(refused),
    ]
    return checks, data_statistics(ordered, labels, readable)


def files_to_quarantine(copies: Sequence[ImageRecord], checks: Sequence[Check]) -> list[QuarantinedFile]:
    """Every file that shows what a check with the policy `quarantine` found, with the reason.

    Args:
        copies: an image for every accepted file, repeated ones included.
        checks: as `examine` returns them.
    """
    reasons: dict[str, str] = {}
    content = {image.sha256: image.content for image in copies}
    for check in checks:
        if check.policy == "quarantine":
            for found in check.found:
                if found.sha256:
                    reasons.setdefault(content[found.sha256], f"{check.name}: {found.detail}")
    return [
        QuarantinedFile(image.key, image.label, "audit", reasons[image.content], image.sha256)
        for image in copies
        if image.content in reasons
    ]


def data_statistics(
    images: Sequence[ImageRecord], labels: tuple[str, str], readable: Sequence[SpuriousCorrelation] = ()
) -> dict[str, Any]:
    """Numbers and tables about the images, for the page and for programs."""
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
    if readable:
        found["the label read from one kind of facts alone (0.5 is guessing)"] = {
            one.family: {"ROC-AUC": one.auc, f"at least ({CONFIDENCE})": one.bound, "from": one.facts}
            for one in readable
        }
    return found


def _table(by_label: Mapping[str, Sequence[ImageRecord]], of: Any) -> dict[str, dict[str, int]]:
    """How often each value occurs in each class, the most frequent ones first."""
    counts = {label: Counter(of(image) for image in some) for label, some in by_label.items()}
    total = sum(counts.values(), Counter[str]())
    names = sorted(total, key=lambda name: (-total[name], name))
    rows = {name: {label: count[name] for label, count in counts.items()} for name in names[:ROWS]}
    if len(names) > ROWS:
        rows[f"{len(names) - ROWS} others"] = {
            label: sum(count[name] for name in names[ROWS:]) for label, count in counts.items()
        }
    return rows


def _both_labels(policy: Policy, torn: Sequence[Sequence[ImageRecord]]) -> Check:
    found = []
    for same in torn:
        first, *others = sorted(same, key=lambda image: image.key)
        other = next((image for image in others if image.label != first.label), first)
        detail = " = ".join(f"{image.key} ({image.label})" for image in [first, *others])
        found.append(Issue("both_labels", first.sha256, first.key, first.label, "", detail, other.sha256))
    return Check(
        "both_labels",
        policy,
        "The same picture under both labels",
        "Equal pixels under both labels: one of the two is wrong, and nobody but you knows which. Keep each picture "
        "under the right label alone. With quarantine every copy is left out.",
        sorted(found, key=lambda one: one.key),
    )


def _readable(policy: Policy, found: Sequence[SpuriousCorrelation]) -> Check:
    return Check(
        "readable_label",
        policy,
        "A label that can be read without looking",
        "A small decision tree tries to tell the classes apart by facts such as size, bytes, format, file name, EXIF "
        "or mean brightness alone, judged by cross-validation that keeps groups together. It is reported where it "
        f"beats guessing for sure (the lower {CONFIDENCE} bound of its ROC-AUC is above {0.5 + MARGIN}). The model "
        "sees pixels and nothing else: names and EXIF never reach it, but where they differ the classes came by "
        "different ways, and those often show in the pixels too. A real difference can be the cause: a broken part "
        "may well be darker. Numbers in file names, folders and the classes' own names are not read.",
        [
            Issue(
                "readable_label",
                "",
                "",
                "",
                "",
                f"{one.family} alone ({one.facts}): ROC-AUC {one.auc:.2f}, at least {one.bound:.2f}",
                "",
                one.auc,
            )
            for one in sorted(found, key=lambda one: (-one.auc, one.family))
            if one.tells
        ],
    )


def _imbalance(policy: PolicyOfAll, images: Sequence[ImageRecord], labels: tuple[str, str]) -> Check:
    counts = {label: sum(image.label == label for image in images) for label in labels}
    rare = min(labels, key=lambda label: counts[label])
    share = counts[rare] / max(1, len(images))
    told = f"{counts[rare]} of {len(images)} images are {rare}: {share:.1%}"
    found = [Issue("imbalance", "", "", rare, "", told, "", share)] if share < MINORITY and policy != "ignore" else []
    return Check(
        "imbalance",
        policy,
        "Classes of very different size",
        f"One class has less than {MINORITY:.0%} of the images: accuracy says little then, figures of the rare class "
        "are uncertain, and class_weights of train_head and finetune_all may help.",
        found,
    )


def _exact(policy: PolicyOfAll, duplicates: Sequence[Duplicate]) -> Check:
    found = [
        Issue(
            "exact_duplicates",
            item.sha256,
            item.key,
            item.label,
            "",
            f"the same file as {item.of}" if item.kind == "bytes" else f"the same pixels as {item.of}",
            "" if item.kind == "bytes" else item.of_sha256,
        )
        for item in sorted(duplicates)
    ]
    return Check(
        "exact_duplicates",
        policy,
        "Exact duplicates",
        "Files that repeat another one of their class, byte for byte or pixel for pixel. A repeated file is kept once; "
        "of files that differ and show the same pixels, preprocess leaves out those that would be in two splits.",
        found if policy != "ignore" else [],
    )


def _refused(refused: Sequence[QuarantinedFile]) -> Check:
    return Check(
        "refused",
        "quarantine",
        "Files that were refused",
        "Damaged, too large, too small, of no accepted format, or not to be verified. They are listed in "
        "quarantine.csv; ingest.max_refused_fraction says how many there may be.",
        [Issue("refused", "", item.key, item.label, "", item.reason) for item in sorted(refused)],
        "ingest.max_refused_fraction",
    )
