"""The parts of `data/prepared` on their way: in come images of the manifest, out come their rows and what was seen.

Workers write their rows straight into the array files; only counts and sums travel back, so memory does not grow with
the data, and neither the number of workers nor their speed changes a byte.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from twofold.core.code_digest import code_digest
from twofold.core.errors import ArtifactError, DataError
from twofold.core.progress import track
from twofold.data.decode_cache import decoder_versions, pixel_digest
from twofold.data.decoding import Limits, prepare
from twofold.data.prepared import part_name
from twofold.data.prepared_writer import PartLocation, create_part, plan_parts, write_rows
from twofold.data.process_pool import map_in_order, worker_count
from twofold.data.raw import ImageRecord
from twofold.data.resizing import Fit, Pixels, level_histogram
from twofold.data.shards import read_member
from twofold.data.splits import TRAIN
from twofold.data.thumbnails import SIDE, Thumbnails, grey_thumbnail, to_grey
from twofold.storage import cache

_TASK_IMAGES, _TASK_BYTES = 32, 8 * 1024 * 1024
_AT_ONCE = 16  # images of a task whose pixels a worker holds together
Shape = tuple[int, int, int, int]
KIND = "pixels"
_DIGEST, _NUMBER, _THUMBNAIL = 32, 8, 2 * SIDE * SIDE  # bytes
_LEVELS = np.arange(256, dtype=np.int64)


class Job(NamedTuple):
    """One image to prepare: its row in the manifest, where its pixels go, and whether they count for statistics."""

    image: ImageRecord
    place: PartLocation
    train: bool


class PreprocessedImage(NamedTuple):
    """An image made ready.

    Attributes:
        pixels: (S, S, C) uint8 with C 1 or 3.
        content: of the pixels, see `seen.content_of`.
        thumbnail: by which near duplicates are found; None where nobody looks for them.
        brightness: see `brightness`.
        values, squares: (C,) int64, the sums over the pixels of each channel's values, and of their squares.
    """

    pixels: Pixels
    content: str
    thumbnail: Thumbnails | None
    brightness: float
    values: NDArray[np.int64]
    squares: NDArray[np.int64]


class Measurements(NamedTuple):
    """Of one image: `preparing.Ready` without its pixels, and with sums of train alone.

    `values`, `squares`: of each channel's values over the pixels, and of their squares.
    """

    content: str
    thumbnail: Thumbnails | None
    brightness: float
    values: tuple[int, ...] = ()
    squares: tuple[int, ...] = ()


def write_parts(
    images: Sequence[ImageRecord],
    splits: Sequence[str],
    raw: Path,
    draft: Path,
    *,
    size: int,
    fit: Fit,
    limits: Limits,
    thumbnails: bool = True,
) -> tuple[list[PartLocation], list[Shape], list[Measurements]]:
    """Write the pixels of every image into parts.

    Args:
        images: of the manifest of `raw`, in the order of the rows.
        splits: of each image.
        raw: the folder with the shards.
        draft: where the parts are made.
        size, fit, limits, thumbnails: as for `preparing.ready`.

    Returns:
        What `prepared.plan` returns, and what was seen of each image.

    Raises:
        DataError: an image cannot be decoded.
        ArtifactError: a shard has changed, or an image decodes otherwise than ingest saw it.
    """
    places, shapes = plan_parts(images, size)
    for number, shape in enumerate(shapes):
        create_part(draft / part_name(number), shape)
    jobs = [Job(*job) for job in zip(images, places, [split == TRAIN for split in splits], strict=True)]
    made = partial(preprocess_images, raw=raw, size=size, fit=fit, limits=limits, thumbnails=thumbnails)
    work = partial(_prepare, made=made, draft=draft, shapes=shapes)
    tasks, count = list(_tasks(jobs)), worker_count()
    order = _apart(len(tasks), count)
    batches = map_in_order(work, (tasks[number] for number in order), count, _files)
    done = dict(zip(order, track(batches, "preprocess", len(jobs), per_item=_TASK_IMAGES), strict=True))
    return places, shapes, [seen for number in range(len(tasks)) for seen in done[number]]


def _tasks(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    task: list[Job] = []
    total = 0
    for job in jobs:
        if len(task) == _TASK_IMAGES or (task and total + job.image.bytes > _TASK_BYTES):
            yield task
            task, total = [], 0
        task.append(job)
        total += job.image.bytes
    if task:
        yield task


def _apart(tasks: int, count: int) -> list[int]:
    """The numbers of the tasks in the order in which they are begun: each worker's lie together, and far from the rest.

    Two workers that write to one file wait for each other, as Linux locks a file while it is written to.
    """
    each = -(-tasks // count)
    return [number for first in range(each) for number in range(first, tasks, each)]


def _files(task: list[Job]) -> list[tuple[str, list[Job]]]:
    return [(job.image.key, [job]) for job in task]


def _prepare(
    task: Sequence[Job],
    made: Callable[[list[ImageRecord]], list[PreprocessedImage]],
    draft: Path,
    shapes: Sequence[Shape],
) -> list[Measurements]:
    seen: list[Measurements] = []
    for start in range(0, len(task), _AT_ONCE):
        jobs = task[start : start + _AT_ONCE]
        found = made([job.image for job in jobs])
        for number in sorted({job.place.part for job in jobs}):
            here = [place for place, job in enumerate(jobs) if job.place.part == number]
            rows = [(jobs[place].place.row, found[place].pixels) for place in here]
            write_rows(draft / part_name(number), shapes[number], rows)
        seen += [_seen(one, job.train) for job, one in zip(jobs, found, strict=True)]
    return seen


def _seen(one: PreprocessedImage, train: bool) -> Measurements:
    if not train:
        return Measurements(one.content, one.thumbnail, one.brightness)
    return Measurements(
        one.content, one.thumbnail, one.brightness, tuple(one.values.tolist()), tuple(one.squares.tolist())
    )


def preprocess_images(
    images: Sequence[ImageRecord], raw: Path, size: int, fit: Fit, limits: Limits, *, thumbnails: bool = True
) -> list[PreprocessedImage]:
    """The images, in their order; those that the memo lacks are read and decoded.

    Args:
        images: of the manifest of `raw`.
        raw: the folder with the shards.
        size: pixels of a side.
        fit: as for `scaling.resize`.
        limits: those of ingest.
        thumbnails: whether near duplicates are looked for; one takes about a tenth of the time of a small image.

    Raises:
        DataError: an image cannot be decoded.
        ArtifactError: a shard has changed, or an image decodes otherwise than ingest saw it.
    """
    fixed = _circumstances(size, fit, limits)
    shapes = [f"{image.width} {image.height} {image.channels}" for image in images]
    keys = [cache.key(KIND, *fixed, image.sha256, shape) for image, shape in zip(images, shapes, strict=True)]
    known = cache.lookup(keys)
    found: list[PreprocessedImage] = []
    fresh: list[tuple[str, str, bytes]] = []
    for image, key in zip(images, keys, strict=True):
        one = _unpacked(known[key], size, image.channels, thumbnails) if key in known else None
        if one is None:
            one = _made(image, raw, size, fit, limits, thumbnails)
            fresh.append((key, image.sha256, _packed(one)))
        found.append(one)
    cache.store(fresh, KIND)
    return found


def brightness(pixels: Pixels) -> float:
    """The mean of the grey image (Rec. 601 luma) as it came, nothing cut off or added: 0 (black) to 1 (white)."""
    return _brightness(to_grey(pixels))


@functools.cache
def _circumstances(size: int, fit: Fit, limits: Limits) -> list[str]:
    return [str(size), fit, str(astuple(limits)), code_digest(__name__), *decoder_versions()]


def _made(image: ImageRecord, raw: Path, size: int, fit: Fit, limits: Limits, thumbnails: bool) -> PreprocessedImage:
    data = read_member(raw, image.shard, image.offset, image.bytes, image.sha256)
    try:
        made = prepare(data, limits, size, fit)
    except DataError as error:
        raise DataError(f"{image.key} ({image.sha256}): {error}; ingest accepted it: run ingest again") from None
    found = (made.height, made.width, made.pixels.shape[2])
    if found != (image.height, image.width, image.channels):
        raise ArtifactError(
            f"{image.key} ({image.sha256}): decodes as {found}, ingest saw "
            f"{(image.height, image.width, image.channels)}; run ingest again with this version of Pillow"
        )
    # Whole numbers, so that the order in which images are added up cannot change the last digit.
    counts = level_histogram(made.pixels)
    grey = made.upright.convert("L")
    small = grey_thumbnail(grey) if thumbnails else None
    light = _brightness(grey)
    return PreprocessedImage(
        made.pixels, pixel_digest(made.pixels), small, light, counts @ _LEVELS, counts @ _LEVELS**2
    )


def _brightness(grey: Pillow.Image) -> float:
    # Whole numbers, so that nothing but the picture decides the last digit.
    total = int(np.array(grey.histogram(), np.int64) @ _LEVELS)
    return float(total / (255 * grey.width * grey.height))


def _packed(one: PreprocessedImage) -> bytes:
    numbers = bytes.fromhex(one.content) + np.float64(one.brightness).tobytes()
    small = b"" if one.thumbnail is None else one.thumbnail.tobytes()
    return b"".join((numbers, one.values.tobytes(), one.squares.tobytes(), small, one.pixels.tobytes()))


def _unpacked(value: bytes, size: int, channels: int, thumbnails: bool) -> PreprocessedImage | None:
    """What `ready` kept, whose length tells whether a thumbnail is in it; None if it is something else, or if one is
    wanted that is not there.
    """
    bare = _DIGEST + _NUMBER * (1 + 2 * channels)
    count = size * size * channels
    if len(value) != bare + _THUMBNAIL + count and (thumbnails or len(value) != bare + count):
        return None
    sums = np.frombuffer(value, np.int64, 2 * channels, _DIGEST + _NUMBER)
    small = np.frombuffer(value, np.float16, SIDE * SIDE, bare).reshape(SIDE, SIDE) if thumbnails else None
    pixels = np.frombuffer(value, np.uint8, offset=len(value) - count).reshape(size, size, channels)
    seen = float(np.frombuffer(value, np.float64, 1, _DIGEST)[0])
    return PreprocessedImage(pixels, value[:_DIGEST].hex(), small, seen, sums[:channels], sums[channels:])
