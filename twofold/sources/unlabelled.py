"""Lists all images at an address, whether they have labels or not."""

from pathlib import Path
from typing import NamedTuple

from twofold.core.errors import DataError
from twofold.sources.base import Source
from twofold.sources.factory import address_kind, open_source
from twofold.sources.labels import OUTSIDE, UNNAMED


class UnlabelledImages(NamedTuple):
    """All images of a source.

    Attributes:
        source: reads the images.
        images: (key, group or None), sorted; a group comes from a `labels.csv`.
        refused: (key, reason) of images that cannot be read, sorted.
        ignored: number of systems' and editors' own files and folders.
    """

    source: Source
    images: list[tuple[str, str | None]]
    refused: list[tuple[str, str]]
    ignored: int


def list_unlabelled(address: str) -> UnlabelledImages:
    """List the images at an address as `ingest.source` allows it, with or without class folders or a `labels.csv`.

    Raises:
        DataError: it does not exist, is not an address of a known kind, or its labels.csv is wrong.
    """
    source = _open_source(address)
    listing = source.listing()
    unlabelled = [item for item in listing.ignored if item.reason in (OUTSIDE, UNNAMED)]
    images = [(entry.key, entry.group) for entry in listing.entries] + [(item.key, None) for item in unlabelled]
    refused = [(item.key, item.reason) for item in listing.ignored if item.reason not in (OUTSIDE, UNNAMED)]
    return UnlabelledImages(source, sorted(images, key=lambda pair: pair[0]), refused, len(listing.hidden))


def _open_source(address: str) -> Source:
    if not address_kind(address) and not Path(address).is_dir():
        raise DataError(f"{address}: no such folder")
    try:
        # Without the cache, in which images that are read once would displace the training images.
        return open_source(address, cached=False)
    except DataError as error:
        # The address does not come from this parameter.
        raise type(error)(str(error).removeprefix("ingest.source: ")) from None
