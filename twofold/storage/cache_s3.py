"""Cache backend in an S3 bucket that any number of machines share, called by `twofold/storage/cache.py`.

TWOFOLD_CACHE is `s3://bucket/prefix`. A lookup returns the values that are present and intact. S3 errors are raised as
OSError.

Values are stored in packs (`twofold/storage/cache_packs.py`): objects that are written once, under names that list
their entries. The listing is therefore the index, and writers never conflict. Each process lists the bucket once; an
entry that another process adds later is computed again, and stored twice at worst. A pack counts as used when it is
written, and at most once a day when it is read.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from twofold.core.errors import DataError, ParameterError, SourceError, first_line
from twofold.storage.cache_packs import Entry, Index, Pack, batches_by_size, pack, parse_name, short_hash, unpack
from twofold.storage.cache_sqlite import LOCATION
from twofold.storage.s3_client import create_client, endpoint, explain_error, map_in_threads, parse_address

ATTEMPTS = 3  # of a request; a value that cannot be read is computed
USE_INTERVAL = 24 * 3600.0  # seconds after which reading a pack counts as a use
SHARE = 16  # the bucket is listed again once this process has written limit / SHARE bytes


class _PackStore:
    """The packs below one address, as this process knows them."""

    def __init__(self, address: str) -> None:
        self.bucket, prefix = parse_address(address, LOCATION)
        self.prefix = f"{prefix}memo-1/"
        self.client = create_client(ATTEMPTS)
        self.index = Index()
        self.total = self.written = 0  # bytes: listed and written since; written since the listing
        self.touched: set[str] = set()
        self.listed = False

    def list_packs(self) -> list[Pack]:
        """List all packs, the least recently used first."""
        packs = []
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix):
            for item in page.get("Contents", []):
                name = item["Key"].removeprefix(self.prefix)
                if found := parse_name(name, int(item["Size"]), item["LastModified"].timestamp()):
                    packs.append(found)
        packs.sort(key=lambda found: (found.used, found.name))
        self.total, self.written = sum(found.size for found in packs), 0
        return packs

    def load_index(self) -> Index:
        """Return the index; the first call lists the bucket."""
        if not self.listed:
            self.index = Index(self.list_packs())
            self.listed = True
        return self.index

    def read(self, name: str) -> bytes | None:
        """Return a pack's bytes, or None if it is gone."""
        try:
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"].read()
            return body
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("NoSuchKey", "404"):
                return None
            raise

    def read_values(self, pack: tuple[str, list[str]]) -> dict[str, bytes]:
        """Return the values of one pack, given its name and the keys, and record that it was used."""
        name, keys = pack
        values = {key: value for key, _, value in unpack(self.read(name) or b"", set(keys))}
        if values and time.time() - self.index.used(name) > USE_INTERVAL and name not in self.touched:
            self.touched.add(name)
            # A copy onto itself sets the time and transfers nothing. It may fail for want of permission, or because the
            # pack was evicted meanwhile; the values were read successfully in any case.
            place = {"Bucket": self.bucket, "Key": self.prefix + name}
            with suppress(ClientError, BotoCoreError, HTTPError):
                self.client.copy_object(**place, CopySource=place, MetadataDirective="REPLACE")
        return values

    def write(self, entries: Sequence[Entry], kind: str) -> str:
        """Write entries as one pack and return its name; S3 writes objects atomically."""
        name, data = pack(entries, kind)
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=data)
        self.total += len(data)
        self.written += len(data)
        return name

    def remove(self, name: str) -> None:
        """Delete a pack; deleting one that is already gone is not an error."""
        self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    def evict(self, limit: int, size: int) -> None:
        """If the packs hold more than `limit` bytes, remove the least recently used ones down to `size` bytes."""
        packs = self.list_packs()
        evicted = []
        for one in packs if self.total > limit else []:
            if self.total <= size:
                break
            evicted.append(one.name)
            self.total -= one.size
        map_in_threads(self.remove, evicted)
        self.index = Index(packs[len(evicted) :])
        self.listed = True

    def rewrite(self, is_affected: Callable[[Pack], Any], keep: Callable[[str, str, bytes], bool]) -> int:
        """Replace packs by their intact entries to keep, and return how many intact entries were removed."""
        removed = 0
        for one in filter(is_affected, self.list_packs()):
            intact = list(unpack(self.read(one.name) or b""))
            kept = [entry for entry in intact if keep(*entry)]
            if len(kept) != len(one.keys):
                for batch in batches_by_size(kept):
                    self.write(batch, one.kind)
                self.remove(one.name)
                removed += len(intact) - len(kept)
        self.listed = False
        return removed


