"""How an image file is put together, looked at before a decoder sees it.

In: the bytes of one file. Out: nothing, or a DataError with the reason. Every part is bounded here that costs a decoder
time or memory without being a pixel: parts that are legion, scans that say nothing, strips and tiles that do not fit
the picture. What the file claims of its pixels is for `twofold/data/decoding.py` to judge.

This file travels inside the sealed model.
"""

import re
import struct
import zlib

from twofold.core.errors import DataError

# Far more than any camera or program writes, and few enough to be walked over in a moment.
PARTS = 100_000  # segments of a JPEG, chunks of a PNG
FILLING = 1_000_000  # bytes of a JPEG that belong to no segment
SCANS = 100  # of a JPEG; each one goes over all its blocks, even if it holds but a few bytes
ENTRIES = 4096  # of a TIFF's directory
VALUES = 1 << 18  # numbers in one entry of it, such as the offsets of strips

_FILL = re.compile(rb"\xff*")
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ALONE = {0x00, 0x01, 0xD8, *range(0xD0, 0xD8)}  # what follows 0xFF without a length behind it
_SCAN, _END = 0xDA, 0xD9
_RUN_LENGTHS = (1, 2)
_UNITS = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes; text has no numbers
_TILE_SIDES = (322, 323)


def validate_file(data: bytes, max_pixels: int) -> None:
    """Look over the parts of a file, whichever accepted format it is of; the others are left to be refused.

    Args:
        max_pixels: what a tile of a TIFF may have, however small the picture is.

    Raises:
        DataError: with the reason alone.
    """
    if data.startswith(b"\xff\xd8"):
        _jpeg(data)
    elif data.startswith(b"\x89PNG"):
        _png(data)
    elif data.startswith(b"BM"):
        _bmp(data)
    elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _tiff(data, max_pixels)


def _jpeg(data: bytes) -> None:
    """Marker segments: 0xFF, repeated at will, a marker, length (2 bytes), content; behind a scan's, its coded bits."""
    place, scans, filling = 2, 0, 0
    for _ in range(PARTS):
        start = data.find(b"\xff", place)
        mark = _end_of_fill(data, start) if start >= 0 else len(data)
        filling += max(0, mark - place - 1)
        if filling > FILLING:
            raise DataError(f"more than {FILLING} bytes of it belong to no part of a JPEG")
        if mark >= len(data) or data[mark] == _END:
            return
        if data[mark] in _ALONE:
            place = mark + 1
            continue
        place = mark + 1 + max(2, int.from_bytes(data[mark + 1 : mark + 3]))
        if data[mark] == _SCAN:
            scans += 1
            if scans > SCANS:
                raise DataError(f"more than {SCANS} scans in one JPEG; save it again")
            found = _AFTER_SCAN.search(data, place)
            if found is None:
                return
            place = found.start()
    raise DataError(f"more than {PARTS} parts in one JPEG; save it again without its metadata")


def _end_of_fill(data: bytes, start: int) -> int:
    found = _FILL.match(data, start)
    return found.end() if found else start


def _png(data: bytes) -> None:
    """Chunks: length (4 bytes), name (4), content, CRC-32 of name and content (4), at which no decoder looks."""
    view, place = memoryview(data), 8
    for _ in range(PARTS):
        if place + 12 > len(view):
            raise DataError("damaged or cut short: the end of the PNG is missing")
        end = place + 8 + int.from_bytes(view[place : place + 4])
        name = bytes(view[place + 4 : place + 8])
        if zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4]):
            raise DataError(f"damaged or cut short: the checksum of chunk {name!r} is wrong")
        if name == b"IEND":
            return
        place = end + 4
    raise DataError(f"more than {PARTS} parts in one PNG; save it again without its metadata")


def _bmp(data: bytes) -> None:
    # Pillow reads them in Python, a run at a time: minutes for a large file of short ones.
    if int.from_bytes(data[14:18], "little") >= 40 and int.from_bytes(data[30:34], "little") in _RUN_LENGTHS:
        raise DataError("a BMP of run lengths (RLE); save it as PNG, or as a plain BMP")


def _tiff(data: bytes, max_pixels: int) -> None:
    """One directory: number of entries, entries (tag, kind, count, value or its offset), offset of the next page."""
    order = "<" if data.startswith(b"II") else ">"
    big = 43 in data[2:4]
    entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
    number, offset = struct.Struct(order + ("Q" if big else "H")), struct.Struct(order + ("Q" if big else "I"))
    try:
        (start,) = offset.unpack_from(data, 8 if big else 4)
        (count,) = number.unpack_from(data, start)
        if count > ENTRIES:
            raise DataError(f"{count} entries in the directory of the TIFF, allowed are at most {ENTRIES}")
        first = start + number.size
        (following,) = offset.unpack_from(data, first + count * entry.size)
        entries = list(entry.iter_unpack(data[first : first + count * entry.size]))
    except (struct.error, OverflowError):
        raise DataError("damaged or cut short: begins like a TIFF file, but its header cannot be read") from None
    if following:
        raise DataError("several pages in one file; save the one that the label is about on its own")
    sides = {}
    for place, (tag, kind, values, value) in enumerate(entries):
        if kind in _UNITS and values > VALUES:
            raise DataError(f"{values} numbers in entry {tag} of the TIFF, allowed are at most {VALUES}")
        if tag in _TILE_SIDES:
            # A short number lies in the first bytes of its field, whatever the byte order.
            field = first + place * entry.size + (12 if big else 8)
            sides[tag] = struct.unpack_from(order + "H", data, field)[0] if kind == 3 else value
    if len(sides) == 2 and sides[322] * sides[323] > max_pixels:
        raise DataError(f"a tile of {sides[322]}x{sides[323]} pixels, allowed are at most {max_pixels}")
