"""Reads and describes the artifact `data/raw`: the original image files in a few large shards.

The folder contains

- `images-00000.tar`…: shards that only grow at the end, members `<sha256>.<extension>`; for `tar` and WebDataset;
- `manifest.parquet`: one row for each image, sorted by sha256, with shard and offset of its bytes;
- `duplicates.csv`: files that repeat another one, and `quarantine.csv`: files that were refused or excluded;
- `versions.csv`, only for a versioned bucket: the version in which each object was fetched;
- `meta.json`: labels, slices, counts, and the fingerprint of the data.

Images are read by shard and offset, without scanning a shard.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from twofold.core.artifacts import read_meta, write_csv, write_meta
from twofold.core.errors import ArtifactError
from twofold.data.decoding import FORMATS
from twofold.data.shards import ShardWriter, read_member

KIND, VERSION = "raw", 1
MANIFEST, DUPLICATES, QUARANTINE = "manifest.parquet", "duplicates.csv", "quarantine.csv"
VERSIONS = "versions.csv"
# Of duplicates the one furthest from training stays: test before validation before train before no given split.
PRECEDENCE: dict[str | None, int] = {"test": 0, "validation": 1, "train": 2, None: 3}


class ImageRecord(NamedTuple):
    """One row of the manifest, without the names of the slices.

    `bytes`: the size of the file, stored at `shard` and `offset`. `width`, `height`: of the upright image. `content`:
    SHA-256 of the decoded pixels, equal for two files with the same picture.
    """

    sha256: str
    key: str
    label: str
    group: str | None
    split: str | None
    bytes: int
    width: int
    height: int
    mode: str
    format: str
    channels: int
    content: str
    shard: int
    offset: int
    slices: tuple[str | None, ...]


class Duplicate(NamedTuple):
    """A row of `duplicates.csv`: `key` has the same bytes as `of`, or only the same pixels; `kind` says which."""

    key: str
    sha256: str
    kind: str
    of: str
    of_sha256: str
    label: str


class QuarantinedFile(NamedTuple):
    """A row of `quarantine.csv`; `kind`: `refused`, `ignored` (not offered), or `audit` (excluded by a policy)."""

    key: str
    label: str
    kind: str
    reason: str
    sha256: str


class RawDataset(NamedTuple):
    """An opened `data/raw`: its folder, its meta.json, and its images sorted by sha256."""

    directory: Path
    meta: dict[str, Any]
    images: list[ImageRecord]

    @classmethod
    def open(cls, directory: Path) -> "RawDataset":
        """Read meta.json and the manifest.

        Raises:
            ArtifactError: it is missing, of another kind or version, or the manifest does not match meta.json.
        """
        meta = read_meta(directory, KIND, VERSION)
        try:
            table = pq.ParquetFile(directory / MANIFEST).read(use_threads=False)
            names = [*ImageRecord._fields[:-1], *(f"slice.{name}" for name in meta["slices"])]
            columns = [table.column(name).to_pylist() for name in names]
        except (OSError, KeyError, pa.ArrowInvalid) as error:
            raise ArtifactError(
                f"{directory / MANIFEST}: does not match meta.json: {error}; run ingest again"
            ) from None
        fields = len(ImageRecord._fields) - 1
        images = [ImageRecord._make((*row[:fields], row[fields:])) for row in zip(*columns, strict=True)]
        if fingerprint(images, meta["slices"]) != meta["fingerprint"]:
            raise ArtifactError(
                f"{directory / MANIFEST}: its fingerprint differs from that in meta.json; run ingest again"
            )
        return cls(directory, meta, images)

    def read(self, image: ImageRecord) -> bytes:
        """The bytes of an image's file, verified against its sha256."""
        return read_member(self.directory, image.shard, image.offset, image.bytes, image.sha256)


def rewrite_shards(directory: Path, images: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Rewrite the shards of a folder with only the given images; returns these with their new shard and offset."""
    old = directory / "old"
    old.mkdir()
    for path in sorted(directory.glob("images-*.tar")):
        path.rename(old / path.name)
    moved = copy_images(old, directory, images)
    shutil.rmtree(old)
    return moved


def copy_images(source: Path, target: Path, images: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Write shards with some images of another folder; returns these with their new shard and offset."""
    shards, copied = ShardWriter(target), []
    for image in sorted(images, key=lambda image: (image.shard, image.offset)):
        data = read_member(source, image.shard, image.offset, image.bytes, image.sha256)
        shard, offset = shards.add(f"{image.sha256}.{FORMATS[image.format]}", data)
        copied.append(image._replace(shard=shard, offset=offset))
    shards.close()
    return copied


def fingerprint(images: Iterable[ImageRecord], slices: Sequence[str]) -> str:
    """SHA-256 over the sorted rows (sha256, label, group, slices, split): the same data has the same fingerprint."""
    rows = sorted(
        json.dumps([i.sha256, i.label, i.group, list(zip(slices, i.slices, strict=True)), i.split]) for i in images
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def write_tables(
    directory: Path,
    images: Sequence[ImageRecord],
    duplicates: Sequence[Duplicate],
    quarantined: Sequence[QuarantinedFile],
    *,
    labels: tuple[str, str],
    slices: Sequence[str],
    params: Mapping[str, Any],
) -> dict[str, Any]:
    """Write every file of the artifact except the shards, and return the content of meta.json.

    Args:
        images: those in the shards of `directory`, one for every sha256.
        duplicates, quarantined: rows of the two CSV files, in any order.
        labels: the negative class, then the positive one.
        slices: names of the slice columns, in the order of each image's `slices`.
        params: the parameters of ingest, without the source's address.
    """
    images = sorted(images)
    types = {"bytes": pa.int64(), "offset": pa.int64(), "channels": pa.int8()}
    types |= dict.fromkeys(("width", "height", "shard"), pa.int32())
    columns = {
        name: pa.array([getattr(image, name) for image in images], types.get(name, pa.string()))
        for name in ImageRecord._fields[:-1]
    }
    for number, name in enumerate(slices):
        columns[f"slice.{name}"] = pa.array([image.slices[number] for image in images], pa.string())
    pq.write_table(pa.table(columns), directory / MANIFEST, compression="zstd")
    write_csv(directory / DUPLICATES, Duplicate._fields, sorted(duplicates))
    write_csv(directory / QUARANTINE, QuarantinedFile._fields, sorted(quarantined))
    values: dict[str, Any] = {
        "labels": list(labels),
        "positive": labels[1],
        "slices": list(slices),
        "fingerprint": fingerprint(images, slices),
        "n": len(images),
        "counts": {label: sum(image.label == label for image in images) for label in labels},
        "bytes": sum(image.bytes for image in images),
        "shards": 1 + max((image.shard for image in images), default=-1),
        "params": dict(params),
    }
    write_meta(directory, KIND, VERSION, **values)
    return values
