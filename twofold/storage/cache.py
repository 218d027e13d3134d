"""Content-addressed cache of values that are expensive to compute; no result depends on it.

A key is a digest of everything that its value depends on. A lookup returns the values that are present and intact. A
cache that cannot be read or written costs one warning, and the work goes on without it.

TWOFOLD_CACHE names the backend: a folder (`twofold/storage/cache_sqlite.py`; default: `.twofold/memo` in the current
folder) or a bucket that several machines share (`twofold/storage/cache_s3.py`). TWOFOLD_CACHE_LIMIT bounds the total
size of the values: the least recently used ones are evicted.
"""

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from twofold.core.errors import ParameterError
from twofold.core.progress import say
from twofold.storage import cache_sqlite

LOCATION, LIMIT = cache_sqlite.LOCATION, "TWOFOLD_CACHE_LIMIT"
LARGEST = 1 << 28  # bytes of one value; SQLite holds at most 10^9 and needs three times that in memory
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

_failed: set[tuple[str, str]] = set()  # in this process: ("read" or "written", absolute address of the cache)


def key(*parts: str) -> str:
    """Return the key of a value: the SHA-256 over everything that the value depends on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def cache_address() -> str:
    """Return the value of TWOFOLD_CACHE; empty for the default folder."""
    return os.environ.get(LOCATION, "")


def backend() -> ModuleType:
    """Return `cache_sqlite` or `cache_s3`, which have the same functions; raise ParameterError for another address."""
    if "://" not in cache_address():
        return cache_sqlite
    if not cache_address().startswith("s3://"):
        raise ParameterError(
            f"{LOCATION}: found {cache_address()!r}; the cache must be a folder or an address s3://bucket/prefix"
        )
    from twofold.storage import cache_s3  # boto3 is slow to import, and a folder does not need it

    return cache_s3


def cache_limit() -> int:
    """Return TWOFOLD_CACHE_LIMIT in bytes; raise ParameterError if it is not a size."""
    return parse_size(os.environ.get(LIMIT, "10G"), LIMIT)


def parse_size(text: str, name: str) -> int:
    """Return a size in bytes from a number with or without K, M, G or T (10^3, 10^6, 10^9, 10^12).

    Raises:
        ParameterError: the text is not a size; the message begins with `name`.
    """
    match = re.fullmatch(r"([0-9]+)([KMGT]?)", text.strip().upper())
    if match is None:
        raise ParameterError(
            f"{name}: {text!r} is not a size; allowed: a whole number of bytes, or one with K, M, G or T, as 500M"
        )
    return int(match[1]) * UNITS[match[2]]


def lookup(keys: Sequence[str]) -> dict[str, bytes]:
    """Return the values that are present and intact, by key, and mark them as used if the cache can be written."""
    values: dict[str, bytes] = {}
    with _optional("read") as usable:
        if keys and usable:
            values = backend().get(keys)
    return values


def store(entries: Iterable[tuple[str, str, bytes]], kind: str) -> None:
    """Store values, and evict the least recently used ones if there is no room for all.

    Args:
        entries: (key, SHA-256 of the image that the value was computed from, value); a stored key is replaced, and a
            value larger than the limit or than LARGEST is skipped.
        kind: category of the values, for `twofold cache`; such as "features".

    Raises:
        ParameterError: TWOFOLD_CACHE_LIMIT is not a size.
    """
    limit = cache_limit()
    rows = [row for row in entries if len(row[2]) <= min(limit, LARGEST)]
    with _optional("written") as usable:
        if rows and usable:
            backend().put(rows, kind, limit)


def forget_image(image: str) -> int:
    """Remove all values computed from an image, also from a file's free pages, and return their number.

    Raises:
        ParameterError: the cache cannot be written.
    """
    with required():
        return int(backend().forget(image))


@contextmanager
def required() -> Iterator[None]:
    """Turn a failure to read or write the cache into a ParameterError that names the cache."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise ParameterError(
            f"{LOCATION}: {backend().absolute_address()} cannot be used: {error}; name a folder or bucket that can be"
        ) from None


@contextmanager
def _optional(operation: str) -> Iterator[bool]:
    """Yield whether to try, and go on without the cache if that fails.

    The operation is not tried again in this process, since waiting for a lock may have cost a minute.
    """
    place = (operation, backend().absolute_address())
    try:
        yield place not in _failed
    except (sqlite3.Error, OSError) as error:
        _failed.add(place)
        say(f"cache: {backend().title()} cannot be {operation} ({error}); going on without it")
