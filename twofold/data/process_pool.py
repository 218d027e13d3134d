"""Work spread over processes, its results in the order of its tasks and memory bounded.

In: a function and tasks, both of which can be pickled. Out: the results, one after the other. The number of workers
is environment (`TWOFOLD_WORKERS`, else the processors that this process may use) and changes no result.

A worker can die: a decoder is C code, and memory is finite. Then what was under way is tried again, file by file, each
in a process of its own, and the error names the file that ends it.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from twofold.core.errors import DataError, ParameterError, listed
from twofold.core.malloc import keep_freed_memory

T = TypeVar("T")
R = TypeVar("R")
ALONE = 60.0  # seconds for one file after a worker has died
_SHOWN = 10
AHEAD = 2  # tasks that wait for each worker: enough to keep it busy, few enough to bound memory


def worker_count() -> int:
    """How many processes to use.

    Raises:
        ParameterError: `TWOFOLD_WORKERS` is not a whole number of at least 1.
    """
    text = os.environ.get("TWOFOLD_WORKERS", "").strip()
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ParameterError(f"TWOFOLD_WORKERS: found {text!r}; must be a whole number of at least 1")
    return int(text)


def map_in_order(
    function: Callable[[T], R],
    tasks: Iterable[T],
    count: int,
    files: Callable[[T], Iterable[tuple[str, T]]] | None = None,
) -> Iterator[R]:
    """Yield `function(task)` for every task, in the order of the tasks.

    Args:
        function: at the top of a module, so that it can be pickled; its arguments and results too.
        tasks: taken one by one, as workers get free; an empty list is done in this process.
        count: processes; 1 means this one.
        files: cuts a task into tasks of one file each, with the file's name; for the error when a worker dies.

    Raises:
        DataError: a worker died; which file did it, or which ones were under way.
    """
    if count == 1:
        yield from map(function, tasks)
        return
    # Forked workers start at once and share what is loaded; elsewhere than on Linux forking is not safe.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    waiting: deque[tuple[T, Future[R]]] = deque()
    # What is there now is no garbage: to look through all of it, again and again, would also copy it into each worker.
    gc.freeze()
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin) as executor:
        # Forked before the first task is asked for: what a thread of theirs holds would stay locked in a copy.
        executor.submit(_nothing)
        try:
            for task in tasks:
                waiting.append((task, executor.submit(function, task) if task != [] else _done(function(task))))
                # What is done is not held until the window is full.
                while waiting and (len(waiting) > count * AHEAD or waiting[0][1].done()):
                    yield waiting[0][1].result()
                    waiting.popleft()
            while waiting:
                yield waiting[0][1].result()
                waiting.popleft()
            return
        except BrokenProcessPool:
            pass  # told of below, when the other workers have ended
        finally:
            for _, future in waiting:
                future.cancel()
            if isinstance(tasks, Generator):
                tasks.close()  # with its threads, before anything is forked again
            gc.unfreeze()
    pieces = [one for task, future in waiting if not _finished(future) for one in (files(task) if files else [])]
    ends = [(name, _end_of(context.Process(target=_alone, args=(function, piece)))) for name, piece in pieces]
    raise DataError(_verdict([name for name, _ in pieces], [f"{name}: {end}" for name, end in ends if end]))


def _nothing() -> None:
    pass


def _done(result: R) -> Future[R]:
    future: Future[R] = Future()
    future.set_result(result)
    return future


def _finished(future: Future[R]) -> bool:
    return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool)


def _alone(function: Callable[[T], R], task: T) -> None:
    with suppress(Exception):  # an error that can be told would have been told
        function(task)
    os._exit(0)


def _end_of(process: BaseProcess) -> str:
    """How a process ended, in words; empty if all was well."""
    process.start()
    process.join(ALONE)
    if process.is_alive():
        process.kill()
        process.join()
        return f"its process did not end in {ALONE:.0f} seconds"
    code = process.exitcode or 0
    if code < 0:
        return f"its process was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"its process ended with status {code}" if code else ""


def _verdict(names: list[str], guilty: list[str]) -> str:
    if guilty:
        title = "a worker process died; read alone, these files end theirs too. Remove them, or save them again:"
        lines = guilty
    else:
        title = (
            "a worker process died while it read images, most likely for want of memory; "
            "set TWOFOLD_WORKERS=1, or lower ingest.max_pixels"
        )
        title += ". Under way, and each readable alone, were:" if names else ""
        lines = names
    return listed(title, lines, _SHOWN)


def _begin() -> None:
    keep_freed_memory()
    _end_with_parent()


def _end_with_parent() -> None:
    # A worker whose parent was killed would wait for ever: its own end of the queue keeps the queue open.
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
