"""preprocess: decide the splits, and turn every image into uint8 pixels of one size.

In: `data/raw`. Out: `data/prepared` (see `twofold/prepared.py`).

Workers write their rows straight into the array files; only counts and sums travel back, so memory does not grow with
the data, and neither the number of workers nor their speed changes a byte.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from twofold import images as decoding
from twofold.artifacts import publish, write_json, write_meta
from twofold.errors import ArtifactError, DataError
from twofold.images import Limits, decode, resize
from twofold.params import Fraction, Integer, Section, Text
from twofold.pool import ordered, workers
from twofold.prepared import KIND, LEFT_OUT, VERSION, Place, create_part, part_name, plan, write_index, write_row
from twofold.progress import say, track
from twofold.raw import Image, Raw, read_member, write_csv
from twofold.splits import SPLITS, TRAIN, LeftOut, assign, check, groups_across, repeats

_TASK_IMAGES, _TASK_BYTES = 16, 8 * 1024 * 1024
_LEVELS = np.arange(256, dtype=np.int64)
Shape = tuple[int, int, int, int]


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

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> Self:
        if self.test_fraction + self.validation_fraction >= 1:
            raise ValueError("test_fraction + validation_fraction must be below 1, so that some images train")
        return self


class Job(NamedTuple):
    """One image to prepare: its row in the manifest, where its pixels go, and whether they count for statistics."""

    image: Image
    place: Place
    train: bool


class Sums(NamedTuple):
    """Of the pixels of train: how many images, and the sums of values and of their squares for each channel."""

    images: int
    values: tuple[int, ...]
    squares: tuple[int, ...]


def preprocess(params: Preprocess, raw: Path, *, data: Path, metrics: Path) -> None:
    """Assign splits, leave repeats out, resize every image and measure the channels of train.

    Raises:
        DataError: a split lacks a class, or an image cannot be decoded as ingest decoded it.
        ArtifactError: `raw` is not what ingest wrote.
    """
    source = Raw.open(raw)
    # In the order of the shards, which makes reading sequential.
    images = sorted(source.images, key=lambda image: (image.shard, image.offset))
    splits = assign(images, test=params.test_fraction, validation=params.validation_fraction, salt=params.split_salt)
    left_out = repeats(images, splits)
    crossing = groups_across(images, splits)
    kept = [place for place in range(len(images)) if place not in left_out]
    images, splits = [images[place] for place in kept], [splits[place] for place in kept]
    counts = check([image.label for image in images], splits, source.meta["labels"])
    places, shapes = plan(images, params.image_size)
    channels = max(shape[3] for shape in shapes)
    with publish(data) as draft:
        for number, shape in enumerate(shapes):
            create_part(draft / part_name(number), shape)
        jobs = [Job(*job) for job in zip(images, places, [split == TRAIN for split in splits], strict=True)]
        sums = _fill(jobs, source, draft, shapes, params, channels)
        write_csv(draft / LEFT_OUT, LeftOut._fields, sorted(left_out.values()))
        write_index(draft, images, splits, places, positive=source.meta["positive"], slices=source.meta["slices"])
        write_meta(draft, KIND, VERSION, **_meta(params, source, counts, shapes, sums, channels))
    figures = {f"{split}_{label}": count for split in SPLITS for label, count in counts[split].items()}
    figures |= {split: sum(counts[split].values()) for split in SPLITS}
    figures |= {"images": len(images), "left_out": len(left_out), "groups_in_several_splits": crossing}
    write_json(metrics, figures)
    say("preprocess: " + ", ".join(f"{split} {figures[split]}" for split in SPLITS) + f"; {len(left_out)} left out")
    if crossing:
        say(f"preprocess: the given splits tear {crossing} groups apart, so test figures may be too good")


def _meta(
    params: Preprocess,
    source: Raw,
    counts: dict[str, dict[str, int]],
    shapes: Sequence[Shape],
    sums: Sums,
    channels: int,
) -> dict[str, Any]:
    total = 255 * sums.images * params.image_size**2
    mean = [value / total for value in sums.values]
    spread = [square / (255 * total) - m * m for square, m in zip(sums.squares, mean, strict=True)]
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
            "filter": decoding.FILTER.name.lower(),
            "background": decoding.BACKGROUND,
            "padding": decoding.PADDING,
            "grey_to_colour": "repeat",
            "limits": _limit_values(source),
        },
        "params": params.model_dump(mode="json"),
    }


def _limit_values(source: Raw) -> dict[str, int]:
    return {name: source.meta["params"][name] for name in ("max_bytes", "max_pixels", "min_side")}


def _fill(
    jobs: Sequence[Job], source: Raw, draft: Path, shapes: Sequence[Shape], params: Preprocess, channels: int
) -> Sums:
    """Write the pixels of every job into the parts; returns the sums over train."""
    work = partial(
        _prepare,
        raw=source.directory,
        draft=draft,
        shapes=shapes,
        limits=Limits(**_limit_values(source)),
        params=params,
    )
    images, values, squares = 0, [0] * channels, [0] * channels
    batches = track(ordered(work, _tasks(jobs), workers()), "preprocess", len(jobs), per_item=_TASK_IMAGES)
    for found in (sums for batch in batches for sums in batch):
        images += found.images
        for channel in range(channels):
            # A grey image counts the same in all three channels.
            from_channel = channel % len(found.values)
            values[channel] += found.values[from_channel]
            squares[channel] += found.squares[from_channel]
    return Sums(images, tuple(values), tuple(squares))


def _tasks(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    task: list[Job] = []
    for job in jobs:
        if len(task) == _TASK_IMAGES or (task and sum(j.image.bytes for j in task) + job.image.bytes > _TASK_BYTES):
            yield task
            task = []
        task.append(job)
    if task:
        yield task


def _prepare(
    task: Sequence[Job], raw: Path, draft: Path, shapes: Sequence[Shape], limits: Limits, params: Preprocess
) -> list[Sums]:
    return [sums for job in task if (sums := _prepare_one(job, raw, draft, shapes, limits, params)) is not None]


def _prepare_one(
    job: Job, raw: Path, draft: Path, shapes: Sequence[Shape], limits: Limits, params: Preprocess
) -> Sums | None:
    image, place = job.image, job.place
    data = read_member(raw, image.shard, image.offset, image.bytes, image.sha256)
    try:
        decoded = decode(data, limits).pixels
    except DataError as error:
        raise DataError(f"{image.key} ({image.sha256}): {error}; ingest accepted it: run ingest again") from None
    if decoded.shape != (image.height, image.width, image.channels):
        raise ArtifactError(
            f"{image.key} ({image.sha256}): decodes as {decoded.shape}, ingest saw "
            f"{(image.height, image.width, image.channels)}; run ingest again with this version of Pillow"
        )
    pixels = resize(decoded, params.image_size, params.fit)
    write_row(draft / part_name(place.part), shapes[place.part], place.row, pixels)
    if not job.train:
        return None
    # Whole numbers, so that the order in which images are added cannot change the last digit.
    counts = decoding.histogram(pixels)
    return Sums(1, tuple(map(int, counts @ _LEVELS)), tuple(map(int, counts @ _LEVELS**2)))


if __name__ == "__main__":
    from twofold.runner import main

    main(preprocess)
