"""Packs: objects that hold several cache entries each, under a name that lists the entries.

An entry is (key, SHA-256 of the image that the value was computed from, value). A pack is a line of JSON,
`[[key, image, SHA-256 of the value, bytes], …]`, followed by the values. Its name is `<kind>/<digest>/<tags>`: the
start of the pack's SHA-256, and two tags per entry, of its key and of its image. A slash follows every 12 entries,
because stores on a file system allow at most 255 characters between slashes. A tag is 48 bits of a SHA-256; that is
enough to find the right pack, which contains the full key.
"""

import base64
import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

Entry = tuple[str, str, bytes]
TAG = 8  # characters
MOST_ENTRIES, MOST_BYTES = 36, 16 * 1024 * 1024  # of a pack of several entries; a name has at most 1,024 characters
_ROW = 12  # entries between two slashes
_NAME = re.compile(r"([a-z]+)/[0-9a-f]{16}/((?:[A-Za-z0-9_-]{16})+(?:/(?:[A-Za-z0-9_-]{16})+)*)")


class Pack(NamedTuple):
    """A listed pack: the tags of its keys and images come from its name, `used` is in seconds since 1970."""

    name: str
    kind: str
    keys: tuple[str, ...]
    images: tuple[str, ...]
    size: int
    used: float


def short_hash(text: str) -> str:
    """Return the tag of a key or an image."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:6]).decode()


def batches_by_size(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield the entries in order, in batches of one pack each."""
    batch: list[Entry] = []
    total = 0
    for entry in entries:
        if batch and (len(batch) == MOST_ENTRIES or total + len(entry[2]) > MOST_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(entry)
        total += len(entry[2])
    if batch:
        yield batch


def pack(entries: Sequence[Entry], kind: str) -> tuple[str, bytes]:
    """Return a pack's name and bytes; the same entries give the same pack."""
    head = [[key, image, hashlib.sha256(value).hexdigest(), len(value)] for key, image, value in entries]
    data = json.dumps(head).encode() + b"\n" + b"".join(value for _, _, value in entries)
    tags = [short_hash(key) + short_hash(image) for key, image, _ in entries]
    rows = ["".join(tags[start : start + _ROW]) for start in range(0, len(tags), _ROW)]
    return "/".join([kind, hashlib.sha256(data).hexdigest()[:16], *rows]), data


def parse_name(name: str, size: int, used: float) -> Pack | None:
    """Return the pack with this name, or None if the name is not a pack's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    joined = match[2].replace("/", "")
    tags = [joined[start : start + TAG] for start in range(0, len(joined), TAG)]
    return Pack(name, match[1], tuple(tags[::2]), tuple(tags[1::2]), size, used)


def unpack(data: bytes, only: set[str] | None = None) -> Iterator[Entry]:
    """Yield the entries that are intact; none if the first line is corrupt.

    Args:
        data: the pack's bytes.
        only: the keys to yield; None for all.
    """
    line, _, values = data.partition(b"\n")
    try:
        head = [(str(key), str(image), str(sha256), int(size)) for key, image, sha256, size in json.loads(line)]
    except (ValueError, TypeError, OverflowError, RecursionError):  # the last two only by a malicious line
        return
    start = 0
    for key, image, sha256, size in head:
        value = values[start : start + size]
        start += size
        if (only is None or key in only) and hashlib.sha256(value).hexdigest() == sha256:
            yield key, image, value


class Index:
    """Finds the packs that hold a key; it takes 12 bytes per listed entry, so that millions fit in memory."""

    def __init__(self, packs: Sequence[Pack] = ()) -> None:
        self._names = [one.name for one in packs]
        self._used = {one.name: one.used for one in packs}
        owners = array("i", [number for number, one in enumerate(packs) for _ in one.keys])
        tags = np.frombuffer("".join("".join(one.keys) for one in packs).encode(), f"S{TAG}")
        order = np.argsort(tags, kind="stable")
        self._tags, self._owners = tags[order], np.frombuffer(owners, np.intc)[order]
        self._written: dict[str, str] = {}

    def find(self, key: str) -> list[str]:
        """Return the names of the packs that hold a key's tag, the one written last first."""
        low, high = (int(np.searchsorted(self._tags, key.encode(), side)) for side in ("left", "right"))
        listed = [self._names[number] for number in reversed(self._owners[low:high])]
        return [self._written[key], *listed] if key in self._written else listed

    def add(self, name: str, keys: Iterable[str]) -> None:
        """Add a pack that was written after the listing."""
        self._written |= dict.fromkeys(keys, name)

    def used(self, name: str) -> float:
        """Return when a pack was last used, in seconds since 1970; infinity if it was written after the listing."""
        return self._used.get(name, float("inf"))