_stores: dict[tuple[str, str, int], _PackStore] = {}


def _store() -> _PackStore:
    # One per process: processes that share a connection would mix up their responses.
    key = (title(), endpoint() or "", os.getpid())
    if key not in _stores:
        for inherited in [other for other in _stores if other[2] != os.getpid()]:
            del _stores[inherited]
        _stores[key] = _PackStore(key[0])
    return _stores[key]


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Turn an S3 error into an OSError with a readable message, and a wrong address into a ParameterError."""
    try:
        yield
    except ClientError as error:
        raise OSError(explain_error(error)) from None
    except (BotoCoreError, HTTPError, SourceError) as error:
        raise OSError(first_line(error)) from None
    except DataError as error:
        raise ParameterError(str(error)) from None


def title() -> str:
    """Return the cache's address."""
    return os.environ[LOCATION]


absolute_address = title


@_readable_errors()
def exists() -> bool:
    """Return whether anything was ever stored."""
    return bool(_store().list_packs())


@_readable_errors()
def extent() -> str:
    """Return the cache's size, in words."""
    packs = _store().list_packs()
    return f"{len(packs):,} packs of {sum(one.size for one in packs):,} bytes"


@_readable_errors()
def get(keys: Sequence[str]) -> dict[str, bytes]:
    """Return the values that are present and intact, by key, and record that their packs were used."""
    store = _store()
    index = store.load_index()
    packs = {key: index.find(short_hash(key)) for key in keys}
    values: dict[str, bytes] = {}
    # Several packs may hold a key; if one is corrupt or gone, the next is tried.
    for attempt in range(max(map(len, packs.values()), default=0)):
        keys_by_pack: dict[str, list[str]] = {}
        for key, names in packs.items():
            if key not in values and attempt < len(names):
                keys_by_pack.setdefault(names[attempt], []).append(key)
        for found in map_in_threads(store.read_values, keys_by_pack.items()):
            values |= found
    return values


@_readable_errors()
def put(entries: Sequence[Entry], kind: str, limit: int) -> None:
    """Store values of a kind, about `limit` bytes in all; entries are (key, image's SHA-256, value)."""
    store = _store()
    index = store.load_index()
    batches = list(batches_by_size(entries))
    for name, batch in zip(map_in_threads(partial(store.write, kind=kind), batches), batches, strict=True):
        index.add(name, [short_hash(key) for key, _, _ in batch])
    if store.total > limit or store.written * SHARE > limit:
        # Eviction leaves some room, otherwise the next `put` would list the bucket again.
        store.evict(limit, limit - limit // SHARE)


@_readable_errors()
def forget(image: str) -> int:
    """Rewrite every pack without the values computed from an image, and return their number."""
    tag = short_hash(image)
    return _store().rewrite(lambda one: tag in one.images, lambda key, owner, value: owner != image)


@_readable_errors()
def kinds() -> list[tuple[str, int, int]]:
    """Return (kind, entries, bytes of their packs), sorted by kind."""
    entries: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for one in _store().list_packs():
        entries[one.kind] += len(one.keys)
        sizes[one.kind] += one.size
    return [(kind, entries[kind], sizes[kind]) for kind in sorted(sizes)]


@_readable_errors()
def damaged() -> list[int]:
    """Return the size in bytes of each value that does not match its checksum: an equal part of its pack's size."""
    return [size for one in _store().list_packs() for size in _sizes_of_corrupt(one)]


def _sizes_of_corrupt(one: Pack) -> list[int]:
    data = _store().read(one.name)
    corrupt = 0 if data is None else len(one.keys) - len(list(unpack(data)))
    return [one.size // len(one.keys)] * corrupt


@_readable_errors()
def drop_damaged() -> None:
    """Rewrite every pack that has a corrupt entry without that entry."""
    _store().rewrite(_sizes_of_corrupt, lambda *_: True)


@_readable_errors()
def trim(size: int) -> None:
    """Remove the least recently used packs until they hold at most `size` bytes together."""
    _store().evict(size, size)


def compact() -> None:
    """Do nothing: a bucket has no free pages."""
