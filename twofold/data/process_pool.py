"""Runs tasks in several processes and yields their results in order, with bounded memory.

The function and the tasks must be picklable. The number of workers comes from the environment (`TWOFOLD_WORKERS`,
otherwise the processors that this process may use) and changes no result.

A worker can die: a decoder is C code, and memory is finite. Then the files in progress are tried again one by one, each
in a process of its own, and the error names the file that kills its process.
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
AHEAD = 2  # waiting tasks per worker: enough to keep it busy, few enough to bound memory
_BATCH_BYTES = 8 * 1024 * 1024  # of the files of one task, so that the waiting tasks stay small
_MAX_LISTED = 10


def worker_count() -> int:
    """The number of processes to use.

    Raises:
        ParameterError: `TWOFOLD_WORKERS` is not a whole number of at least 1.
    """
    text = os.environ.get("TWOFOLD_WORKERS", "").strip()
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ParameterError(f"TWOFOLD_WORKERS: found {text!r}; must be a whole number of at least 1")
    return int(text)


def batch_files(files: Iterable[T], size: Callable[[T], int], count: int) -> Iterator[list[T]]:
    """Group files into tasks of at most `count` files and 8 MiB; `size` returns the bytes of a file."""
    batch: list[T] = []
    total = 0
    for file in files:
        if batch and (len(batch) == count or total + size(file) > _BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(file)
        total += size(file)
    if batch:
        yield batch


def map_in_order(
    function: Callable[[T], R],
    tasks: Iterable[T],
    count: int,
    files: Callable[[T], Iterable[tuple[str, T]]] | None = None,
) -> Iterator[R]:
    """Yield `function(task)` for every task, in the order of the tasks.

    Args:
        function: picklable, as are its arguments and results.
        tasks: consumed one by one as workers become free; an empty list runs in this process.
        count: number of processes; 1 means this one.
        files: splits a task into (file name, task of that file alone), for the error when a worker dies.

    Raises:
        DataError: a worker died; names the file that killed it, or the files in progress.
    """
    if count == 1:
        yield from map(function, tasks)
        return
    # Forked workers start at once and share loaded modules; forking is safe on Linux only.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    waiting: deque[tuple[T, Future[R]]] = deque()
    # Keeps the garbage collector from visiting existing objects, which would also copy their memory into each worker.
    gc.freeze()
    with ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker) as executor:
        # Fork with an empty task before `tasks` starts: a lock held by a thread of it would stay locked in the copy.
        executor.submit(int)
        try:
            for task in tasks:
                waiting.append((task, executor.submit(function, task) if task != [] else _completed(function(task))))
                # Yield finished results at once instead of holding them until the window is full.
                while waiting and (len(waiting) > count * AHEAD or waiting[0][1].done()):
                    yield waiting[0][1].result()
                    waiting.popleft()
            while waiting:
                yield waiting[0][1].result()
                waiting.popleft()
            return
        except BrokenProcessPool:
            pass  # reported below, after the other workers have ended
        finally:
            for _, future in waiting:
                future.cancel()
            if isinstance(tasks, Generator):
                tasks.close()  # ends its threads before processes are forked again
            gc.unfreeze()
    unfinished = [task for task, future in waiting if not _finished(future)]
    names, failures = [], []
    for name, single in [pair for task in unfinished for pair in (files(task) if files else [])]:
        names.append(name)
        if reason := _run_and_watch(context.Process(target=_run_alone, args=(function, single))):
            failures.append(f"{name}: {reason}")
    raise DataError(_explain(names, failures))


def _completed(result: R) -> Future[R]:
    future: Future[R] = Future()
    future.set_result(result)
    return future


def _finished(future: Future[R]) -> bool:
    return future.done() and not future.cancelled() and not isinstance(future.exception(), BrokenProcessPool)


def _run_alone(function: Callable[[T], R], task: T) -> None:
    with suppress(Exception):  # an exception would have reached the caller before
        function(task)
    os._exit(0)


def _run_and_watch(process: BaseProcess) -> str:
    """Run a process; returns how it failed, or an empty text."""
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


def _explain(names: list[str], failures: list[str]) -> str:
    if failures:
        title = "a worker process died; these files end a process that reads them alone; remove or save them again:"
        return listed(title, failures, _MAX_LISTED)
    title = (
        "a worker process died while it read images, most likely because memory ran out; "
        "set TWOFOLD_WORKERS=1, or lower ingest.max_pixels"
    )
    in_progress = ". These files were in progress; each can be read alone:" if names else ""
    return listed(title + in_progress, names, _MAX_LISTED)


def _start_worker() -> None:
    keep_freed_memory()
    # Without this a worker whose parent was killed would wait forever: its own end of the queue keeps the queue open.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
