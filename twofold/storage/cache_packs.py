"""Packs: several values in one object, whose name says what they are.

In: entries, (key, SHA-256 of the image that the value was made from, value). Out: a name and bytes; and back.

A pack is a line of JSON, `[[key, image, SHA-256 of the value, bytes], …]`, and the values, one after the other. Its
name is `<kind>/<digest>/<tags>`: the beginning of its own SHA-256, and two tags an entry, of its key and of its image,
with a slash after every 12 entries, since stores on a file system take names of at most 255 characters between
slashes. A tag is 48 bits of a SHA-256: enough to look in the right pack, and the key itself stands in there.
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
MOST_ENTRIES, MOST_BYTES = 36, 16 * 1024 * 1024  # of a pack, but at least one entry: names have 1,024 characters
_ROW = 12  # entries between two slashes
_NAME = re.compile(r"([a-z]+)/[0-9a-f]{16}/((?:[A-Za-z0-9_-]{16})+(?:/(?:[A-Za-z0-9_-]{16})+)*)")


class Pack(NamedTuple):
    """A pack as its name tells of it; `used` is in seconds since 1970."""

    name: str
    kind: str
    keys: tuple[str, ...]
    images: tuple[str, ...]
    size: int
    used: float


def short_hash(text: str) -> str:
    """By which a key or an image is found in a name."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:6]).decode()


def batches_by_size(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """The entries in their order, as many together as a pack takes."""
    some: list[Entry] = []
    total = 0
    for entry in entries:
        if some and (len(some) == MOST_ENTRIES or total + len(entry[2]) > MOST_BYTES):
            yield some
            some, total = [], 0
        some.append(entry)
        total += len(entry[2])
    if some:
        yield some


def pack(entries: Sequence[Entry], kind: str) -> tuple[str, bytes]:
    """Name and bytes; the same entries give the same pack."""
    head = [[key, image, hashlib.sha256(value).hexdigest(), len(value)] for key, image, value in entries]
    data = json.dumps(head).encode() + b"\n" + b"".join(value for _, _, value in entries)
    tags = [short_hash(key) + short_hash(image) for key, image, _ in entries]
    rows = ["".join(tags[start : start + _ROW]) for start in range(0, len(tags), _ROW)]
    return "/".join([kind, hashlib.sha256(data).hexdigest()[:16], *rows]), data


def parse_name(name: str, size: int, used: float) -> Pack | None:
    """What a name tells; None if it is not that of a pack."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    joined = match[2].replace("/", "")
    tags = [joined[start : start + TAG] for start in range(0, len(joined), TAG)]
    return Pack(name, match[1], tuple(tags[::2]), tuple(tags[1::2]), size, used)


def unpack(data: bytes, only: set[str] | None = None) -> Iterator[Entry]:
    """The entries that are whole; of a pack whose first line is damaged, none.

    Args:
        only: the keys that are wanted; None for all.
    """
    line, _, values = data.partition(b"\n")
    try:
        head = [(str(key), str(image), str(sha256), int(size)) for key, image, sha256, size in json.loads(line)]
    except (ValueError, TypeError, OverflowError, RecursionError):  # the last two by a line made for it
        return
    start = 0
    for key, image, sha256, size in head:
        value = values[start : start + size]
        start += size
        if (only is None or key in only) and hashlib.sha256(value).hexdigest() == sha256:
            yield key, image, value


class Index:
    """Which pack holds a key: 12 bytes an entry for those that were listed, so that millions fit."""

    def __init__(self, packs: Sequence[Pack] = ()) -> None:
        self._names = [one.name for one in packs]
        self._used = {one.name: one.used for one in packs}
        owners = array("i", [number for number, one in enumerate(packs) for _ in one.keys])
        tags = np.frombuffer("".join("".join(one.keys) for one in packs).encode(), f"S{TAG}")
        order = np.argsort(tags, kind="stable")
        self._tags, self._owners = tags[order], np.frombuffer(owners, np.intc)[order]
        self._own: dict[str, str] = {}

    def find(self, key: str) -> list[str]:
        """The names of the packs that hold a key's tag, the one written last first."""
        low, high = (int(np.searchsorted(self._tags, key.encode(), side)) for side in ("left", "right"))
        listed = [self._names[number] for number in reversed(self._owners[low:high])]
        return [self._own[key], *listed] if key in self._own else listed

    def add(self, name: str, keys: Iterable[str]) -> None:
        """A pack that was written since."""
        self._own |= dict.fromkeys(keys, name)

    def used(self, name: str) -> float:
        """When a pack was used last, seconds since 1970; one written since the listing, just now."""
        return self._used.get(name, float("inf"))
