"""ingest: take labelled images in, decode every one in full, and keep them as they came.

In: `ingest.source`, a folder, a bucket or a version of a DVC repository (see `twofold/sources/factory.py`). Out:
`data/raw` (see `twofold/data/raw.py`), and the audit of the images (see `twofold/audit/ingest_checks.py`), which is written before a
policy of its can end the step.

Nothing that comes later sees a file that was not decoded here under the limits. A file that occurs twice is kept
once; a content that stands under both labels is not kept.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from twofold.audit.checks import PAGE, describe_findings, enforce_policies
from twofold.audit.ingest_checks import Audit, files_to_quarantine, run_ingest_checks
from twofold.core.artifacts import publish, write_csv, write_json
from twofold.core.errors import DataError, listed
from twofold.core.params import Fraction, Integer, Section, Text
from twofold.core.progress import say, track
from twofold.data.decoding import FORMATS, Limits, decode
from twofold.data.exact_duplicates import deduplicate
from twofold.data.image_statistics import ImageStatistics
from twofold.data.raw import VERSIONS, ImageRecord, QuarantinedFile, fingerprint, rewrite_shards, write_tables
from twofold.data.resizing import Pixels
from twofold.data.shards import ShardWriter, read_member
from twofold.data.source_reader import ReadFile, read_files
from twofold.reporting.audit_page import write_audit
from twofold.sources.base import Entry, Listing, Source
from twofold.sources.factory import open_source

_SHOWN = 10  # refused files in an error


class Ingest(Section):
    """Where the images come from, and what is accepted."""

    source: Text = Field(
        description="Folder, s3://bucket/prefix or dvc+<git url>@<rev>:<path>, with a folder a class or a labels.csv"
    )
    positive: Text = Field(description="The class that is to be found (as the folder or label is named)")
    require_checksum: bool = Field(
        description="Refuse a file whose store keeps no checksum to verify its transfer by (false: it is counted)"
    )
    max_bytes: Integer = Field(description="Largest file accepted, bytes, 1 to 1073741824", ge=1, le=2**30)
    # Above this Pillow sees a decompression bomb.
    max_pixels: Integer = Field(description="Largest image accepted, width x height, 1 to 89478485", ge=1, le=89478485)
    min_side: Integer = Field(description="Smallest shorter side accepted, pixels, 1 to 65535", ge=1, le=65535)
    max_refused_fraction: Fraction = Field(description="Share of files that may be refused before the step fails, 0-1")
    min_per_class: Integer = Field(
        description="Fewest different images of each class, 2 to 2147483647", ge=2, le=2147483647
    )
    audit: Audit = Field(description="What is looked for among the images, and what is done about it")


class Arrival(NamedTuple):
    """How an accepted file came: the version that its bucket gave it, and whether a checksum held."""

    key: str
    version: str
    verified: bool


def ingest(params: Ingest, *, raw: Path, metrics: Path, audit: Path) -> None:
    """Decode every image of the source in full and store the files in shards, with a manifest.

    Raises:
        DataError: not two classes, too many refused files, too few images, or the audit found what a policy forbids;
            then the audit is written, and `raw` is not.
    """
    source = open_source(params.source)
    listing = source.listing()
    labels = _labels(listing, params, source)
    with publish(raw) as draft:
        copies, looks, quarantined, arrivals = _store(source, listing, params, draft)
        quarantined += [
            QuarantinedFile(item.key, item.label, "refused" if item.counts else "ignored", item.reason, "")
            for item in listing.ignored
        ]
        files = len(listing.entries) + sum(item.counts for item in listing.ignored)
        _check_refused(quarantined, files, params)
        refused = [item for item in quarantined if item.kind == "refused"]
        images, duplicates, torn = deduplicate(copies)
        checks, figures = run_ingest_checks(
            params.audit, images, looks, labels=labels, duplicates=duplicates, torn=torn, refused=refused
        )
        show = partial(_pixels, {image.sha256: image for image in copies}, draft, params)
        left_out = {item.key: item for item in files_to_quarantine(copies, checks)}
        of = fingerprint([image for image in images if image.key not in left_out], listing.slices)
        write_audit(audit, "ingest", checks, fingerprint=of, figures=figures, pixels=show)
        enforce_policies("ingest", checks, audit / PAGE)
        if left_out:
            images = rewrite_shards(draft, [image for image in images if image.key not in left_out])
            duplicates = [item for item in duplicates if item.key not in left_out]
            arrivals = [arrival for arrival in arrivals if arrival.key not in left_out]
            quarantined += left_out.values()
        _check_classes(images, labels, params, refused)
        if any(arrival.version for arrival in arrivals):
            write_csv(draft / VERSIONS, Arrival._fields[:2], sorted(arrival[:2] for arrival in arrivals))
        meta = write_tables(
            draft,
            images,
            duplicates,
            quarantined,
            labels=labels,
            slices=listing.slices,
            # Of the audit what matters to later steps shows in the images: a policy that changes none changes nothing.
            params=params.model_dump(mode="json", exclude={"source", "audit"}),
        )
    told = {
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
    write_json(metrics, told | {f"found_{check.name}": len(check.found) for check in checks})
    say(
        f"ingest: {told['images']} images ({told['positive']} {labels[1]}, {told['negative']} {labels[0]}), "
        f"{told['refused']} refused, {told['ignored']} ignored, {told['duplicate_files']} duplicate files"
        + (f", {told['unverified']} without a checksum" if told["unverified"] else "")
        + (f", {told['left_out']} left out" if left_out else "")
        + f"; the audit found {describe_findings(checks)}"
    )


def _labels(listing: Listing, params: Ingest, source: Source) -> tuple[str, str]:
    """(negative, positive)"""
    found = sorted({entry.label for entry in listing.entries})
    if len(found) != 2:
        names = ", ".join(found[:_SHOWN]) or "none"
        raise DataError(f"{source.name}: exactly two classes are needed, found {len(found)}: {names}")
    if params.positive not in found:
        raise DataError(f"ingest.positive: found {params.positive!r}; the classes of {source.name} are {found}")
    found.remove(params.positive)
    return found[0], params.positive


def _store(
    source: Source, listing: Listing, params: Ingest, draft: Path
) -> tuple[list[ImageRecord], dict[str, ImageStatistics], list[QuarantinedFile], list[Arrival]]:
    """Write every accepted file once; returns an image for every accepted file, repeated ones included, and its look
    by its SHA-256.
    """
    arriving = read_files(source, listing.entries, _limits(params), params.require_checksum)
    arriving = track(arriving, "ingest", len(listing.entries))
    places: dict[str, tuple[int, int]] = {}
    images: list[ImageRecord] = []
    looks: dict[str, ImageStatistics] = {}
    quarantined: list[QuarantinedFile] = []
    arrivals: list[Arrival] = []
    shards = ShardWriter(draft)
    for entry, one in zip(listing.entries, arriving, strict=True):
        seen = one.seen
        if seen.reason:
            quarantined.append(QuarantinedFile(one.key, entry.label, "refused", seen.reason, seen.sha256))
            continue
        if seen.sha256 not in places:
            places[seen.sha256] = shards.add(f"{seen.sha256}.{FORMATS[seen.format]}", one.data)
            looks[seen.sha256] = seen.look
        images.append(_image(entry, one, places[seen.sha256]))
        arrivals.append(Arrival(one.key, one.version, one.verified))
    shards.close()
    return images, looks, quarantined, arrivals


def _limits(params: Ingest) -> Limits:
    return Limits(params.max_bytes, params.max_pixels, params.min_side)


def _pixels(images: dict[str, ImageRecord], draft: Path, params: Ingest, sha256: str) -> Pixels | None:
    image = images.get(sha256)
    if image is None:
        return None
    return decode(read_member(draft, image.shard, image.offset, image.bytes, sha256), _limits(params)).pixels


def _image(entry: Entry, one: ReadFile, place: tuple[int, int]) -> ImageRecord:
    seen = one.seen
    return ImageRecord(
        seen.sha256,
        entry.key,
        entry.label,
        entry.group,
        entry.split,
        len(one.data),
        seen.width,
        seen.height,
        seen.mode,
        seen.format,
        seen.channels,
        seen.content,
        *place,
        entry.slices,
    )


def _check_refused(quarantined: list[QuarantinedFile], files: int, params: Ingest) -> None:
    refused = [item for item in quarantined if item.kind == "refused"]
    if len(refused) > params.max_refused_fraction * files:
        raise DataError(
            f"{len(refused)} of {files} files are refused, ingest.max_refused_fraction allows "
            f"{params.max_refused_fraction}; mend or remove them, or raise it:{_first(refused)}"
        )


def _check_classes(
    images: list[ImageRecord], labels: tuple[str, str], params: Ingest, refused: list[QuarantinedFile]
) -> None:
    counts = {label: sum(image.label == label for image in images) for label in labels}
    if min(counts.values()) < params.min_per_class:
        found = ", ".join(f"{count} of {label}" for label, count in counts.items())
        raise DataError(
            f"too few different images: {found}; ingest.min_per_class asks for {params.min_per_class} of each"
            + (f"; {len(refused)} files were refused:{_first(refused)}" if refused else "")
        )


def _first(refused: list[QuarantinedFile]) -> str:
    return listed("", [f"{item.key}: {item.reason}" for item in sorted(refused)], _SHOWN)


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(ingest)
