"""A content-addressed memory of what is expensive and depends only on content; never needed for correctness.

In: keys made of everything that a value depends on. Out: the values that are there and whole; one that is damaged is
as good as missing, and a memo that cannot be read or written is done without, with a line said.

It lies where TWOFOLD_CACHE says: in a folder (`twofold/storage/cache_sqlite.py`; default: `.twofold/memo` in the current one) or
in a bucket that several machines share (`twofold/storage/cache_s3.py`). Its values together are no larger than
TWOFOLD_CACHE_LIMIT: those that were used longest ago make room for new ones.
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

PLACE, LIMIT = cache_sqlite.PLACE, "TWOFOLD_CACHE_LIMIT"
LARGEST = 1 << 28  # bytes of one value; SQLite holds no more than 10^9, and three times that in memory
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

_done_without: set[tuple[str, str]] = set()  # what failed once in this process: ("read" or "written", which memo)


def key(*parts: str) -> str:
    """The key of a value: SHA-256 over everything that it depends on."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def cache_address() -> str:
    """What TWOFOLD_CACHE says; empty for the usual folder."""
    return os.environ.get(PLACE, "")


def backend() -> ModuleType:
    """What keeps the values: `memo_file` or `memo_bucket`; both have the same functions.

    Raises:
        ParameterError: TWOFOLD_CACHE is neither a folder nor an s3:// address.
    """
    if "://" not in cache_address():
        return cache_sqlite
    if not cache_address().startswith("s3://"):
        raise ParameterError(
            f"{PLACE}: found {cache_address()!r}; the memo lies in a folder or below s3://bucket/prefix"
        )
    from twofold.storage import cache_s3  # boto3 takes a while to import, and a folder does not need it

    return cache_s3


def cache_limit() -> int:
    """How many bytes the values may hold together, from TWOFOLD_CACHE_LIMIT.

    Raises:
        ParameterError: it is no size.
    """
    return parse_size(os.environ.get(LIMIT, "10G"), LIMIT)


def parse_size(text: str, name: str) -> int:
    """A size in bytes, from a number with or without K, M, G or T (10^3, 10^6, 10^9, 10^12).

    Args:
        name: what is being read, for the error.

    Raises:
        ParameterError: the text is no size.
    """
    match = re.fullmatch(r"([0-9]+)([KMGT]?)", text.strip().upper())
    if match is None:
        raise ParameterError(
            f"{name}: {text!r} is not a size; allowed: a whole number of bytes, or one with K, M, G or T, as 500M"
        )
    return int(match[1]) * UNITS[match[2]]


def lookup(keys: Sequence[str]) -> dict[str, bytes]:
    """The values that are there, by key. They count as used now, if the memo can be written."""
    kept = backend()
    found: dict[str, bytes] = {}
    if keys and ("read", kept.where()) not in _done_without:
        try:
            found = kept.get(keys)
        except (sqlite3.Error, OSError) as error:
            _do_without("read", error)
    return found


def store(entries: Iterable[tuple[str, str, bytes]], kind: str) -> None:
    """Keep values, and let go of those used longest ago when there is no room for all.

    Args:
        entries: (key, SHA-256 of the image that the value was made from, value); a key that is there is replaced, and
            a value larger than the limit, or than LARGEST, is not kept.
        kind: what sort of values they are, for `twofold cache`; such as "features".

    Raises:
        ParameterError: TWOFOLD_CACHE_LIMIT is no size.
    """
    most, kept = cache_limit(), backend()
    rows = [row for row in entries if len(row[2]) <= min(most, LARGEST)]
    if rows and ("written", kept.where()) not in _done_without:
        try:
            kept.put(rows, kind, most)
        except (sqlite3.Error, OSError) as error:
            _do_without("written", error)


def forget_image(image: str) -> int:
    """Remove everything that was made from an image, from a file's free pages too.

    Returns:
        How many entries there were.

    Raises:
        ParameterError: the memo cannot be written.
    """
    with required():
        return int(backend().forget(image))


@contextmanager
def required() -> Iterator[None]:
    """A memo that must be used and cannot be is an error that names it.

    Raises:
        ParameterError: whatever the memo raises within.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise ParameterError(
            f"{PLACE}: {backend().where()} cannot be used: {error}; name a folder or bucket that can be"
        ) from None


def _do_without(what: str, error: Exception) -> None:
    """Say so once, and try no more in this process: a lock may have cost a minute."""
    _done_without.add((what, backend().where()))
    say(f"memo: {backend().title()} cannot be {what} ({error}); going on without it")
