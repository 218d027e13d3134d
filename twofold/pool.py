"""Work spread over processes, its results in the order of its tasks and memory bounded.

In: a function and tasks, both of which can be pickled. Out: the results, one after the other. The number of workers
is environment (`TWOFOLD_WORKERS`, else the processors that this process may use) and changes no result.
"""

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from twofold.errors import DataError, ParameterError

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # tasks that wait for each worker: enough to keep it busy, few enough to bound memory


def workers() -> int:
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


def ordered(function: Callable[[T], R], tasks: Iterable[T], count: int) -> Iterator[R]:
    """Yield `function(task)` for every task, in the order of the tasks.

    Args:
        function: at the top of a module, so that it can be pickled; its arguments and results too.
        tasks: taken one by one, as workers get free.
        count: processes; 1 means this one.

    Raises:
        DataError: a worker died, for example for want of memory.
    """
    if count == 1:
        yield from map(function, tasks)
        return
    # Forked workers start at once and share what is loaded; elsewhere than on Linux forking is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent) as executor:
        waiting: deque[Future[R]] = deque()
        try:
            for task in tasks:
                waiting.append(executor.submit(function, task))
                if len(waiting) > count * AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise DataError(
                "a worker process died while it read images, most likely for want of memory; "
                "set TWOFOLD_WORKERS=1, or lower ingest.max_pixels"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


def _end_with_parent() -> None:
    # A worker whose parent was killed would wait for ever: its own end of the queue keeps the queue open.
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
