"""The memo in a bucket, which any number of machines share.

In: keys and values, from `twofold/storage/cache.py`; TWOFOLD_CACHE, `s3://bucket/prefix`. Out: those that are there and whole.
What goes wrong is raised as OSError.

Values lie in packs (`twofold/storage/cache_packs.py`): objects written once, each under a name of its own that says what is in it.
So a listing is the index, nothing has to be kept in step, and no writer can disturb another. Each process lists once;
what others add later it makes for itself, and keeps twice at worst. A pack counts as used when it was written, and
again, at most once a day, when it is read.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from twofold.core.errors import DataError, ParameterError, SourceError, first_line
from twofold.storage.cache_packs import Index, Pack, batches_by_size, pack, parse_name, short_hash, unpack
from twofold.storage.cache_sqlite import PLACE
from twofold.storage.s3_client import THREADS, client, endpoint, parse, reason

T = TypeVar("T")
R = TypeVar("R")
ATTEMPTS = 3  # of a request: what cannot be had is computed
REST = 24 * 3600.0  # seconds after which reading a pack counts as a use
SHARE = 16  # a process that has written this part of the limit looks again what others have written


class _Shelf:
    """The packs below one address, as this process knows them."""

    def __init__(self, address: str) -> None:
        self.bucket, prefix = parse(address, PLACE)
        self.prefix = f"{prefix}memo-1/"
        self.client = client(ATTEMPTS)
        self.index = Index()
        self.held = self.written = 0  # bytes: in all when listed and since then; written since then
        self.marked: set[str] = set()
        self.listed = False

    def packs(self) -> list[Pack]:
        """All of them, as they are now; those used longest ago first."""
        found = []
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix):
            for item in page.get("Contents", []):
                name = item["Key"].removeprefix(self.prefix)
                if one := parse_name(name, int(item["Size"]), item["LastModified"].timestamp()):
                    found.append(one)
        found.sort(key=lambda one: (one.used, one.name))
        self.held, self.written = sum(one.size for one in found), 0
        return found

    def known(self) -> Index:
        """What is there, listed once."""
        if not self.listed:
            self.index = Index(self.packs())
            self.listed = True
        return self.index

    def read(self, name: str) -> bytes | None:
        """A pack's bytes; None if it is gone."""
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)
            body: bytes = answer["Body"].read()
            return body
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                return None
            raise

    def write(self, name: str, data: bytes) -> None:
        """Write a pack; it appears whole or not at all, as every object does."""
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=data)
        self.held += len(data)
        self.written += len(data)

    def remove(self, name: str) -> None:
        """Delete a pack; one that is gone already is no error."""
        self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    def mark(self, name: str) -> None:
        """Let a pack count as used now: a copy onto itself, which costs no transfer."""
        place = {"Bucket": self.bucket, "Key": self.prefix + name}
        self.client.copy_object(**place, CopySource=place, MetadataDirective="REPLACE")


_shelves: dict[tuple[str, str, int], _Shelf] = {}


def _shelf() -> _Shelf:
    # One a process: a connection that two processes share mixes up their answers.
    which = (_address(), endpoint() or "", os.getpid())
    if which not in _shelves:
        for old in [key for key in _shelves if key[2] != os.getpid()]:
            del _shelves[old]
        _shelves[which] = _Shelf(which[0])
    return _shelves[which]


def _address() -> str:
    return os.environ[PLACE]


def _told(work: Callable[[], T]) -> T:
    """What `work` returns; whatever S3 has against it becomes an OSError in words, a wrong address a ParameterError."""
    try:
        return work()
    except ClientError as error:
        raise OSError(reason(error)) from None
    except (BotoCoreError, HTTPError, SourceError) as error:
        raise OSError(first_line(error)) from None
    except DataError as error:
        raise ParameterError(str(error)) from None


def _at_once(work: Callable[[T], R], items: Sequence[T]) -> Iterable[R]:
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(THREADS, len(items))) as threads:
        return list(threads.map(work, items))


def title() -> str:
    """Where the memo lies."""
    return _address()


where = title


def exists() -> bool:
    """Whether anything was ever kept."""
    return bool(_told(lambda: _shelf().packs()))


def extent() -> str:
    """How much room it takes, in words."""
    packs = _told(lambda: _shelf().packs())
    return f"{len(packs):,} packs of {sum(one.size for one in packs):,} bytes"


def get(keys: Sequence[str]) -> dict[str, bytes]:
    """The values that are there and whole, by key; their packs count as used."""
    return _told(partial(_get, keys))


