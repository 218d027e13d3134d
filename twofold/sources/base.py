"""What every source of images offers: a listing, and the bytes of the files in it.

Here are the protocol `Source`, its records, and the one way in which a transfer that arrived corrupted is tried again.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeVar

from twofold.core.errors import SourceError

T = TypeVar("T")
TRIES = 4  # of one object, or one page of a listing, that arrives corrupted
PAUSE = 0.5  # seconds before the second try, twice as long before each further one


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
    ignored: list[IgnoredFile]
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


class CorruptionError(OSError):
    """What arrived is not what was asked for; asked for again, it may be."""


def retry_corrupted(what: str, work: Callable[[], T]) -> T:
    """What `work` returns; it is called up to TRIES times while it raises CorruptionError, with growing pauses.

    Raises:
        SourceError: the last try failed too; `what` names the file.
    """
    for attempt in range(1, TRIES):
        with suppress(CorruptionError):
            return work()
        time.sleep(PAUSE * 2 ** (attempt - 1))
    try:
        return work()
    except CorruptionError as error:
        raise SourceError(f"{what}: {error} (tried {TRIES} times)") from None
