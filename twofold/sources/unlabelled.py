"""Images without regard to labels: in comes an address, out come all images that lie there.

In: what `ingest.source` takes (a folder, `s3://bucket/prefix`, `dvc+<git url>@<rev>:<path>`), with or without class
folders or a `labels.csv`. Out: its source, the images' keys, sorted, with their group where a `labels.csv` names one,
and what would be missed: pictures that cannot be taken, each with the reason.
"""

import re
from pathlib import Path
from typing import NamedTuple

from twofold.core.errors import DataError
from twofold.sources.base import Source
from twofold.sources.factory import open_source
from twofold.sources.labels import OUTSIDE, UNNAMED
from twofold.sources.local_folder import FolderSource


class UnlabelledImages(NamedTuple):
    """All images of a source.

    Attributes:
        images: (key, group or None), sorted.
        refused: (key, reason) of pictures that are not taken, sorted.
        ignored: how many other files lie there.
    """

    source: Source
    images: list[tuple[str, str | None]]
    refused: list[tuple[str, str]]
    ignored: int


def list_unlabelled(address: str) -> UnlabelledImages:
    """List the images at an address.

    Raises:
        DataError: it is not there, not an address of a known kind, or its labels.csv is wrong.
    """
    source = _source(address)
    listing = source.listing()
    extra = [item for item in listing.ignored if item.reason in (OUTSIDE, UNNAMED)]
    rest = [item for item in listing.ignored if item.reason not in (OUTSIDE, UNNAMED)]
    images = [(entry.key, entry.group) for entry in listing.entries] + [(item.key, None) for item in extra]
    refused = [(item.key, item.reason) for item in rest if item.counts]
    return UnlabelledImages(source, sorted(images, key=lambda pair: pair[0]), refused, len(rest) - len(refused))


def _source(address: str) -> Source:
    try:
        if address.startswith("s3://"):
            # Not by way of the memo, as `open_source` has it: what is looked at once would push out what is trained on.
            from twofold.sources.s3 import S3Source  # boto3 takes a while to import

            return S3Source(address)
        if not address.startswith("dvc+") and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address):
            if not Path(address).is_dir():
                raise DataError(f"{address}: no such folder")
            return FolderSource(Path(address))
        return open_source(address)
    except DataError as error:
        # The same rules hold for the parameter, which is not meant here.
        raise type(error)(str(error).removeprefix("ingest.source: ")) from None
