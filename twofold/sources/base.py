"""TODO"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """One image on offer; `key` is its path relative to the folder, with slashes."""

    key: str
    label: str
    group: str | None
    split: str | None
    slices: tuple[str | None, ...]


class IgnoredFile(NamedTuple):
    """A file that is not on offer; `counts` says whether its owner would miss it (then it counts as refused)."""

    key: str
    label: str
    reason: str
    counts: bool


class Listing(NamedTuple):
    """What a source offers: `entries` and `aside` sorted by key, the names of the slice columns sorted."""

    entries: list[Entry]
    aside: list[IgnoredFile]
    slices: tuple[str, ...]


class FileRequest(NamedTuple):
    """One file to fetch: its key, its size in bytes, and the ETag with which it was listed, if there is one."""

    key: str
    bytes: int
    etag: str = ""


class FetchedFile(NamedTuple):
    """A file's bytes, or the reason why it is refused; `version` as the store names it, `verified` by its checksum."""

    data: bytes
    reason: str = ""
    version: str = ""
    verified: bool = True


class Source(Protocol):
    """Labelled images somewhere; it travels to worker processes, without its listing.

    `name`: the address for people, without credentials.
    """

    name: str

    def listing(self) -> Listing:
        """What it offers; asked once, before anything is fetched."""
        ...

    def wanted(self, key: str) -> FileRequest:
        """What `fetch` takes for a key of the listing."""
        ...

    def fetch(self, wanted: Sequence[FileRequest], limit: int) -> list[FetchedFile]:
        """The files, in their order; of one above `limit` bytes, nothing or the beginning.

        Raises:
            SourceError: the source failed, and not a single file of it.
        """
        ...
