"""preprocess: assigns the splits, resizes every image to uint8 pixels of one size, and detects split leakage.

Reads `data/raw`. Writes `data/prepared` (see `twofold/data/prepared.py`) and the audit of the splits (see
`twofold/audit/split_leakage.py`).
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from twofold.audit import split_leakage
from twofold.audit.checks import PAGE, Check, Issue, Policy, describe_findings, enforce_policies
from twofold.audit.near_duplicates import find_near_duplicates
from twofold.core.artifacts import publish, write_csv, write_json, write_meta
from twofold.core.params import Fraction, Integer, Section, Text
from twofold.core.progress import say
from twofold.data import decoding, resizing
from twofold.data.decoding import Limits, decode
from twofold.data.prepared import KIND, LEFT_OUT, VERSION
from twofold.data.prepared_writer import Measurements, Shape, repack, write_index
from twofold.data.preprocessing import write_parts
from twofold.data.raw import RawDataset
from twofold.data.splits import SPLITS, ExcludedImage, assign_splits, check_splits, count_split_groups, find_repeats
from twofold.reporting.audit_page import write_audit


class Audit(Section):
    leaks: Policy = Field(
        description="The same picture in two splits, also resized, re-encoded, flipped or rotated: ignore, warn, "
        "quarantine (test takes precedence over validation over train; the other image is left out), fail; exact "
        "pixel duplicates are always left out"
    )
    groups: Policy = Field(
        description="One group in two given splits: ignore, warn, quarantine (same precedence as leaks), fail"
    )
    label_conflicts: Policy = Field(
        description="Near duplicates under both labels: ignore, warn, quarantine (both are left out), fail"
    )
    near_duplicates: Policy = Field(
        description="Near duplicates in one split: ignore, warn, quarantine (one is kept), fail"
    )


class Preprocess(Section):
    """The size of the pixels, and how the splits are drawn where none are given."""

    image_size: Integer = Field(
        description="Side of the square to which every image is resized, pixels, 32 to 1024", ge=32, le=1024
    )
    fit: Literal["squash", "crop", "pad"] = Field(
        description="How other images become square: squash (changes the proportions), crop (largest central square), "
        "pad (black borders)"
    )
    test_fraction: Fraction = Field(description="Expected share of the test split, 0 to 1; unused with given splits")
    validation_fraction: Fraction = Field(
        description="Expected share of the validation split, of all images, 0 to 1; unused with given splits"
    )
    split_salt: Text = Field(description="Any text; another text draws other splits")
    audit: Audit = Field(description="Checks of the splits, each with its policy")

    @model_validator(mode="after")
    def _check_train_share(self) -> Self:
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction + validation_fraction must be below 1, so that images are left for train")
        return self


def preprocess(params: Preprocess, raw: Path, *, data: Path, metrics: Path, audit: Path) -> None:
    """Assign splits, leave duplicates and split leakage out, resize every image and measure the channels of train.

    Raises:
        DataError: a split lacks a class, an image decodes differently than in ingest, or the audit found an issue whose
            policy is `fail`; then the audit is written, and `data` is not.
        ArtifactError: `raw` is not an intact output of ingest.
    """
    source = RawDataset.open(raw)
    classes = source.meta["labels"]
    # In the order of the shards, so that reading is sequential.
    images = sorted(source.images, key=lambda image: (image.shard, image.offset))
    splits = assign_splits(
        images, test=params.test_fraction, validation=params.validation_fraction, salt=params.split_salt
    )
    left_out = find_repeats(images, splits)
    split_groups = count_split_groups(images, splits)
    across, within = split_leakage.exact_duplicate_issues(images, splits, left_out)
    kept = [row for row in range(len(images)) if row not in left_out]
    groups = split_leakage.group_issues(images, splits, kept, params.audit.groups)
    left_out |= groups.left_out
    kept = [row for row in kept if row not in left_out]
    images, splits = [images[row] for row in kept], [splits[row] for row in kept]
    check_splits(images, splits, classes)
    policies = {params.audit.leaks, params.audit.label_conflicts, params.audit.near_duplicates}
    with publish(data) as draft:
        locations, shapes, measured = write_parts(
            images,
            splits,
            source.directory,
            draft,
            size=params.image_size,
            fit=params.fit,
            limits=Limits(**_limit_values(source)),
            thumbnails=policies != {"ignore"},
        )
        thumbnails = [one.thumbnail for one in measured if one.thumbnail is not None]
        pairs = find_near_duplicates(thumbnails) if policies != {"ignore"} else []
        near = split_leakage.near_duplicate_issues(images, splits, pairs, params.audit.model_dump())
        units = split_leakage.sample_names(images, splits, pairs, near.left_out)
        if near.left_out:
            kept = [row for row in range(len(images)) if row not in near.left_out]
            locations, shapes = repack(draft, images, locations, shapes, kept, params.image_size)
            images, splits = [images[row] for row in kept], [splits[row] for row in kept]
            measured, units = [measured[row] for row in kept], [units[row] for row in kept]
        excluded = sorted([*left_out.values(), *near.left_out.values()])
        checks = _ordered_checks(near, groups, across, within)
        summary = {"images": len(images), "left out": len(excluded)}
        summary |= split_leakage.split_statistics(images, splits, classes, source.meta["slices"])
        show = partial(_read_pixels, source=source)
        write_audit(
            audit,
            "preprocess",
            checks,
            fingerprint=source.meta["fingerprint"],
            statistics=summary,
            pixels=show,
            names={image.sha256: image.key for image in images},
        )
        enforce_policies("preprocess", checks, audit / PAGE)
        counts = check_splits(images, splits, classes)
        write_csv(draft / LEFT_OUT, ExcludedImage._fields, excluded)
        write_index(draft, images, splits, locations, measured, units, source.meta)
        write_meta(draft, KIND, VERSION, **_meta(params, source, counts, shapes, measured))
    results = {f"{split}_{label}": count for split in SPLITS for label, count in counts[split].items()}
    results |= {split: sum(counts[split].values()) for split in SPLITS}
    results |= {"images": len(images), "left_out": len(excluded), "groups_in_several_splits": split_groups}
    write_json(metrics, results | {f"found_{check.name}": len(check.found) for check in checks})
    sizes = ", ".join(f"{split} {results[split]}" for split in SPLITS)
    say(f"preprocess: {sizes}; {len(excluded)} left out; the audit found {describe_findings(checks)}")


def _meta(
    params: Preprocess,
    source: RawDataset,
    counts: dict[str, dict[str, int]],
    shapes: Sequence[Shape],
    measured: Sequence[Measurements],
) -> dict[str, Any]:
    channels = max(shape[3] for shape in shapes)
    number, values, squares = _channel_sums(measured, channels)
    total = 255 * number * params.image_size**2
    mean = [value / total for value in values]
    variance = [square / (255 * total) - m * m for square, m in zip(squares, mean, strict=True)]
    return {
        "image_size": params.image_size,
        "channels": channels,
        **{key: source.meta[key] for key in ("labels", "positive", "slices", "fingerprint")},
        "n": sum(shape[0] for shape in shapes),
        "parts": len(shapes),
        "counts": counts,
        "statistics": {"mean": mean, "std": [math.sqrt(max(value, 0.0)) for value in variance]},
        "pixels": {
            "image_size": params.image_size,
            "fit": params.fit,
            "filter": resizing.FILTER.name.lower(),
            "background": decoding.BACKGROUND,
            "padding": resizing.PADDING,
            "grey_to_colour": "repeat",
            decoding.AMPLE_KEY: decoding.AMPLE,
            "limits": _limit_values(source),
        },
        # Later steps depend on the images only: an audit policy that excludes none must not change their input.
        "params": params.model_dump(mode="json", exclude={"audit"}),
    }


def _limit_values(source: RawDataset) -> dict[str, int]:
    return {name: source.meta["params"][name] for name in ("max_bytes", "max_pixels", "min_side")}


def _channel_sums(measured: Sequence[Measurements], channels: int) -> tuple[int, list[int], list[int]]:
    """Return the number of train images, and the sums of their values and squared values for each channel."""
    train = [one for one in measured if one.values]
    # A grey image counts the same in all three channels.
    values = [sum(one.values[channel % len(one.values)] for one in train) for channel in range(channels)]
    squares = [sum(one.squares[channel % len(one.values)] for one in train) for channel in range(channels)]
    return len(train), values, squares


def _ordered_checks(
    near: split_leakage.LeakageResult, groups: split_leakage.LeakageResult, across: list[Issue], within: list[Issue]
) -> list[Check]:
    """Return every check in the order of the page, exact duplicates before near duplicates."""
    exact = {"leaks": across, "near_duplicates": within}
    first, *others = [
        check if check.policy == "ignore" else check._replace(found=[*exact.get(check.name, []), *check.found])
        for check in near.checks
    ]
    return [first, *groups.checks, *others]


def _read_pixels(sha256: str, source: RawDataset) -> resizing.Pixels | None:
    image = next((image for image in source.images if image.sha256 == sha256), None)
    return None if image is None else decode(source.read(image), Limits(**_limit_values(source))).pixels


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main
    from twofold.promotion.attainable_gates import find_in_prepared

    sections, paths = main(preprocess)
    # Told by the command, not by the step: the gates must not decide whether the data are made again.
    for unattainable in find_in_prepared(paths["data"], sections):
        say(f"preprocess: warning: {unattainable}")
