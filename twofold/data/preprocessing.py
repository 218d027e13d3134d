"""Resizes the images of the manifest in many processes, measures them and writes the parts of `data/prepared`.

Workers write rows directly into the array files and return only sums and thumbnails, so memory does not grow with the
pixels. Neither the number of workers nor their speed changes a byte of the result.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from twofold.core.code_digest import code_digest
from twofold.core.errors import ArtifactError, DataError
from twofold.core.progress import track
from twofold.data.decode_cache import decoder_versions, pixel_digest
from twofold.data.decoding import Limits, prepare
from twofold.data.prepared import part_name
from twofold.data.prepared_writer import Measurements, PartLocation, Shape, create_part, plan_parts, write_rows
from twofold.data.process_pool import batch_files, map_in_order, worker_count
from twofold.data.raw import ImageRecord
from twofold.data.resizing import Fit, Pixels
from twofold.data.shards import read_member
from twofold.data.splits import TRAIN
from twofold.data.thumbnails import SIDE, thumbnail
from twofold.storage import cache

_TASK_IMAGES = 32
_BATCH_IMAGES = 16  # of a task whose pixels a worker keeps in memory at once
KIND = "pixels"
_DIGEST, _NUMBER, _THUMBNAIL = 32, 8, 2 * SIDE * SIDE  # bytes
_LEVELS = np.arange(256, dtype=np.int64)
Job = tuple[ImageRecord, PartLocation]


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
        images: of the manifest, in the order of the rows.
        draft: the folder for the parts.
        raw, size, fit, limits, thumbnails: as for `preprocess_images`.

    Returns:
        Locations and shapes as `plan_parts` returns them, and the measurements of each image.

    Raises:
        DataError: an image cannot be decoded.
        ArtifactError: a shard has changed, or decoding an image gives another shape than ingest recorded.
    """
    places, shapes = plan_parts(images, size)
    for number, shape in enumerate(shapes):
        create_part(draft / part_name(number), shape)
    jobs = list(zip(images, places, strict=True))
    resize = partial(preprocess_images, raw=raw, size=size, fit=fit, limits=limits, thumbnails=thumbnails)
    work = partial(_write_task, resize=resize, draft=draft, shapes=shapes)
    tasks, count = list(batch_files(jobs, lambda job: job[0].bytes, _TASK_IMAGES)), worker_count()
    order = _apart(len(tasks), count)
    batches = map_in_order(work, (tasks[number] for number in order), count, _split_by_file)
    done = dict(zip(order, track(batches, "preprocess", len(jobs), per_item=_TASK_IMAGES), strict=True))
    measured = [one for number in range(len(tasks)) for one in done[number]]
    for number, split in enumerate(splits):
        if split != TRAIN:
            measured[number] = measured[number]._replace(values=(), squares=())
    return places, shapes, measured


