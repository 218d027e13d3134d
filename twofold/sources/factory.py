"""Opens the source behind an address.

| address | source |
|---|---|
| `data/photos`, `/mnt/photos` | a local folder (`twofold/sources/local_folder.py`) |
| `s3://bucket/prefix` | objects in an S3 bucket (`twofold/sources/s3.py`) |
| `dvc+<git url or path>@<rev>:<path>` | a folder in a revision of a DVC repository (`twofold/sources/dvc_repo.py`) |
"""

import re
from pathlib import Path

from twofold.core.errors import DataError
from twofold.core.redaction import REFUSAL, has_credentials
from twofold.sources.base import Source
from twofold.sources.local_folder import FolderSource


def address_kind(address: str) -> str:
    """Return `dvc+`, or the scheme before `://`, or nothing for a local folder."""
    match = re.match(r"dvc\+|[A-Za-z][A-Za-z0-9+.-]*(?=://)", address)
    return match[0] if match else ""


def open_source(address: str, cached: bool = True) -> Source:
    """Return the source behind an address.

    Args:
        address: see the table above.
        cached: store the objects fetched from S3 in the cache.

    Raises:
        DataError: the folder does not exist, or the address is not of a known kind or contains credentials.
    """
    if has_credentials(address):
        raise DataError(f"ingest.source: {REFUSAL}")
    kind = address_kind(address)
    if not kind:
        return FolderSource(Path(address))
    if kind == "dvc+":
        from twofold.sources.dvc_repo import DvcSource  # DVC is slow to import, and a folder does not need it

        return DvcSource(address)
    if kind == "s3":
        from twofold.sources.cached import CachedSource
        from twofold.sources.s3 import S3Source  # boto3 is slow to import too
        from twofold.storage.s3_client import endpoint

        return CachedSource(S3Source(address), endpoint() or "") if cached else S3Source(address)
    raise DataError(
        f"ingest.source: found an address of kind {kind}://; allowed are a local folder, s3://bucket/prefix and "
        "dvc+<git url or path>@<rev>:<path>"
    )
