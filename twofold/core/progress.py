"""Progress of long work: a bar on a terminal, otherwise a plain line every ten seconds."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from twofold.core.redaction import redact

T = TypeVar("T")
EVERY = 10.0  # seconds between plain lines, unless TWOFOLD_PROGRESS_SECONDS says otherwise


def track(items: Iterable[T], label: str, total: int, unit: str = "image", per_item: int = 1) -> Iterator[T]:
    """Yield `items` and show the progress on stderr.

    Args:
        total: in units, not in items.
        per_item: units that one item counts for (a batch of 16 images: 16); the last item may hold fewer.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, desc=label, unit=unit, leave=True) as bar:
            for item in items:
                yield item
                bar.update(min(per_item, total - bar.n))
        return
    begin = last = time.monotonic()
    done, every = 0, float(os.environ.get("TWOFOLD_PROGRESS_SECONDS", EVERY))
    for item in items:
        yield item
        done = min(done + per_item, total)
        now = time.monotonic()
        if now - last >= every:
            last = now
            print(f"{label}: {done} of {total} {unit}s ({done / (now - begin):.0f}/s)", file=sys.stderr, flush=True)
    elapsed = time.monotonic() - begin
    if elapsed >= EVERY:
        print(f"{label}: {done} {unit}s in {elapsed:.0f} s", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a line for the user to stderr, without credentials."""
    tqdm.write(redact(text), file=sys.stderr)  # a plain print would break a progress bar that is on the screen


@contextmanager
def waiting(what: str, why: Callable[[], str] = str) -> Iterator[None]:
    """Say every ten seconds that the main thread still waits, and why; other threads wait without a word."""
    end, begin = threading.Event(), time.monotonic()

    def tell() -> None:
        while not end.wait(EVERY):
            reason = why()
            say(f"still waiting for {what} ({time.monotonic() - begin:.0f} s){f': {reason}' if reason else ''}")

    if threading.current_thread() is threading.main_thread():
        threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        end.set()
