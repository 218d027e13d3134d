"""ingest: reads labelled images from a source, decodes each one completely, and stores the files unchanged.

Reads `ingest.source`: a folder, a bucket or a version of a DVC repository (see `twofold/sources/factory.py`). Writes
`data/raw` (see `twofold/data/raw.py`) and the audit of the images (see `twofold/audit/ingest_checks.py`), which is
written before one of its policies can end the step.

Later steps get only files that were decoded here within the limits. A file that occurs twice is kept once; a content
that occurs under both labels is not kept.
"""

import os
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from twofold.audit.checks import PAGE, describe_findings, enforce_policies
from twofold.audit.ingest_checks import Audit, files_to_quarantine, run_ingest_checks
from twofold.core.artifacts import publish, write_csv, write_json
from twofold.core.errors import DataError, SourceError, listed
from twofold.core.names import normalize_name, spelled
from twofold.core.params import Address, Fraction, Integer, Section, Text
from twofold.core.progress import say, track
from twofold.data.decoding import FORMATS, Limits, decode
from twofold.data.exact_duplicates import deduplicate
from twofold.data.image_statistics import ImageStatistics
from twofold.data.raw import VERSIONS, ImageRecord, QuarantinedFile, fingerprint, rewrite_shards, write_tables
from twofold.data.resizing import Pixels
from twofold.data.shards import ShardWriter, read_member
from twofold.data.source_reader import ReadFile, read_files, set_texts_aside
from twofold.reporting.audit_page import write_audit
from twofold.sources.base import Entry, Listing, Source
from twofold.sources.factory import open_source
from twofold.sources.layout_hints import HIDDEN, explain_classes
from twofold.sources.version import version_of

_MAX_LISTED = 10  # refused files, or classes, in an error


class Ingest(Section):
    """Where the images come from, and which ones are accepted."""

    source: Address = Field(
        description="Folder, s3://bucket/prefix or dvc+<git url>@<rev>:<path>; holds a folder per class or a labels.csv"
    )
    positive: Text = Field(description="The class to detect, by the name of its folder or label")
    require_checksum: bool = Field(
        description="Whether to refuse a file whose store keeps no checksum of it; false: it is counted as unverified"
    )
    max_bytes: Integer = Field(description="Largest accepted file, bytes, 1 to 1073741824", ge=1, le=2**30)
    # Above this limit Pillow reports a decompression bomb.
    max_pixels: Integer = Field(description="Largest accepted image, width x height, 1 to 89478485", ge=1, le=89478485)
    min_side: Integer = Field(description="Smallest accepted shorter side, pixels, 1 to 65535", ge=1, le=65535)
    max_refused_fraction: Fraction = Field(description="Share of refused files above which the step fails, 0 to 1")
    min_per_class: Integer = Field(description="Fewest different images per class, 2 to 2147483647", ge=2, le=2**31 - 1)
    audit: Audit = Field(description="Checks of the images, each with its policy")


class Arrival(NamedTuple):
    """How an accepted file arrived: its version in the bucket, and whether its checksum was verified."""

    key: str
    version: str
    verified: bool


def ingest(params: Ingest, *, raw: Path, metrics: Path, audit: Path) -> None:
    """Decode every image of the source completely and store the files in shards, with a manifest.

    Raises:
        DataError: there are not two classes, too many refused files or too few images, or the audit found an issue
            whose policy is `fail`; then the audit is written, and `raw` is not.
    """
    source = open_source(params.source)
    listing = source.listing()
    labels = class_labels(listing, params.positive, source)
    limits = Limits(params.max_bytes, params.max_pixels, params.min_side)
    ignored = set_texts_aside(source, listing.ignored)
    with publish(raw) as draft:
        copies, statistics, quarantined, arrivals, version = _store(source, listing, params, limits, draft)
        if os.environ.get("TWOFOLD_SOURCE_VERSION", version) != version:
            raise SourceError(
                f"{source.name}: changed after this run had started (task source_version); run again when nobody "
                "writes there"
            )
        quarantined += [
            QuarantinedFile(item.key, item.label, "refused" if item.counts else "ignored", item.reason, "")
            for item in ignored
        ]
        refused = [item for item in quarantined if item.kind == "refused"]
        files = len(listing.entries) + sum(item.counts for item in ignored)
        if len(refused) > params.max_refused_fraction * files:
            raise DataError(
                f"{len(refused)} of {files} files are refused, ingest.max_refused_fraction allows "
                f"{params.max_refused_fraction}; repair or remove them, or raise it:{_list_refused(refused)}"
            )
        images, duplicates, conflicts = deduplicate(copies)
        checks, summary = run_ingest_checks(
            params.audit, images, statistics, labels=labels, duplicates=duplicates, conflicts=conflicts, refused=refused
        )
        left_out = {item.key: item for item in files_to_quarantine(copies, checks)}
        kept = [image for image in images if image.key not in left_out]
        image_of = {image.sha256: image for image in copies}
        write_audit(
            audit,
            "ingest",
            checks,
            fingerprint=fingerprint(kept, listing.slices),
            statistics=summary,
            pixels=lambda sha256: _read_pixels(image_of.get(sha256), draft, limits),
        )
        enforce_policies("ingest", checks, audit / PAGE)
        if left_out:
            images = rewrite_shards(draft, kept)
            duplicates = [item for item in duplicates if item.key not in left_out]
            arrivals = [arrival for arrival in arrivals if arrival.key not in left_out]
            quarantined += left_out.values()
        _check_class_sizes(images, labels, params, refused)
        if any(arrival.version for arrival in arrivals):
            write_csv(draft / VERSIONS, Arrival._fields[:2], sorted(arrival[:2] for arrival in arrivals))
        meta = write_tables(
            draft,
            images,
            duplicates,
            quarantined,
            labels=labels,
            slices=listing.slices,
            # Later steps depend on the images only: an audit policy that excludes none must not change their input.
            params=params.model_dump(mode="json", exclude={"source", "audit"}),
        )
    counts = {
        "images": len(images),
        "positive": meta["counts"][labels[1]],
        "negative": meta["counts"][labels[0]],
        "refused": len(refused),
        "ignored": len(quarantined) - len(refused) - len(left_out),
        "left_out": len(left_out),
        "duplicate_files": sum(item.kind == "bytes" for item in duplicates),
        "duplicate_pictures": sum(item.kind == "pixels" for item in duplicates),
        "unverified": sum(not arrival.verified for arrival in arrivals),
        "bytes": meta["bytes"],
        "shards": meta["shards"],
    }
    write_json(metrics, counts | {f"found_{check.name}": len(check.found) for check in checks})
    say(
        f"ingest: {counts['images']} images ({counts['positive']} {labels[1]}, {counts['negative']} {labels[0]}), "
        f"{counts['refused']} refused, {counts['ignored']} ignored, {counts['duplicate_files']} duplicate files"
        + (f", {counts['unverified']} without a checksum" if counts["unverified"] else "")
        + (f", {counts['left_out']} left out" if left_out else "")
        + (f", {len(listing.hidden)} left aside ({HIDDEN})" if listing.hidden else "")
        + f"; the audit found {describe_findings(checks)}"
    )