def _apart(tasks: int, count: int) -> list[int]:
    """The order in which tasks start: those of one worker are neighbours, and far from those of the other workers.

    Two workers that write to one file wait for each other, because Linux locks a file during a write.
    """
    each = -(-tasks // count)
    return [number for first in range(each) for number in range(first, tasks, each)]


def _split_by_file(task: list[Job]) -> list[tuple[str, list[Job]]]:
    return [(image.key, [(image, place)]) for image, place in task]


def _write_task(
    task: Sequence[Job],
    resize: Callable[[Sequence[ImageRecord]], list[tuple[Pixels, Measurements]]],
    draft: Path,
    shapes: Sequence[Shape],
) -> list[Measurements]:
    measured: list[Measurements] = []
    for start in range(0, len(task), _BATCH_IMAGES):
        images, places = zip(*task[start : start + _BATCH_IMAGES], strict=True)
        resized = resize(images)
        for number in sorted({place.part for place in places}):
            pairs = zip(places, resized, strict=True)
            rows = [(place.row, pixels) for place, (pixels, _) in pairs if place.part == number]
            write_rows(draft / part_name(number), shapes[number], rows)
        measured += [one for _, one in resized]
    return measured


def preprocess_images(
    images: Sequence[ImageRecord], raw: Path, size: int, fit: Fit, limits: Limits, *, thumbnails: bool = True
) -> list[tuple[Pixels, Measurements]]:
    """Resize images: the pixels (S, S, C) of each, C 1 or 3, with their measurements.

    Images that the cache lacks are read and decoded.

    Args:
        images: of the manifest.
        raw: the folder with the shards.
        size: pixels of a side.
        fit: as for `resize`.
        limits: those of ingest.
        thumbnails: whether to compute thumbnails; one takes about a tenth of the time of a small image.

    Raises:
        DataError: an image cannot be decoded.
        ArtifactError: a shard has changed, or decoding an image gives another shape than ingest recorded.
    """
    parts = _key_parts(size, fit, limits)
    shapes = [f"{image.width} {image.height} {image.channels}" for image in images]
    keys = [cache.key(KIND, *parts, image.sha256, shape) for image, shape in zip(images, shapes, strict=True)]
    known = cache.lookup(keys)
    results: list[tuple[Pixels, Measurements]] = []
    fresh: list[tuple[str, str, bytes]] = []
    for image, key in zip(images, keys, strict=True):
        result = _unpack(known[key], size, image.channels, thumbnails) if key in known else None
        if result is None:
            result = _preprocess(image, raw, size, fit, limits, thumbnails)
            fresh.append((key, image.sha256, _pack(*result)))
        results.append(result)
    cache.store(fresh, KIND)
    return results


def brightness(grey: Pillow.Image) -> float:
    """The mean of a grey image, 0 (black) to 1 (white); of the whole picture, before it is cropped or padded."""
    # An integer sum, so that only the picture decides the last digit.
    total = int(np.array(grey.histogram(), np.int64) @ _LEVELS)
    return float(total / (255 * grey.width * grey.height))


@functools.cache
def _key_parts(size: int, fit: Fit, limits: Limits) -> list[str]:
    return [str(size), fit, str(astuple(limits)), code_digest(__name__), *decoder_versions()]


def _preprocess(
    image: ImageRecord, raw: Path, size: int, fit: Fit, limits: Limits, thumbnails: bool
) -> tuple[Pixels, Measurements]:
    data = read_member(raw, image.shard, image.offset, image.bytes, image.sha256)
    try:
        resized = prepare(data, limits, size, fit)
    except DataError as error:
        raise DataError(f"{image.key} ({image.sha256}): {error}; ingest accepted it: run ingest again") from None
    found = (resized.height, resized.width, resized.pixels.shape[2])
    recorded = (image.height, image.width, image.channels)
    if found != recorded:
        raise ArtifactError(
            f"{image.key} ({image.sha256}): decodes to the shape {found}, ingest recorded {recorded}; "
            "run ingest again with this version of Pillow"
        )
    # Integers, so that the order in which images are summed cannot change the last digit.
    counts = np.array(resized.image.histogram(), np.int64).reshape(-1, len(_LEVELS))
    grey = resized.upright.convert("L")
    small = thumbnail(grey) if thumbnails else None
    values, squares = (tuple((counts @ weights).tolist()) for weights in (_LEVELS, _LEVELS**2))
    return resized.pixels, Measurements(pixel_digest(resized.pixels), small, brightness(grey), values, squares)


def _pack(pixels: Pixels, measured: Measurements) -> bytes:
    content, small, light, values, squares = measured
    sums = np.array([values, squares], np.int64).tobytes()
    thumbnail = b"" if small is None else small.tobytes()
    return b"".join((bytes.fromhex(content), np.float64(light).tobytes(), sums, thumbnail, pixels.tobytes()))


def _unpack(value: bytes, size: int, channels: int, thumbnails: bool) -> tuple[Pixels, Measurements] | None:
    """The inverse of `_pack`; None if the value has another length, or lacks a requested thumbnail."""
    header = _DIGEST + _NUMBER * (1 + 2 * channels)
    count = size * size * channels
    if len(value) != header + _THUMBNAIL + count and (thumbnails or len(value) != header + count):
        return None
    light = float(np.frombuffer(value, np.float64, 1, _DIGEST)[0])
    values, squares = np.frombuffer(value, np.int64, 2 * channels, _DIGEST + _NUMBER).reshape(2, channels).tolist()
    small = np.frombuffer(value, np.float16, SIDE * SIDE, header).reshape(SIDE, SIDE) if thumbnails else None
    pixels = np.frombuffer(value, np.uint8, offset=len(value) - count).reshape(size, size, channels)
    return pixels, Measurements(value[:_DIGEST].hex(), small, light, tuple(values), tuple(squares))
