"""Where images can come from: in comes `ingest.source`, out comes a source, whichever it is.

| the address | is |
|---|---|
| `data/photos`, `/mnt/photos` | a local folder (`twofold/sources/local_folder.py`) |
| `s3://bucket/prefix` | objects in an S3 bucket (`twofold/sources/s3.py`) |
| `dvc+<git url or path>@<rev>:<path>` | a folder in a revision of a DVC repository (`twofold/sources/dvc_repo.py`) |
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from twofold.core.errors import DataError
from twofold.sources.labels import Fetched, Listing, Wanted
from twofold.sources.local_folder import Folder


class Source(Protocol):
    """Labelled images somewhere; it travels to worker processes, without its listing.

    `name`: the address for people, without credentials.
    """

    name: str

    def listing(self) -> Listing:
        """What it offers; asked once, before anything is fetched."""
        ...

    def wanted(self, key: str) -> Wanted:
        """What `fetch` takes for a key of the listing."""
        ...

    def fetch(self, wanted: Sequence[Wanted], limit: int) -> list[Fetched]:
        """The files, in their order; of one above `limit` bytes, nothing or the beginning.

        Raises:
            SourceError: the source failed, and not a single file of it.
        """
        ...


def open_source(address: str) -> Source:
    """The source behind an address.

    Raises:
        DataError: it is not there, or not an address of a known kind.
    """
    if address.startswith("dvc+"):
        from twofold.sources.dvc_repo import Version  # DVC takes a while to import, and a folder does not need it

        return Version(address)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", address)
    if scheme is None:
        return Folder(Path(address))
    if scheme[1] == "s3":
        from twofold.sources.cached import Remembered
        from twofold.sources.s3 import Bucket
        from twofold.storage.s3_client import endpoint  # so does boto3

        return Remembered(Bucket(address), endpoint() or "")
    raise DataError(
        f"ingest.source: found an address of kind {scheme[1]}://; allowed are a local folder, s3://bucket/prefix and "
        "dvc+<git url or path>@<rev>:<path>"
    )
