"""Files on their way from a source into ingest: in come entries of a listing, out come their bytes and what they hold.

What the memo knows of a file in a local folder is looked up here, by threads, and its bytes never leave this process;
the others go to the workers, who fetch and decode them. Either way the results come in the order of the entries.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from twofold.data.decode_cache import DecodedFile, cached, decode_cached
from twofold.data.decoding import Limits
from twofold.data.process_pool import map_in_order, worker_count
from twofold.sources.base import Entry, FetchedFile, FileRequest, Source
from twofold.sources.local_folder import FolderSource

_TASK_FILES, _TASK_BYTES = 32, 8 * 1024 * 1024  # one task: few enough bytes that the window of tasks stays small
_THREADS = 4  # that look files up; the interpreter keeps no more of them busy
_UNVERIFIED = "its store keeps no checksum; ingest.require_checksum asks for one"


class ReadFile(NamedTuple):
    """One file as it was taken: its bytes, none if it is refused, and what they hold or why not."""

    key: str
    data: bytes
    seen: DecodedFile
    version: str = ""
    verified: bool = True


def read_files(source: Source, entries: Iterable[Entry], limits: Limits, strict: bool) -> Iterator[ReadFile]:
    """Every entry's file, in their order.

    Args:
        strict: refuse a file that its store keeps no checksum of.

    Raises:
        SourceError: the source failed, and not a single file of it.
        DataError: a worker died; which file did it.
    """
    count = worker_count()
    tasks = _tasks(entries, source)
    take = partial(_take, source=source, limits=limits, strict=strict)
    # Elsewhere than in a folder to fetch is to wait for a server, which more processes do better.
    if not isinstance(source, FolderSource) or count == 1:
        for batch in map_in_order(take, tasks, count, _files):
            yield from batch
        return
    known: deque[list[ReadFile | None]] = deque()
    look = partial(_recalled, source=source, limits=limits)
    for batch in map_in_order(take, _unknown(tasks, look, known), count, _files):
        fresh = iter(batch)
        yield from (next(fresh) if one is None else one for one in known.popleft())


def _unknown(
    tasks: Iterator[list[FileRequest]], look: "partial[list[ReadFile | None]]", known: deque[list[ReadFile | None]]
) -> Iterator[list[FileRequest]]:
    """Of each task what the memo does not know; `known` gets the rest, with None in the places of these."""
    count = min(worker_count(), _THREADS)
    waiting: deque[tuple[list[FileRequest], Future[list[ReadFile | None]]]] = deque()
    likely = False  # that the next files are known, as the last ones were
    with ThreadPoolExecutor(count) as threads:
        for task in tasks:
            waiting.append((task, threads.submit(look, task, likely)))
            if len(waiting) > count:
                rest = _rest(*waiting.popleft(), known)
                likely = 2 * len(rest) < len(known[-1])
                yield rest
        while waiting:
            yield _rest(*waiting.popleft(), known)


def _rest(
    task: list[FileRequest], found: "Future[list[ReadFile | None]]", known: deque[list[ReadFile | None]]
) -> list[FileRequest]:
    known.append(found.result())
    return [wanted for wanted, one in zip(task, known[-1], strict=True) if one is None]


def _recalled(task: list[FileRequest], likely: bool, source: Source, limits: Limits) -> list[ReadFile | None]:
    """The files that the memo knows; none at all if it most likely knows few: not the first, as in a folder that is
    new, nor half of a task before.
    """
    if likely:
        return _looked_up(task, source, limits)
    first = _looked_up(task[:1], source, limits)
    return first + (_looked_up(task[1:], source, limits) if first[0] else [None] * (len(task) - 1))


def _looked_up(task: list[FileRequest], source: Source, limits: Limits) -> list[ReadFile | None]:
    fetched = source.fetch(task, limits.max_bytes)
    known = cached([one.data for one in fetched], limits)
    # Of a file that could not be fetched the worker shall tell.
    return [
        None if one is None or file.reason else _one(wanted.key, file, one)
        for wanted, file, one in zip(task, fetched, known, strict=True)
    ]


def _tasks(entries: Iterable[Entry], source: Source) -> Iterator[list[FileRequest]]:
    task: list[FileRequest] = []
    total = 0
    for entry in entries:
        one = source.wanted(entry.key)
        if task and (len(task) == _TASK_FILES or total + one.bytes > _TASK_BYTES):
            yield task
            task, total = [], 0
        task.append(one)
        total += one.bytes
    if task:
        yield task


def _files(task: list[FileRequest]) -> list[tuple[str, list[FileRequest]]]:
    return [(one.key, [one]) for one in task]


def _take(task: Sequence[FileRequest], source: Source, limits: Limits, strict: bool) -> list[ReadFile]:
    fetched = source.fetch(task, limits.max_bytes)
    reasons = [one.reason or (_UNVERIFIED if strict and not one.verified else "") for one in fetched]
    seen = iter(decode_cached([one.data for one, reason in zip(fetched, reasons, strict=True) if not reason], limits))
    return [
        _one(wanted.key, one, DecodedFile("", reason) if reason else next(seen))
        for wanted, one, reason in zip(task, fetched, reasons, strict=True)
    ]


def _one(key: str, fetched: FetchedFile, seen: DecodedFile) -> ReadFile:
    if seen.reason:
        return ReadFile(key, b"", seen)
    return ReadFile(key, fetched.data, seen, fetched.version, fetched.verified)
