"""The parts of `data/prepared` on their way: in come images of the manifest, out come their rows and what was seen.

Workers write their rows straight into the array files; only counts and sums travel back, so memory does not grow with
the data, and neither the number of workers nor their speed changes a byte.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from twofold.audit.near_duplicates import Thumbnails
from twofold.core.progress import track
from twofold.data.decoding import Limits
from twofold.data.prepared import Place, create_part, part_name, plan, write_rows
from twofold.data.preparing import Ready, ready
from twofold.data.process_pool import ordered, workers
from twofold.data.raw import Image
from twofold.data.resizing import Fit
from twofold.data.splits import TRAIN

_TASK_IMAGES, _TASK_BYTES = 32, 8 * 1024 * 1024
_AT_ONCE = 16  # images of a task whose pixels a worker holds together
Shape = tuple[int, int, int, int]


class Job(NamedTuple):
    """One image to prepare: its row in the manifest, where its pixels go, and whether they count for statistics."""

    image: Image
    place: Place
    train: bool


class Seen(NamedTuple):
    """Of one image: `preparing.Ready` without its pixels, and with sums of train alone.

    `values`, `squares`: of each channel's values over the pixels, and of their squares.
    """

    content: str
    thumbnail: Thumbnails | None
    brightness: float
    values: tuple[int, ...] = ()
    squares: tuple[int, ...] = ()


def fill(
    images: Sequence[Image],
    splits: Sequence[str],
    raw: Path,
    draft: Path,
    *,
    size: int,
    fit: Fit,
    limits: Limits,
    thumbnails: bool = True,
) -> tuple[list[Place], list[Shape], list[Seen]]:
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
    places, shapes = plan(images, size)
    for number, shape in enumerate(shapes):
        create_part(draft / part_name(number), shape)
    jobs = [Job(*job) for job in zip(images, places, [split == TRAIN for split in splits], strict=True)]
    made = partial(ready, raw=raw, size=size, fit=fit, limits=limits, thumbnails=thumbnails)
    work = partial(_prepare, made=made, draft=draft, shapes=shapes)
    tasks, count = list(_tasks(jobs)), workers()
    order = _apart(len(tasks), count)
    batches = ordered(work, (tasks[number] for number in order), count, _files)
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
    task: Sequence[Job], made: Callable[[list[Image]], list[Ready]], draft: Path, shapes: Sequence[Shape]
) -> list[Seen]:
    seen: list[Seen] = []
    for start in range(0, len(task), _AT_ONCE):
        jobs = task[start : start + _AT_ONCE]
        found = made([job.image for job in jobs])
        for number in sorted({job.place.part for job in jobs}):
            here = [place for place, job in enumerate(jobs) if job.place.part == number]
            rows = [(jobs[place].place.row, found[place].pixels) for place in here]
            write_rows(draft / part_name(number), shapes[number], rows)
        seen += [_seen(one, job.train) for job, one in zip(jobs, found, strict=True)]
    return seen


def _seen(one: Ready, train: bool) -> Seen:
    if not train:
        return Seen(one.content, one.thumbnail, one.brightness)
    return Seen(one.content, one.thumbnail, one.brightness, tuple(one.values.tolist()), tuple(one.squares.tolist()))
