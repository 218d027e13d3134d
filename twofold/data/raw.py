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

import csv
import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from twofold.core.artifacts import read_meta, write_all, write_meta
from twofold.core.errors import ArtifactError
from twofold.data.decoding import FORMATS

KIND, VERSION = "raw", 1
MANIFEST, DUPLICATES, QUARANTINE = "manifest.parquet", "duplicates.csv", "quarantine.csv"
VERSIONS = "versions.csv"
SHARD_BYTES = 256 * 1024 * 1024
_AT_ONCE = 256 * 1024  # bytes that are written together, at least
_BLOCK, _RECORD, _NAME = 512, 10240, 100  # bytes of a tar file: what it is measured in, and room for a name


class Image(NamedTuple):
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


class Quarantined(NamedTuple):
    """A row of `quarantine.csv`; `kind` is `refused`, `ignored` for what was never meant as an image, or `audit` for an
    image that a check's policy left out.
    """

    key: str
    label: str
    kind: str
    reason: str
    sha256: str


class Shards:
    """Writes the shards of a folder, member after member; what was added can be read after `close`."""

    def __init__(self, directory: Path, limit: int = SHARD_BYTES) -> None:
        self._directory = directory
        self._limit = limit
        self._number = -1
        self._size = self._written = 0
        self._waiting: list[bytes] = []
        self._stream: FileIO | None = None

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Append a file; returns (shard, offset of its bytes)."""
        padded = -len(data) % _BLOCK
        stream = self._stream
        if stream is None or (self._size and self._size + _BLOCK + len(data) + padded > self._limit):
            stream = self._next()
        offset = self._size + _BLOCK
        self._waiting += [_header(name, len(data)), data, bytes(padded)]
        self._size = offset + len(data) + padded
        if self._size - self._written >= _AT_ONCE:
            self._write(stream)
        return self._number, offset

    def close(self) -> None:
        """End the last shard."""
        if self._stream is not None:
            end = self._size + 2 * _BLOCK
            self._waiting.append(bytes(2 * _BLOCK + -end % _RECORD))
            self._write(self._stream)
            self._stream.close()
            self._stream = None

    def _write(self, stream: FileIO) -> None:
        # In one piece: to go to the system, and to wait for the other threads afterwards, costs more than a copy.
        write_all(stream, b"".join(self._waiting))
        self._waiting.clear()
        self._written = self._size

    def _next(self) -> FileIO:
        self.close()
        self._number += 1
        self._size = self._written = 0
        self._stream = (self._directory / shard_name(self._number)).open("wb", buffering=0)
        return self._stream


class Raw(NamedTuple):
    """An opened `data/raw`: its folder, its meta.json, and its images sorted by sha256."""

    directory: Path
    meta: dict[str, Any]
    images: list[Image]

    @classmethod
    def open(cls, directory: Path) -> "Raw":
        """Read meta.json and the manifest.

        Raises:
            ArtifactError: it is missing, of another kind or version, or its manifest does not fit its meta.json.
        """
        meta = read_meta(directory, KIND, VERSION)
        try:
            table = pq.read_table(directory / MANIFEST, use_threads=False)
            names = [f"slice.{name}" for name in meta["slices"]]
            columns = [table.column(name).to_pylist() for name in Image._fields[:-1]]
            slices = [table.column(name).to_pylist() for name in names]
        except (OSError, KeyError, pa.ArrowInvalid) as error:
            raise ArtifactError(f"{directory / MANIFEST}: not the manifest that meta.json tells of: {error}") from None
        values = zip(*slices, strict=True) if slices else ((),) * table.num_rows
        images = [Image._make((*row, tuple(value))) for *row, value in zip(*columns, values, strict=True)]
        if fingerprint(images, meta["slices"]) != meta["fingerprint"]:
            raise ArtifactError(f"{directory / MANIFEST}: its fingerprint is not that of meta.json; run ingest again")
        return cls(directory, meta, images)

    def read(self, image: Image) -> bytes:
        """The bytes of an image's file, checked against its sha256."""
        return read_member(self.directory, image.shard, image.offset, image.bytes, image.sha256)


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"images-{number:05d}.tar"


def read_member(directory: Path, shard: int, offset: int, size: int, sha256: str) -> bytes:
    """The bytes of one image out of its shard.

    Raises:
        ArtifactError: the shard is missing or its bytes have changed.
    """
    path = directory / shard_name(shard)
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            data = stream.read(size)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; run ingest again") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ArtifactError(f"{path}: the bytes at {offset} are not those of {sha256}; run ingest again")
    return data


def _header(name: str, size: int) -> bytes:
    """What tarfile would write before a file of this name and size: mtime 0, uid 0, mode 0644.

    Made of one that it did write, as its own way takes longer than to write a photograph.
    """
    encoded, digits = name.encode("ascii"), b"%011o" % size
    if len(encoded) > _NAME or len(digits) > 11:
        raise ArtifactError(f"{name}: {size} bytes; a tar file takes names of {_NAME} letters and less than 8 GiB")
    mode, time, kind, total = _frame()
    checksum = b"%06o\0 " % (total + sum(encoded) + sum(digits))
    return b"".join((encoded.ljust(_NAME, b"\0"), mode, digits, time, checksum, kind))


@cache
def _frame() -> tuple[bytes, bytes, bytes, int]:
    """Of a tar header: what lies between name, size, checksum and end, and the sum of the bytes for the checksum."""
    header = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
    mode, time, kind = header[_NAME:124], header[135:148], header[156:]
    # The checksum's own field counts as eight spaces.
    return mode, time, kind, sum(mode) + sum(time) + sum(kind) + 8 * ord(" ")


def rewrite(directory: Path, images: Iterable[Image]) -> list[Image]:
    """Write the shards of a folder anew, with these images of theirs alone; returns them with their new places."""
    old = directory / "old"
    old.mkdir()
    for path in sorted(directory.glob("images-*.tar")):
        path.rename(old / path.name)
    shards, found = Shards(directory), []
    for image in sorted(images, key=lambda image: (image.shard, image.offset)):
        data = read_member(old, image.shard, image.offset, image.bytes, image.sha256)
        shard, offset = shards.add(f"{image.sha256}.{FORMATS[image.format]}", data)
        found.append(image._replace(shard=shard, offset=offset))
    shards.close()
    shutil.rmtree(old)
    return found


def fingerprint(images: Iterable[Image], slices: Sequence[str]) -> str:
    """SHA-256 over the sorted (sha256, label, group, slices, split) rows: what the data is, wherever it came from."""
    rows = sorted(
        json.dumps([i.sha256, i.label, i.group, list(zip(slices, i.slices, strict=True)), i.split]) for i in images
    )
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def write_tables(
    directory: Path,
    images: Sequence[Image],
    duplicates: Sequence[Duplicate],
    quarantined: Sequence[Quarantined],
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
        for name in Image._fields[:-1]
    }
    for place, name in enumerate(slices):
        columns[f"slice.{name}"] = pa.array([image.slices[place] for image in images], pa.string())
    pq.write_table(pa.table(columns), directory / MANIFEST, compression="zstd")
    write_csv(directory / DUPLICATES, Duplicate._fields, sorted(duplicates))
    write_csv(directory / QUARANTINE, Quarantined._fields, sorted(quarantined))
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


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file with a header and plain line ends."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file that `write_csv` wrote."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}") from None