def class_labels(listing: Listing, positive: str, source: Source) -> tuple[str, str]:
    """Return (negative, positive); raise DataError if there are not two classes of which one is `positive`."""
    classes = sorted({entry.label for entry in listing.entries})
    names = ", ".join(map(spelled, classes[:_MAX_LISTED]))
    if len(classes) != 2:
        found = f"found {len(classes)}: {names or 'none'}{explain_classes(listing)}"
        raise DataError(f"{source.name}: exactly two classes are needed, {found}")
    if (positive := normalize_name(positive)) not in classes:
        found = f"found {spelled(positive)}; the classes of {source.name} are [{names}]{explain_classes(listing)}"
        raise DataError(f"ingest.positive: {found}")
    classes.remove(positive)
    return classes[0], positive


def _store(
    source: Source, listing: Listing, params: Ingest, limits: Limits, draft: Path
) -> tuple[list[ImageRecord], dict[str, ImageStatistics], list[QuarantinedFile], list[Arrival], str]:
    """Write every accepted file once.

    Returns:
        A record of every accepted file, duplicates included; the image statistics by SHA-256; the refused files; how
        each accepted file arrived; and the version of the source, by what was read.
    """
    files = read_files(source, listing.entries, limits, params.require_checksum)
    files = track(files, "ingest", len(listing.entries))
    locations: dict[str, tuple[int, int]] = {}
    images: list[ImageRecord] = []
    statistics: dict[str, ImageStatistics] = {}
    quarantined: list[QuarantinedFile] = []
    arrivals: list[Arrival] = []
    contents: list[str] = []
    shards = ShardWriter(draft)
    for entry, file in zip(listing.entries, files, strict=True):
        decoded = file.seen
        contents.append(decoded.sha256)
        if decoded.reason:
            quarantined.append(QuarantinedFile(file.key, entry.label, "refused", decoded.reason, decoded.sha256))
            continue
        if decoded.sha256 not in locations:
            locations[decoded.sha256] = shards.add(f"{decoded.sha256}.{FORMATS[decoded.format]}", file.data)
            statistics[decoded.sha256] = decoded.statistics
        images.append(_image_record(entry, file, locations[decoded.sha256]))
        arrivals.append(Arrival(file.key, file.version, file.verified))
    shards.close()
    version = version_of(listing, [source.request(entry.key) for entry in listing.entries], contents)
    return images, statistics, quarantined, arrivals, version


def _read_pixels(image: ImageRecord | None, draft: Path, limits: Limits) -> Pixels | None:
    if image is None:
        return None
    data = read_member(draft, image.shard, image.offset, image.bytes, image.sha256)
    return decode(data, limits).pixels


def _image_record(entry: Entry, file: ReadFile, location: tuple[int, int]) -> ImageRecord:
    decoded = file.seen
    return ImageRecord(
        decoded.sha256,
        entry.key,
        entry.label,
        entry.group,
        entry.split,
        len(file.data),
        decoded.width,
        decoded.height,
        decoded.mode,
        decoded.format,
        decoded.channels,
        decoded.content,
        *location,
        entry.slices,
    )


def _check_class_sizes(
    images: list[ImageRecord], labels: tuple[str, str], params: Ingest, refused: list[QuarantinedFile]
) -> None:
    counts = {label: sum(image.label == label for image in images) for label in labels}
    if min(counts.values()) < params.min_per_class:
        found = ", ".join(f"{count} of {label}" for label, count in counts.items())
        raise DataError(
            f"too few different images: {found}; ingest.min_per_class requires {params.min_per_class} of each"
            + (f"; {len(refused)} files were refused:{_list_refused(refused)}" if refused else "")
        )


def _list_refused(refused: list[QuarantinedFile]) -> str:
    return listed("", [f"{item.key}: {item.reason}" for item in sorted(refused)], _MAX_LISTED)


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(ingest)
