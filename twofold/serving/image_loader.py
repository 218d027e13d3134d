"""Image files on their way to a model: in come names and where they lie, out come the model's pixels, in their order.

Workers fetch and decode while the model looks at what came before; no more is in memory than they are ahead. A file
that is no image the model accepts comes out as the reason, and the others go on.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.core.errors import DataError
from twofold.data.decoding import AMPLE_KEY, Limits, prepare
from twofold.data.process_pool import map_in_order, worker_count
from twofold.sources.base import FileRequest, Source

TASK_FILES = 16  # fetched and decoded by a worker in one go: also a batch of the model's


class ImageFile(NamedTuple):
    """A file: its name for people, its source and its key there; `reason` says why it is not to be taken, if so."""

    name: str
    source: Source
    key: str
    reason: str = ""


class LoadedImage(NamedTuple):
    """A file's pixels (S, S, C) uint8, C 1 or 3; or None and the reason."""

    name: str
    pixels: NDArray[np.uint8] | None
    reason: str


class Task(NamedTuple):
    """Files of one source, which goes to the workers without its listing."""

    source: Source
    files: list[tuple[str, FileRequest | None, str]]


def load_images(files: Iterable[ImageFile], preprocessing: Mapping[str, Any]) -> Iterator[list[LoadedImage]]:
    """The files' pixels, at most TASK_FILES at a time.

    Args:
        files: in the order of the result.
        preprocessing: of a sealed model: `image_size`, `fit`, `limits`.

    Raises:
        SourceError: a source failed, and not a single file of it.
        DataError: a worker died; which file did it.
    """
    return map_in_order(partial(_open, preprocessing=dict(preprocessing)), _tasks(files), worker_count(), _single)


def _tasks(files: Iterable[ImageFile]) -> Iterator[Task]:
    for _, group in groupby(files, lambda file: id(file.source)):
        waiting: list[ImageFile] = []
        for file in group:
            waiting.append(file)
            if len(waiting) == TASK_FILES:
                yield _task(waiting)
                waiting = []
        if waiting:
            yield _task(waiting)


def _task(files: list[ImageFile]) -> Task:
    source = files[0].source
    return Task(source, [(one.name, None if one.reason else source.wanted(one.key), one.reason) for one in files])


def _single(task: Task) -> list[tuple[str, Task]]:
    return [(one[0], Task(task.source, [one])) for one in task.files]


def _open(task: Task, preprocessing: Mapping[str, Any]) -> list[LoadedImage]:
    limits = Limits(**preprocessing["limits"])
    wanted = [one for _, one, _ in task.files if one is not None]
    fetched = iter(task.source.fetch(wanted, limits.max_bytes))
    found = []
    for name, one, reason in task.files:
        try:
            if one is None:
                raise DataError(reason)
            file = next(fetched)
            if file.reason:
                raise DataError(file.reason)
            made = prepare(
                file.data, limits, preprocessing["image_size"], preprocessing["fit"], preprocessing.get(AMPLE_KEY, 0)
            )
            found.append(LoadedImage(name, made.pixels, ""))
        except DataError as error:
            found.append(LoadedImage(name, None, str(error)))
    return found
