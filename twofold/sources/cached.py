"""A source that fetches each file once and reads it from the cache as long as its ETag stays the same.

The cache key consists of the source, the file's key, its ETag and its size; the value also holds the file's version
and whether a checksum verified it. A file without an ETag is fetched each time.
"""

import hashlib
import json
from collections.abc import Sequence

from twofold.sources.base import FetchedFile, FileRequest, Listing, Source
from twofold.storage import cache

KIND = "fetched"
_FORM = "1"  # of the cached values; increase it when `_encode` changes


class CachedSource:
    """A source with the cache in front of it.

    Args:
        source: a source whose ETags change with the files' bytes.
        place: what determines the bytes besides the source's address, such as the server; no credentials.
    """

    def __init__(self, source: Source, place: str = "") -> None:
        self.name = source.name
        self._source = source
        self._place = place

    def listing(self) -> Listing:
        """List the images; the listing is never cached."""
        return self._source.listing()

    def request(self, key: str) -> FileRequest:
        """Return the request for a key of the listing."""
        return self._source.request(key)

    def fetch(self, requests: Sequence[FileRequest], limit: int) -> list[FetchedFile]:
        """Return the files, in order, and fetch only those that are not in the cache."""
        keys = [self._cache_key(one) if one.etag and one.bytes <= limit else "" for one in requests]
        values = cache.lookup([key for key in keys if key])
        cached = {key: file for key, value in values.items() if (file := _decode(value)) is not None}
        missing = [i for i, key in enumerate(keys) if key not in cached]
        fetched = dict(zip(missing, self._source.fetch([requests[i] for i in missing], limit), strict=True))
        fresh = {keys[i]: file for i, file in fetched.items() if keys[i] and not file.reason}
        cache.store([(key, hashlib.sha256(file.data).hexdigest(), _encode(file)) for key, file in fresh.items()], KIND)
        return [fetched[i] if i in fetched else cached[key] for i, key in enumerate(keys)]

    def _cache_key(self, one: FileRequest) -> str:
        return cache.key(KIND, _FORM, self._place, self.name, one.key, one.etag, str(one.bytes))


def _encode(file: FetchedFile) -> bytes:
    return json.dumps([file.version, file.verified]).encode() + b"\n" + file.data


def _decode(value: bytes) -> FetchedFile | None:
    """Return the file that `_encode` wrote; None for anything else."""
    head, _, data = value.partition(b"\n")
    try:
        version, verified = json.loads(head)
    except (ValueError, TypeError, RecursionError):
        return None
    return FetchedFile(data, "", version, verified) if isinstance(version, str) and isinstance(verified, bool) else None
