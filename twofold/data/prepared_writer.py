"""Writes `data/prepared`: plans the location of each image, writes pixels into the parts, and the index."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twofold.core.artifacts import write_all
from twofold.data.prepared import INDEX, part_name
from twofold.data.raw import ImageRecord
from twofold.data.resizing import Pixels
from twofold.data.thumbnails import Thumbnails

PART_BYTES = 256 * 1024 * 1024
Shape = tuple[int, int, int, int]


class PartLocation(NamedTuple):
    """Where the pixels of an image are stored."""

    part: int
    row: int
    channels: int


class Measurements(NamedTuple):
    """Measurements of a resized image."""

    content: str  # `pixel_digest` of its pixels
    thumbnail: Thumbnails | None  # for near duplicates; None if it was not requested
    brightness: float  # 0 to 1, see `preprocessing.brightness`
    values: tuple[int, ...] = ()  # for each channel the sum of its values; empty outside train
    squares: tuple[int, ...] = ()  # for each channel the sum of the squares of its values; empty outside train


def plan_parts(images: Sequence[ImageRecord], size: int) -> tuple[list[PartLocation], list[Shape]]:
    """Assign images to parts of one number of channels each, in the order given.

    Returns:
        The location of each image, and the shape (N, S, S, C) of each part.
    """
    shapes: list[Shape] = []
    locations: dict[int, Iterator[PartLocation]] = {}
    for channels in (1, 3):
        count, first = sum(image.channels == channels for image in images), len(shapes)
        capacity = max(1, PART_BYTES // (size * size * channels))
        shapes += [(min(capacity, count - start), size, size, channels) for start in range(0, count, capacity)]
        rows = (divmod(number, capacity) for number in range(count))
        locations[channels] = iter([PartLocation(first + part, row, channels) for part, row in rows])
    return [next(locations[image.channels]) for image in images], shapes


def create_part(path: Path, shape: Shape) -> None:
    """Create an array file of zeros, into which workers write rows."""
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
        )
        stream.truncate(stream.tell() + math.prod(shape))


def repack(
    directory: Path,
    images: Sequence[ImageRecord],
    places: Sequence[PartLocation],
    shapes: Sequence[Shape],
    stays: Sequence[int],
    size: int,
) -> tuple[list[PartLocation], list[Shape]]:
    """Rewrite the parts in a folder with only some of their images, as if the others had never been written.

    Args:
        images: all images of the parts, with `places` and `shapes` as `plan_parts` returned them.
        stays: ascending indices into `images` of those to keep.
        size: pixels of a side.

    Returns:
        The locations and shapes of the images that stay, as `plan_parts` returns them.
    """
    new_places, new_shapes = plan_parts([images[number] for number in stays], size)
    old_paths = [directory / part_name(number) for number in range(len(shapes))]
    new_paths = [directory / f"new-{number}" for number in range(len(new_shapes))]
    for path, shape in zip(new_paths, new_shapes, strict=True):
        create_part(path, shape)
    old = [np.load(path, mmap_mode="r") for path in old_paths]
    new = [np.load(path, mmap_mode="r+") for path in new_paths]
    for number, to in zip(stays, new_places, strict=True):
        new[to.part][to.row] = old[places[number].part][places[number].row]
    del old, new  # closes the memory maps
    for path in old_paths:
        path.unlink()
    for number, path in enumerate(new_paths):
        path.rename(directory / part_name(number))
    return new_places, new_shapes


def write_rows(path: Path, shape: Shape, rows: Iterable[tuple[int, Pixels]]) -> None:
    """Write images (S, S, C) into their rows of an array file."""
    row_bytes = math.prod(shape[1:])
    with path.open("r+b", buffering=0) as stream:
        header_bytes = stream.seek(0, os.SEEK_END) - math.prod(shape)
        for row, pixels in rows:
            stream.seek(header_bytes + row * row_bytes)
            write_all(stream, np.ascontiguousarray(pixels).data)


def write_index(
    directory: Path,
    images: Sequence[ImageRecord],
    splits: Sequence[str],
    places: Sequence[PartLocation],
    seen: Sequence[Measurements],
    units: Sequence[str | None],
    meta: Mapping[str, Any],
) -> None:
    """Write `index.parquet`, sorted by sha256.

    Args:
        units: see `split_leakage.sample_names`.
        meta: that of the raw data, with `positive` and `slices`.
    """
    rows = sorted(
        zip(images, splits, places, seen, units, image_sources(images), strict=True), key=lambda row: row[0].sha256
    )
    columns: dict[str, pa.Array] = {
        "sha256": pa.array([image.sha256 for image, *_ in rows], pa.string()),
        "label": pa.array([image.label for image, *_ in rows], pa.string()),
        "target": pa.array([int(image.label == meta["positive"]) for image, *_ in rows], pa.int8()),
        "split": pa.array([split for _, split, *_ in rows], pa.string()),
        "group": pa.array([image.group for image, *_ in rows], pa.string()),
        "width": pa.array([image.width for image, *_ in rows], pa.int32()),
        "height": pa.array([image.height for image, *_ in rows], pa.int32()),
        "mode": pa.array([image.mode for image, *_ in rows], pa.string()),
        "unit": pa.array([unit for *_, unit, _ in rows], pa.string()),
        "brightness": pa.array([measured.brightness for _, _, _, measured, *_ in rows], pa.float64()),
        "source": pa.array([source for *_, source in rows], pa.string()),
        "part": pa.array([place.part for _, _, place, *_ in rows], pa.int32()),
        "row": pa.array([place.row for _, _, place, *_ in rows], pa.int32()),
        "channels": pa.array([place.channels for _, _, place, *_ in rows], pa.int8()),
        "pixels": pa.array([measured.content for _, _, _, measured, *_ in rows], pa.string()),
    }
    for number, name in enumerate(meta["slices"]):
        columns[f"slice.{name}"] = pa.array([image.slices[number] for image, *_ in rows], pa.string())
    pq.write_table(pa.table(columns), directory / INDEX, compression="zstd")


def image_sources(images: Sequence[ImageRecord]) -> list[str | None]:
    """The source of each image by its key: the first folder in which the keys differ, or None.

    Folders named after the image's class or given split are ignored. `bad/line 1/a.png`, `good/line 2/b.png` and
    `good/c.png` have the sources "line 1", "line 2" and None.
    """
    # The names that people give to a folder of a split: train, training, val, valid, validation, test, testing.
    own = [[i.split, i.split[:3], i.split[:5], f"{i.split}ing"] if i.split else [] for i in images]
    folders = [
        [part for part in PurePosixPath(i.key).parent.parts if part != i.label and part.casefold() not in names]
        for i, names in zip(images, own, strict=True)
    ]
    shared = 0
    while len({tuple(parts[: shared + 1]) for parts in folders}) == 1 and shared < len(folders[0]):
        shared += 1
    return [parts[shared] if len(parts) > shared else None for parts in folders]
