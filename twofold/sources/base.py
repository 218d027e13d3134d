"""The `Source` protocol, its records, and the retry of transfers that arrive corrupted."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from twofold.core.errors import SourceError

T = TypeVar("T")
TRIES = 4  # of one object or one page of a listing that arrives corrupted
PAUSE = 0.5  # seconds before the second try, doubled before each further one


class Entry(NamedTuple):
    """One labelled image; `key` is its path relative to the source, with slashes."""

    key: str
    label: str
    group: str | None
    split: str | None
    slices: tuple[str | None, ...]


class IgnoredFile(NamedTuple):
    """A file that is not offered; if `counts`, the owner would miss it, and it counts as refused."""

    key: str
    label: str
    reason: str
    counts: bool


class Listing(NamedTuple):
    """The content of a source: `entries` and `ignored` sorted by key, the names of the slice columns sorted.

    `hidden`: systems' and editors' own files and folders, sorted; they are in no version of the source.
    """

    entries: list[Entry]
    ignored: list[IgnoredFile]
    slices: tuple[str, ...]
    hidden: Sequence[str] = ()


class FileRequest(NamedTuple):
    """One file to fetch: its key, its size in bytes, and its ETag in the listing if there is one."""

    key: str
    bytes: int
    etag: str = ""


class FetchedFile(NamedTuple):
    """A file's bytes, or the reason why it is refused; `version` is the store's, `verified` means by a checksum."""

    data: bytes
    reason: str = ""
    version: str = ""
    verified: bool = True


class Source(Protocol):
    """A place of labelled images; it can be sent to worker processes, without its listing.

    `name`: the address for people, without credentials.
    """

    name: str

    def listing(self) -> Listing:
        """List the images; called once, before anything is fetched."""

    def request(self, key: str) -> FileRequest:
        """Return the request for a key of the listing."""

    def fetch(self, requests: Sequence[FileRequest], limit: int) -> list[FetchedFile]:
        """Return the files, in order; of a file above `limit` bytes, nothing or its beginning.

        Raises:
            SourceError: the source as a whole failed, not only one of its files.
        """


class CorruptionError(OSError):
    """The bytes received are not the ones requested; another try may succeed."""


def retry_corrupted(what: str, work: Callable[[], T]) -> T:
    """Return the result of `work`, called up to TRIES times while it raises CorruptionError, with growing pauses.

    Raises:
        SourceError: the last try failed too; the message begins with `what`.
    """
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return work()
        except CorruptionError as error:
            last = error
    raise SourceError(f"{what}: {last} (tried {TRIES} times)", transient=True) from None
