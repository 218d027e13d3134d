"""Writes `data/prepared`: where each image goes, its pixels in the parts, and the index (see `prepared.py`)."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twofold.core.artifacts import write_all
from twofold.data.prepared import INDEX, part_name
from twofold.data.raw import ImageRecord
from twofold.data.resizing import Pixels

PART_BYTES = 256 * 1024 * 1024


class PartLocation(NamedTuple):
    """Where the pixels of an image lie."""

    part: int
    row: int
    channels: int


class HasMeasurements(Protocol):
    """What the index keeps of how an image looks: `content` as of `seen.content_of`, `brightness` 0 to 1."""

    @property
    def content(self) -> str: ...

    @property
    def brightness(self) -> float: ...


def plan_parts(images: Sequence[ImageRecord], size: int) -> tuple[list[PartLocation], list[tuple[int, int, int, int]]]:
    """Lay images out in parts, each of one number of channels, in the order given.

    Returns:
        The place of each image, and the shape (N, S, S, C) of each part.
    """
    counts = {c: sum(image.channels == c for image in images) for c in (1, 3)}
    first: dict[int, int] = {}
    shapes: list[tuple[int, int, int, int]] = []
    for channels, count in counts.items():
        first[channels] = len(shapes)
        room = _room(size, channels)
        shapes += [(min(room, count - start), size, size, channels) for start in range(0, count, room)]
    places: list[PartLocation] = []
    done = {1: 0, 3: 0}
    for image in images:
        channels = image.channels
        part, row = divmod(done[channels], _room(size, channels))
        places.append(PartLocation(first[channels] + part, row, channels))
        done[channels] += 1
    return places, shapes


def create_part(path: Path, shape: tuple[int, int, int, int]) -> None:
    """Make an array file of zeros, which workers fill in row by row."""
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
        )
        stream.truncate(stream.tell() + math.prod(shape))


def repack(
    directory: Path,
    images: Sequence[ImageRecord],
    places: Sequence[PartLocation],
    shapes: Sequence[tuple[int, int, int, int]],
    stays: Sequence[int],
    size: int,
) -> tuple[list[PartLocation], list[tuple[int, int, int, int]]]:
    """Take the rows of some images out of the parts in a folder, as if they had never been written.

    Args:
        directory: with the parts.
        images: of the rows, with `places` and `shapes` as `plan` returned them for all of them.
        stays: places in `images` of those that stay, ascending.
        size: pixels of a side.

    Returns:
        What `plan` returns for those that stay.
    """
    new_places, new_shapes = plan_parts([images[place] for place in stays], size)
    old = [np.load(directory / part_name(number), mmap_mode="r") for number in range(len(shapes))]
    for number, shape in enumerate(new_shapes):
        create_part(directory / f"new-{number}", shape)
    new = [np.load(directory / f"new-{number}", mmap_mode="r+") for number in range(len(new_shapes))]
    for place, to in zip(stays, new_places, strict=True):
        new[to.part][to.row] = old[places[place].part][places[place].row]
    del old, new  # closes the maps
    for number in range(len(shapes)):
        (directory / part_name(number)).unlink()
    for number in range(len(new_shapes)):
        (directory / f"new-{number}").rename(directory / part_name(number))
    return new_places, new_shapes


def write_rows(path: Path, shape: tuple[int, int, int, int], rows: Iterable[tuple[int, Pixels]]) -> None:
    """Put images (S, S, C) into their rows of an array file."""
    length = math.prod(shape[1:])
    with path.open("r+b", buffering=0) as stream:
        begin = stream.seek(0, os.SEEK_END) - math.prod(shape)
        for row, pixels in rows:
            stream.seek(begin + row * length)
            write_all(stream, np.ascontiguousarray(pixels).data)


def write_index(
    directory: Path,
    images: Sequence[ImageRecord],
    splits: Sequence[str],
    places: Sequence[PartLocation],
    seen: Sequence[HasMeasurements],
    meta: Mapping[str, Any],
) -> None:
    """Write `index.parquet`, sorted by sha256; `meta` is that of the raw data, and says `positive` and `slices`."""
    order = sorted(range(len(images)), key=lambda number: images[number].sha256)
    rows = [(images[number], splits[number], places[number]) for number in order]
    origins = image_sources(images)
    columns: dict[str, pa.Array] = {
        "sha256": pa.array([image.sha256 for image, _, _ in rows], pa.string()),
        "label": pa.array([image.label for image, _, _ in rows], pa.string()),
        "target": pa.array([int(image.label == meta["positive"]) for image, _, _ in rows], pa.int8()),
        "split": pa.array([split for _, split, _ in rows], pa.string()),
        "group": pa.array([image.group for image, _, _ in rows], pa.string()),
        "width": pa.array([image.width for image, _, _ in rows], pa.int32()),
        "height": pa.array([image.height for image, _, _ in rows], pa.int32()),
        "mode": pa.array([image.mode for image, _, _ in rows], pa.string()),
        "brightness": pa.array([seen[number].brightness for number in order], pa.float64()),
        "source": pa.array([origins[number] for number in order], pa.string()),
        "part": pa.array([place.part for _, _, place in rows], pa.int32()),
        "row": pa.array([place.row for _, _, place in rows], pa.int32()),
        "channels": pa.array([place.channels for _, _, place in rows], pa.int8()),
        "pixels": pa.array([seen[number].content for number in order], pa.string()),
    }
    for number, name in enumerate(meta["slices"]):
        columns[f"slice.{name}"] = pa.array([image.slices[number] for image, _, _ in rows], pa.string())
    pq.write_table(pa.table(columns), directory / INDEX, compression="zstd")


def image_sources(images: Sequence[ImageRecord]) -> list[str | None]:
    """Where each image comes from, as far as its key tells: the first folder in which the keys differ.

    A folder that is named like the image's class says nothing of its own. `bad/line 1/a.png`, `good/line 2/b.png` and
    `good/c.png` come from "line 1", "line 2" and None.
    """
    folders = [[part for part in PurePosixPath(i.key).parent.parts if part != i.label] for i in images]
    shared = 0
    while len({tuple(parts[: shared + 1]) for parts in folders}) == 1 and shared < len(folders[0]):
        shared += 1
    return [parts[shared] if len(parts) > shared else None for parts in folders]


def _room(size: int, channels: int) -> int:
    return max(1, PART_BYTES // (size * size * channels))
