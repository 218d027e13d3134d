"""The version of a source: a digest of everything that a listing offers, which changes with any image or label.

The pipeline on Kubeflow passes it from its first task to `ingest`, so that `ingest` is taken from the cache as long as
the source is unchanged. An image counts with its ETag (in S3) or its MD5 (in DVC). A file of a folder has neither and
counts with the SHA-256 of its content: its modification time changes with every copy, and may stay when it is replaced.
"""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from twofold.sources.base import FileRequest, Listing, Source

_THREADS = 8  # they wait for a disk or a server, and hashing releases Python's lock


def read_source_version(source: Source, limit: int) -> str:
    """List a source, and return its version as 64 hex digits.

    Args:
        source: files without an ETag are read completely.
        limit: bytes; a larger file counts with its size only, because `ingest` refuses it.

    Raises:
        DataError: as for `listing` and `fetch` of the source.
    """
    listing = source.listing()

    def content(request: FileRequest) -> str:
        if request.etag:
            return ""
        (file,) = source.fetch([request], limit)
        return "" if file.reason or len(file.data) > limit else hashlib.sha256(file.data).hexdigest()

    requests = [source.request(entry.key) for entry in listing.entries]
    with ThreadPoolExecutor(_THREADS) as threads:
        return version_of(listing, requests, list(threads.map(content, requests)))


def version_of(listing: Listing, requests: Sequence[FileRequest], contents: Sequence[str]) -> str:
    """Return the version of a listing.

    Args:
        listing: of the source.
        requests: of the listing's entries, in their order.
        contents: the SHA-256 of each file's content, which counts if the file has no ETag; empty if it is unreadable.
    """
    rows = [
        (*entry, request.bytes, request.etag or content)
        for entry, request, content in zip(listing.entries, requests, contents, strict=True)
    ]
    text = json.dumps([listing.slices, listing.ignored, rows], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
