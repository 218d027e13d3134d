"""Where images can come from: in comes `ingest.source`, out comes a source, whichever it is.

| the address | is |
|---|---|
| `data/photos`, `/mnt/photos` | a local folder (`twofold/sources/local_folder.py`) |
| `s3://bucket/prefix` | objects in an S3 bucket (`twofold/sources/s3.py`) |
| `dvc+<git url or path>@<rev>:<path>` | a folder in a revision of a DVC repository (`twofold/sources/dvc_repo.py`) |
"""

import re
from pathlib import Path

from twofold.core.errors import DataError
from twofold.sources.base import Source
from twofold.sources.local_folder import FolderSource


def open_source(address: str) -> Source:
    """The source behind an address.

    Raises:
        DataError: it is not there, or not an address of a known kind.
    """
    if address.startswith("dvc+"):
        from twofold.sources.dvc_repo import DvcSource  # DVC takes a while to import, and a folder does not need it

        return DvcSource(address)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", address)
    if scheme is None:
        return FolderSource(Path(address))
    if scheme[1] == "s3":
        from twofold.sources.cached import CachedSource
        from twofold.sources.s3 import S3Source
        from twofold.storage.s3_client import endpoint  # so does boto3

        return CachedSource(S3Source(address), endpoint() or "")
    raise DataError(
        f"ingest.source: found an address of kind {scheme[1]}://; allowed are a local folder, s3://bucket/prefix and "
        "dvc+<git url or path>@<rev>:<path>"
    )
