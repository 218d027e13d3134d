"""preprocess: decide the splits, turn every image into uint8 pixels of one size, and look for leaks.

In: `data/raw`. Out: `data/prepared` (see `twofold/data/prepared.py`), and beside it the audit of the splits (see
`twofold/audit/split_leakage.py`). Pixels are made and written by `twofold/data/preprocessing.py`.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from twofold.audit import near_duplicates, split_leakage
from twofold.audit.checks import PAGE, Check, Issue, Policy, describe_findings, enforce_policies
from twofold.core.artifacts import publish, write_csv, write_json, write_meta
from twofold.core.params import Fraction, Integer, Section, Text
from twofold.core.progress import say
from twofold.data import decoding, resizing
from twofold.data.decoding import Limits, decode
from twofold.data.prepared import KIND, LEFT_OUT, VERSION
from twofold.data.prepared_writer import repack, write_index
from twofold.data.preprocessing import Measurements, Shape, write_parts
from twofold.data.raw import RawDataset
from twofold.data.splits import SPLITS, ExcludedImage, assign_splits, check_splits, count_split_groups, find_repeats
from twofold.reporting.audit_page import write_audit


class Audit(Section):
    leaks: Policy = Field(
        description="the same picture in two splits, also resized, encoded anew, flipped or turned: ignore, warn, "
        "quarantine (the one that is held back less is left out) or fail; the very same pixels are always left out"
    )
    groups: Policy = Field(
        description="one group in two given splits: ignore, warn, quarantine (the less held-back is left out) or fail"
    )
    label_conflicts: Policy = Field(
        description="nearly the same picture under both labels: ignore, warn, quarantine (both are left out) or fail"
    )
    near_duplicates: Policy = Field(
        description="nearly the same picture twice in one split: ignore, warn, quarantine (one stays) or fail"
    )


class Preprocess(Section):
    """The size of the pixels, and how the splits are drawn where none are given."""

    image_size: Integer = Field(
        description="Side of the square that every image becomes, pixels, 32-1024", ge=32, le=1024
    )
    fit: Literal["squash", "crop", "pad"] = Field(
        description="What is done to images that are not square: squash (change the proportions), crop (largest "
        "central square), pad (black beside it)"
    )
    test_fraction: Fraction = Field(description="Expected share of the test split, 0-1; unused with a split column")
    validation_fraction: Fraction = Field(
        description="Expected share of the validation split, of all images, 0-1; unused with a split column"
    )
    split_salt: Text = Field(description="Any text; another one draws other splits")
    audit: Audit = Field(description="what is looked for among the splits, and what is done about it")

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> Self:
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction + validation_fraction must be below 1, so that some images train")
        return self


def preprocess(params: Preprocess, raw: Path, *, data: Path, metrics: Path, audit: Path) -> None:
    """Assign splits, leave repeats and leaks out, resize every image and measure the channels of train.

    Raises:
        DataError: a split lacks a class, an image cannot be decoded as ingest decoded it, or the audit found what a
            policy forbids; then the audit is written, and `data` is not.
        ArtifactError: `raw` is not what ingest wrote.
    """
    source = RawDataset.open(raw)
    # In the order of the shards, which makes reading sequential.
    images = sorted(source.images, key=lambda image: (image.shard, image.offset))
    splits = assign_splits(
        images, test=params.test_fraction, validation=params.validation_fraction, salt=params.split_salt
    )
    left_out = find_repeats(images, splits)
    crossing = count_split_groups(images, splits)
    across, within = split_leakage.exact_duplicate_issues(images, splits, left_out)
    kept = [place for place in range(len(images)) if place not in left_out]
    torn = split_leakage.group_issues(images, splits, kept, params.audit.groups)
    left_out |= torn.left_out
    kept = [place for place in kept if place not in left_out]
    images, splits = [images[place] for place in kept], [splits[place] for place in kept]
    check_splits([image.label for image in images], splits, source.meta["labels"])
    with publish(data) as draft:
        places, shapes, seen = write_parts(
            images,
            splits,
            source.directory,
            draft,
            size=params.image_size,
            fit=params.fit,
            limits=Limits(**_limit_values(source)),
            thumbnails=_looks_alike(params.audit),
        )
        judged = split_leakage.near_duplicate_issues(images, splits, _pairs(seen), params.audit.model_dump())
        stays = [place for place in range(len(images)) if place not in judged.left_out]
        if judged.left_out:
            places, shapes = repack(draft, images, places, shapes, stays, params.image_size)
            images, splits = [images[place] for place in stays], [splits[place] for place in stays]
            seen = [seen[place] for place in stays]
        out = sorted([*left_out.values(), *judged.left_out.values()])
        checks = _checks(judged, torn, across, within)
        figures = {"images": len(images), "left out": len(out)}
        figures |= split_leakage.split_statistics(images, splits, source.meta["labels"], source.meta["slices"])
        show = partial(_shown, source=source)
        of = source.meta["fingerprint"]
        write_audit(audit, "preprocess", checks, fingerprint=of, figures=figures, pixels=show)
        enforce_policies("preprocess", checks, audit / PAGE)
        counts = check_splits([image.label for image in images], splits, source.meta["labels"])
        channels = max(shape[3] for shape in shapes)
        sums = _summed(seen, channels)
        write_csv(draft / LEFT_OUT, ExcludedImage._fields, out)
        write_index(draft, images, splits, places, seen, source.meta)
        write_meta(draft, KIND, VERSION, **_meta(params, source, counts, shapes, sums, channels))
    _tell(metrics, counts, len(images), len(out), crossing, checks)


def _meta(
    params: Preprocess,
    source: RawDataset,
    counts: dict[str, dict[str, int]],
    shapes: Sequence[Shape],
    sums: tuple[int, list[int], list[int]],
    channels: int,
) -> dict[str, Any]:
    number, values, squares = sums
    total = 255 * number * params.image_size**2
    mean = [value / total for value in values]
    spread = [square / (255 * total) - m * m for square, m in zip(squares, mean, strict=True)]
    return {
        "image_size": params.image_size,
        "channels": channels,
        "labels": source.meta["labels"],
        "positive": source.meta["positive"],
        "slices": source.meta["slices"],
        "fingerprint": source.meta["fingerprint"],
        "n": sum(shape[0] for shape in shapes),
        "parts": len(shapes),
        "counts": counts,
        "statistics": {"mean": mean, "std": [math.sqrt(max(value, 0.0)) for value in spread]},
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
        # Of the audit what matters to later steps shows in the images: a policy that changes none changes nothing.
        "params": params.model_dump(mode="json", exclude={"audit"}),
    }


def _limit_values(source: RawDataset) -> dict[str, int]:
    return {name: source.meta["params"][name] for name in ("max_bytes", "max_pixels", "min_side")}


def _summed(seen: Sequence[Measurements], channels: int) -> tuple[int, list[int], list[int]]:
    """Over train: how many images, and the sums of the values and of their squares for each channel."""
    images, values, squares = 0, [0] * channels, [0] * channels
    for found in (one for one in seen if one.values):
        images += 1
        for channel in range(channels):
            # A grey image counts the same in all three channels.
            from_channel = channel % len(found.values)
            values[channel] += found.values[from_channel]
            squares[channel] += found.squares[from_channel]
    return images, values, squares


def _looks_alike(policies: Audit) -> bool:
    """Whether any policy asks for near duplicates."""
    return not policies.leaks == policies.label_conflicts == policies.near_duplicates == "ignore"


def _pairs(seen: Sequence[Measurements]) -> list[near_duplicates.NearDuplicate]:
    """Near duplicates among what was seen; none where nobody looks for them."""
    shown = [one.thumbnail for one in seen if one.thumbnail is not None]
    return near_duplicates.find_near_duplicates(shown) if len(shown) == len(seen) else []


def _checks(
    judged: split_leakage.LeakageResult, torn: split_leakage.LeakageResult, across: list[Issue], within: list[Issue]
) -> list[Check]:
    """Every check in the order of the page, the very same pixels before what only looks alike."""
    before = {"leaks": across, "near_duplicates": within}
    near_ones = [
        each if each.policy == "ignore" else each._replace(found=[*before.get(each.name, []), *each.found])
        for each in judged.checks
    ]
    return [near_ones[0], *torn.checks, *near_ones[1:]]


def _shown(sha256: str, source: RawDataset) -> resizing.Pixels | None:
    """The picture of an image on the audit's page."""
    image = next((image for image in source.images if image.sha256 == sha256), None)
    return None if image is None else decode(source.read(image), Limits(**_limit_values(source))).pixels


def _tell(
    metrics: Path, counts: dict[str, dict[str, int]], images: int, left_out: int, crossing: int, checks: list[Check]
) -> None:
    figures = {f"{split}_{label}": count for split in SPLITS for label, count in counts[split].items()}
    figures |= {split: sum(counts[split].values()) for split in SPLITS}
    figures |= {"images": images, "left_out": left_out, "groups_in_several_splits": crossing}
    figures |= {f"found_{each.name}": len(each.found) for each in checks}
    write_json(metrics, figures)
    say(
        "preprocess: "
        + ", ".join(f"{split} {figures[split]}" for split in SPLITS)
        + f"; {left_out} left out; the audit found {describe_findings(checks)}"
    )


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(preprocess)
