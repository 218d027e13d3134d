"""Reads and decodes the files of a source in parallel, in the order of the listing.

Takes the entries of a listing; returns the bytes of each file and the result of decoding it. For a local folder,
threads of this process look up the cached files, whose bytes then never leave it; workers read and decode the others.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from twofold.core.progress import say
from twofold.data.decode_cache import DecodedFile, cached, decode_cached
from twofold.data.decoding import Limits
from twofold.data.process_pool import batch_files, map_in_order, worker_count
from twofold.sources.base import Entry, FetchedFile, FileRequest, IgnoredFile, Source
from twofold.sources.labels import LABELS, OUTSIDE
from twofold.sources.layout_hints import is_near_table
from twofold.sources.local_folder import FolderSource

_TASK_FILES = 32
_THREADS = 4  # that look up cached files; the interpreter keeps no more of them busy
_TEXT_BYTES = 1 << 20  # more than a README has
_UNVERIFIED = "its store keeps no checksum; ingest.require_checksum asks for one"


class ReadFile(NamedTuple):
    """A file of the source: its bytes, empty if it is refused, and the result of decoding it."""

    key: str
    data: bytes
    seen: DecodedFile
    version: str = ""
    verified: bool = True


Task = list[FileRequest]
CachedFiles = list[ReadFile | None]  # of the files of a task, None for those that are not in the cache


def read_files(source: Source, entries: Iterable[Entry], limits: Limits, strict: bool) -> Iterator[ReadFile]:
    """The file of every entry, in their order.

    Args:
        strict: refuse a file whose store keeps no checksum of it.

    Raises:
        SourceError: the source as a whole failed, rather than a single file.
        DataError: a worker died; names the file that killed it.
    """
    count = worker_count()
    tasks = batch_files((source.request(entry.key) for entry in entries), lambda request: request.bytes, _TASK_FILES)
    read = partial(_read, source=source, limits=limits, strict=strict)
    # Other sources wait for a server, which more processes do better than these threads.
    if not isinstance(source, FolderSource) or count == 1:
        for batch in map_in_order(read, tasks, count, _split_by_file):
            yield from batch
        return
    known: deque[CachedFiles] = deque()
    look_up = partial(_look_up, source=source, limits=limits)
    for batch in map_in_order(read, _uncached_tasks(tasks, look_up, known), count, _split_by_file):
        fresh = iter(batch)
        yield from (file or next(fresh) for file in known.popleft())


def set_texts_aside(source: Source, ignored: Iterable[IgnoredFile]) -> list[IgnoredFile]:
    """The files that are not offered; outside every class folder, a text (a README, a licence) no longer counts."""
    found = []
    for item in ignored:
        if item.reason == OUTSIDE:
            (file,) = source.fetch([source.request(item.key)], _TEXT_BYTES)
            if file.data and not file.reason and b"\0" not in file.data:  # every format of images has zeros
                item = item._replace(reason=f"a text {OUTSIDE}", counts=False)
                if is_near_table(item.key):
                    say(f"ingest: warning: {item.key} is not read; a table of labels must be called {LABELS}")
        found.append(item)
    return found


def _uncached_tasks(
    tasks: Iterator[Task], look_up: "partial[CachedFiles]", known: deque[CachedFiles]
) -> Iterator[Task]:
    """The files of each task that are not in the cache; appends the others to `known`."""
    count = min(worker_count(), _THREADS)
    waiting: deque[tuple[Task, Future[CachedFiles]]] = deque()
    likely = False  # whether the cache probably has the next files, because it had the last ones

    def uncached() -> Task:
        task, found = waiting.popleft()
        known.append(found.result())
        return [request for request, file in zip(task, known[-1], strict=True) if file is None]

    with ThreadPoolExecutor(count) as threads:
        for task in tasks:
            waiting.append((task, threads.submit(look_up, task, likely)))
            if len(waiting) > count:
                rest = uncached()
                likely = 2 * len(rest) < len(known[-1])
                yield rest
        while waiting:
            yield uncached()


def _look_up(task: Task, likely: bool, source: Source, limits: Limits) -> CachedFiles:
    """The cached files of a task; unless hits are likely, the other files are skipped if the first is not cached."""
    if not likely:
        first = _look_up(task[:1], True, source, limits)
        return first + (_look_up(task[1:], True, source, limits) if first[0] else [None] * (len(task) - 1))
    fetched = source.fetch(task, limits.max_bytes)
    known = cached([file.data for file in fetched], limits)
    # A worker reports a file that could not be fetched.
    return [
        None if decoded is None or file.reason else _to_read_file(request.key, file, decoded)
        for request, file, decoded in zip(task, fetched, known, strict=True)
    ]


def _split_by_file(task: Task) -> list[tuple[str, Task]]:
    return [(request.key, [request]) for request in task]


def _read(task: Sequence[FileRequest], source: Source, limits: Limits, strict: bool) -> list[ReadFile]:
    fetched = source.fetch(task, limits.max_bytes)
    reasons = [file.reason or (_UNVERIFIED if strict and not file.verified else "") for file in fetched]
    data = [file.data for file, reason in zip(fetched, reasons, strict=True) if not reason]
    decoded = iter(decode_cached(data, limits))
    return [
        _to_read_file(request.key, file, DecodedFile("", reason) if reason else next(decoded))
        for request, file, reason in zip(task, fetched, reasons, strict=True)
    ]


def _to_read_file(key: str, file: FetchedFile, decoded: DecodedFile) -> ReadFile:
    if decoded.reason:
        return ReadFile(key, b"", decoded)
    return ReadFile(key, file.data, decoded, file.version, file.verified)