def _get(keys: Sequence[str]) -> dict[str, bytes]:
    shelf = _shelf()
    index = shelf.known()
    places = {key: index.find(short_hash(key)) for key in keys}
    found: dict[str, bytes] = {}
    # A key may be in several packs, of which one may be damaged: the next is tried then.
    for turn in range(max(map(len, places.values()), default=0)):
        wanted: dict[str, list[str]] = {}
        for key, names in places.items():
            if key not in found and turn < len(names):
                wanted.setdefault(names[turn], []).append(key)
        for some in _at_once(partial(_taken, shelf), list(wanted.items())):
            found |= some
    return found


def _taken(shelf: _Shelf, wanted: tuple[str, list[str]]) -> dict[str, bytes]:
    """Of a pack, the values that are asked for."""
    name, keys = wanted
    data = shelf.read(name)
    found = {} if data is None else {key: value for key, _, value in unpack(data, set(keys))}
    last = shelf.index.used(name)
    if found and time.time() - last > REST and name not in shelf.marked:
        shelf.marked.add(name)
        # No right to write, or evicted meanwhile: the values have been read all the same.
        with suppress(ClientError, BotoCoreError, HTTPError):
            shelf.mark(name)
    return found


def put(entries: Sequence[tuple[str, str, bytes]], kind: str, limit: int) -> None:
    """Keep values of a kind, and about `limit` bytes in all; entries are (key, image's SHA-256, value)."""
    _told(partial(_put, entries, kind, limit))


def _put(entries: Sequence[tuple[str, str, bytes]], kind: str, limit: int) -> None:
    shelf = _shelf()
    index = shelf.known()

    def write(some: Sequence[tuple[str, str, bytes]]) -> tuple[str, Sequence[tuple[str, str, bytes]]]:
        name, data = pack(some, kind)
        shelf.write(name, data)
        return name, some

    for name, some in _at_once(write, list(batches_by_size(entries))):
        index.add(name, [short_hash(key) for key, _, _ in some])
    if shelf.held > limit or shelf.written * SHARE > limit:
        # With some room to spare, or the next put would list everything again.
        _evict(shelf, limit, limit - limit // SHARE)


def _evict(shelf: _Shelf, limit: int, size: int) -> None:
    """Remove the packs used longest ago until they hold no more than `size` bytes, if they hold more than `limit`."""
    packs = shelf.packs()
    gone = []
    for one in packs if shelf.held > limit else []:
        if shelf.held <= size:
            break
        gone.append(one.name)
        shelf.held -= one.size
    _at_once(shelf.remove, gone)
    shelf.index = Index(packs[len(gone) :])
    shelf.listed = True


def forget(image: str) -> int:
    """Write every pack that holds something made from an image anew without it; returns how many entries it had."""
    return _told(lambda: _rewritten(lambda one: short_hash(image) in one.images, lambda key, of, value: of != image))


def kinds() -> list[tuple[str, int, int]]:
    """(kind, entries, bytes of their packs), by name."""
    found: dict[str, tuple[int, int]] = {}
    for one in _told(lambda: _shelf().packs()):
        count, size = found.get(one.kind, (0, 0))
        found[one.kind] = (count + len(one.keys), size + one.size)
    return [(kind, *found[kind]) for kind in sorted(found)]


def damaged() -> list[int]:
    """Bytes of each entry that fails its hash; of a pack that cannot be read, an equal part for each of its entries."""
    return _told(lambda: [size for one in _shelf().packs() for size in _failing(one)])


def _failing(one: Pack) -> list[int]:
    data = _shelf().read(one.name)
    whole = 0 if data is None else sum(1 for _ in unpack(data))
    missing = 0 if data is None else len(one.keys) - whole
    return [one.size // len(one.keys)] * missing


def drop_damaged() -> None:
    """Write every pack with a damaged entry anew without it."""
    _told(lambda: _rewritten(_failing, lambda *_: True))


def _rewritten(which: Callable[[Pack], Any], keep: Callable[[str, str, bytes], bool]) -> int:
    """Packs replaced by what is whole in them and to be kept; returns how many whole entries were not kept."""
    shelf, count = _shelf(), 0
    for one in shelf.packs():
        if not which(one):
            continue
        whole = list(unpack(shelf.read(one.name) or b""))
        kept = [entry for entry in whole if keep(*entry)]
        if len(kept) == len(one.keys):
            continue
        for some in batches_by_size(kept):
            shelf.write(*pack(some, one.kind))
        shelf.remove(one.name)
        count += len(whole) - len(kept)
    shelf.listed = False
    return count


def trim(size: int) -> None:
    """Remove the packs used longest ago, until they hold no more than `size` bytes together."""
    _told(lambda: _evict(_shelf(), size, size))


def compact() -> None:
    """Nothing to do: a bucket has no free pages."""
