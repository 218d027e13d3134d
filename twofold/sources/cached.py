"""A source whose files are fetched once, and not again while their store names them by the same ETag.

In: a source. Out: one that is the same to everybody else. A file that came is kept in the memo, with its version and
whether a checksum held, under the source, its key, its ETag and its size. One without an ETag is fetched each time.
"""

import hashlib
import json
from collections.abc import Sequence

from twofold.sources.base import FetchedFile, FileRequest, Listing, Source
from twofold.storage import cache

KIND = "fetched"
_FORM = "1"  # of the values; count up when `_packed` changes


class CachedSource:
    """A source, and the memo before it.

    Args:
        source: whose files are named by an ETag that changes with their bytes.
        place: what its address leaves out and its bytes depend on, such as the server; no credentials.
    """

    def __init__(self, source: Source, place: str = "") -> None:
        self.name = source.name
        self._source = source
        self._place = place

    def listing(self) -> Listing:
        """What it offers, asked anew each time."""
        return self._source.listing()

    def wanted(self, key: str) -> FileRequest:
        """What `fetch` takes for a key of the listing."""
        return self._source.wanted(key)

    def fetch(self, wanted: Sequence[FileRequest], limit: int) -> list[FetchedFile]:
        """The files, in their order; only those that the memo lacks are asked for.

        Raises:
            SourceError: the source failed, and not a single file of it.
        """
        keys = [self._key(one) if one.etag and one.bytes <= limit else "" for one in wanted]
        kept = cache.lookup([key for key in keys if key])
        known = {key: one for key, value in kept.items() if (one := _unpacked(value)) is not None}
        missing = [place for place, key in enumerate(keys) if key not in known]
        arrived = dict(zip(missing, self._source.fetch([wanted[place] for place in missing], limit), strict=True))
        cache.store(
            [
                (keys[place], hashlib.sha256(one.data).hexdigest(), _packed(one))
                for place, one in arrived.items()
                if keys[place] and not one.reason
            ],
            KIND,
        )
        return [arrived[place] if place in arrived else known[key] for place, key in enumerate(keys)]

    def _key(self, one: FileRequest) -> str:
        return cache.key(KIND, _FORM, self._place, self.name, one.key, one.etag, str(one.bytes))


def _packed(one: FetchedFile) -> bytes:
    return json.dumps([one.version, one.verified]).encode() + b"\n" + one.data


def _unpacked(value: bytes) -> FetchedFile | None:
    """What `_packed` made; None if it is something else."""
    head, _, data = value.partition(b"\n")
    try:
        version, verified = json.loads(head)
    except (ValueError, TypeError, RecursionError):
        return None
    return FetchedFile(data, "", version, verified) if isinstance(version, str) and isinstance(verified, bool) else None
