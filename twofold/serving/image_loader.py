"""Load image files for a model: reads names and locations, yields the model's pixels in the same order.

Worker processes fetch and decode the next files while the model scores the previous ones; memory is bounded by how far
they are ahead. A file that the model does not accept yields the reason instead of pixels.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.core.errors import DataError
from twofold.data.decoding import AMPLE_KEY, Limits, prepare
from twofold.data.process_pool import map_in_order, worker_count
from twofold.sources.base import FileRequest, Source

TASK_FILES = 16  # files that a worker fetches and decodes at once, and images of a batch for the model


class ImageFile(NamedTuple):
    """A file: its name for people, its source and key; a `reason` says why it is refused without being read."""

    name: str
    source: Source
    key: str
    reason: str = ""


class LoadedImage(NamedTuple):
    """The pixels of a file, (S, S, C) uint8 with C 1 or 3; or None and the reason."""

    name: str
    pixels: NDArray[np.uint8] | None
    reason: str


class Task(NamedTuple):
    """Files of one source as (name, request, reason); the source travels to the worker without its listing."""

    source: Source
    files: list[tuple[str, FileRequest | None, str]]


def load_images(files: Iterable[ImageFile], preprocessing: Mapping[str, Any]) -> Iterator[list[LoadedImage]]:
    """Yield the files' pixels in order, at most TASK_FILES at a time.

    Args:
        preprocessing: of a sealed model: `image_size`, `fit`, `limits`.

    Raises:
        SourceError: a source failed, not only one of its files.
        DataError: a worker died; the message names the file that killed it.
    """
    work = partial(_load, preprocessing=dict(preprocessing))
    return map_in_order(work, _tasks(files), worker_count(), _single_file_tasks)


def _tasks(files: Iterable[ImageFile]) -> Iterator[Task]:
    for _, group in groupby(files, lambda file: id(file.source)):
        while batch := list(islice(group, TASK_FILES)):
            source = batch[0].source
            requests = [(file.name, None if file.reason else source.request(file.key), file.reason) for file in batch]
            yield Task(source, requests)


def _single_file_tasks(task: Task) -> list[tuple[str, Task]]:
    return [(file[0], Task(task.source, [file])) for file in task.files]


def _load(task: Task, preprocessing: Mapping[str, Any]) -> list[LoadedImage]:
    limits = Limits(**preprocessing["limits"])
    size, fit, ample = preprocessing["image_size"], preprocessing["fit"], preprocessing.get(AMPLE_KEY, 0)
    requests = [request for _, request, _ in task.files if request is not None]
    fetched = iter(task.source.fetch(requests, limits.max_bytes))
    images = []
    for name, request, reason in task.files:
        try:
            if request is None:
                raise DataError(reason)
            file = next(fetched)
            if file.reason:
                raise DataError(file.reason)
            images.append(LoadedImage(name, prepare(file.data, limits, size, fit, ample).pixels, ""))
        except DataError as error:
            images.append(LoadedImage(name, None, str(error)))
    return images
