"""The artifact `data/raw`: the images as they came, in few large files.

In: images and what is known of each. Out: a folder with

- `images-00000.tar`…: shards that only ever grow at the end, members `<sha256>.<extension>`; `tar` and WebDataset
  read them;
- `manifest.parquet`: one row an image, sorted by sha256, with shard and offset of its bytes;
- `duplicates.csv`: files that repeat another one, and `quarantine.csv`: files that were refused or left aside;
- `versions.csv`, from a versioned bucket alone: in which version each object was fetched;
- `meta.json`: labels, slices, counts, and the fingerprint of the data.

Images are read by shard and offset; nothing has to scan a shard.
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


class ImageRecord(NamedTuple):
    """One row of the manifest, without the slices' names.

    `bytes`, `shard` and `offset` say where the file lies; `width` and `height` are those of the upright image;
    `content` is the SHA-256 of the decoded pixels, the same for two files that show the same picture.
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
    """A row of `duplicates.csv`: `key` repeats `of`, as a file (`bytes`) or only to the eye (`pixels`)."""

    key: str
    sha256: str
    kind: str
    of: str
    of_sha256: str
    label: str


class QuarantinedFile(NamedTuple):
    """A row of `quarantine.csv`; `kind` is `refused`, `ignored` for what was never meant as an image, or `audit` for an
    image that a check's policy left out.
    """

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
            ArtifactError: it is missing, of another kind or version, or its manifest does not fit its meta.json.
        """
        meta = read_meta(directory, KIND, VERSION)
        try:
            table = pq.read_table(directory / MANIFEST, use_threads=False)
            names = [f"slice.{name}" for name in meta["slices"]]
            columns = [table.column(name).to_pylist() for name in ImageRecord._fields[:-1]]
            slices = [table.column(name).to_pylist() for name in names]
        except (OSError, KeyError, pa.ArrowInvalid) as error:
            raise ArtifactError(f"{directory / MANIFEST}: not the manifest that meta.json tells of: {error}") from None
        values = zip(*slices, strict=True) if slices else ((),) * table.num_rows
        images = [ImageRecord._make((*row, tuple(value))) for *row, value in zip(*columns, values, strict=True)]
        if fingerprint(images, meta["slices"]) != meta["fingerprint"]:
            raise ArtifactError(f"{directory / MANIFEST}: its fingerprint is not that of meta.json; run ingest again")
        return cls(directory, meta, images)

    def read(self, image: ImageRecord) -> bytes:
        """The bytes of an image's file, checked against its sha256."""
        return read_member(self.directory, image.shard, image.offset, image.bytes, image.sha256)


def rewrite_shards(directory: Path, images: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Write the shards of a folder anew, with these images of theirs alone; returns them with their new places."""
    old = directory / "old"
    old.mkdir()
    for path in sorted(directory.glob("images-*.tar")):
        path.rename(old / path.name)
    shards, found = ShardWriter(directory), []
    for image in sorted(images, key=lambda image: (image.shard, image.offset)):
        data = read_member(old, image.shard, image.offset, image.bytes, image.sha256)
        shard, offset = shards.add(f"{image.sha256}.{FORMATS[image.format]}", data)
        found.append(image._replace(shard=shard, offset=offset))
    shards.close()
    shutil.rmtree(old)
    return found


def fingerprint(images: Iterable[ImageRecord], slices: Sequence[str]) -> str:
    """SHA-256 over the sorted (sha256, label, group, slices, split) rows: what the data is, wherever it came from."""
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
    """Write everything beside the shards, and return the content of meta.json.

    Args:
        directory: where the shards lie.
        images: of those shards, one for every sha256.
        duplicates: rows of `duplicates.csv`, in any order.
        quarantined: rows of `quarantine.csv`, in any order.
        labels: the negative class, then the positive one.
        slices: names of the slice columns, in the order of each image's `slices`.
        params: the section that ingest ran with, without the source's address.
    """
    images = sorted(images)
    integers = {"bytes": pa.int64(), "width": pa.int32(), "height": pa.int32(), "channels": pa.int8()}
    integers |= {"shard": pa.int32(), "offset": pa.int64()}
    columns = {
        name: pa.array([getattr(image, name) for image in images], integers.get(name, pa.string()))
        for name in ImageRecord._fields[:-1]
    }
    for place, name in enumerate(slices):
        columns[f"slice.{name}"] = pa.array([image.slices[place] for image in images], pa.string())
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
