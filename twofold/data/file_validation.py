"""Checks the structure of an image file before a decoder reads it.

Takes the bytes of one file and raises a DataError with the reason if the file is refused. It limits everything other
than pixels that costs a decoder time or memory: the number of parts, empty scans, oversized tiles and strips.
`decoding.py` checks the size of the picture. Also describes a file that no decoder opens.

The sealed model contains this file.
"""

import io
import re
import struct
import zlib
from contextlib import suppress

from PIL import Image, TiffImagePlugin

from twofold.core.errors import DataError

# The first bytes of a file -> its format.
_REFUSED = {b"GIF8": "GIF", b"%PDF": "PDF", b"<svg": "SVG", b"<?xml": "XML", b"PK\x03\x04": "ZIP", b"\x1f\x8b": "gzip"}
_REFUSED |= {b"version https://git-lfs": "Git LFS pointer"}
_ACCEPTED = {b"II+\0": "TIFF", b"MM+\0": "TIFF"}
_ACCEPTED |= {b"\x89PNG": "PNG", b"\xff\xd8": "JPEG", b"RIFF": "WebP", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
REMEDY = "save it as 8 or 16 bit grey, or as RGB"
_TIFF_KIND = {258: "bits a sample", 262: "photometric", 259: "compression", 338: "alpha"}
# Far more than any camera or program writes, and few enough to be checked in a moment.
PARTS = 100_000  # segments of a JPEG, chunks of a PNG
FILLING = 1_000_000  # bytes of a JPEG that belong to no segment
SCANS = 100  # of a JPEG; a decoder visits every block in each scan, even if the scan holds only a few bytes
ENTRIES = 4096  # of a TIFF's directory
VALUES = 1 << 18  # numbers in one entry of it, such as the offsets of strips

_FILL = re.compile(rb"\xff*")
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_WITHOUT_LENGTH = {0x00, 0x01, 0xD8, *range(0xD0, 0xD8)}  # markers that no length follows
_SCAN, _END = 0xDA, 0xD9
_RUN_LENGTHS = (1, 2)
_NUMERIC_TYPES = {3, 4, 5, 8, 9, 10, 11, 12, 13, 16, 17, 18}  # of a TIFF entry; the others are bytes and text
_TILE_SIDES = (322, 323)


def validate_file(data: bytes, max_pixels: int) -> None:
    """Check the parts of a JPEG, PNG, BMP or TIFF file; other content passes.

    Args:
        max_pixels: the most that a tile of a TIFF may have, however small the picture is.

    Raises:
        DataError: the reason without the file's name.
    """
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"\x89PNG"):
        _check_png(data)
    elif data.startswith(b"BM"):
        # Pillow decodes runs one by one in Python, which takes minutes for a large file of short runs.
        if int.from_bytes(data[14:18], "little") >= 40 and int.from_bytes(data[30:34], "little") in _RUN_LENGTHS:
            raise DataError("a BMP of run lengths (RLE); save it as PNG, or as a plain BMP")
    elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_tiff(data, max_pixels)


def _check_jpeg(data: bytes) -> None:
    """Marker segments: any number of 0xFF, a marker, length (2 bytes), content; coded bits follow a scan's segment."""
    place, scans, filling = 2, 0, 0
    for _ in range(PARTS):
        start = data.find(b"\xff", place)
        fill = _FILL.match(data, start) if start >= 0 else None
        mark = fill.end() if fill else len(data)
        filling += max(0, mark - place - 1)
        if filling > FILLING:
            raise DataError(f"more than {FILLING} bytes of it belong to no part of a JPEG")
        if mark >= len(data) or data[mark] == _END:
            return
        if data[mark] in _WITHOUT_LENGTH:
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


def _check_png(data: bytes) -> None:
    """Chunks: length (4 bytes), name (4), content, CRC-32 of name and content (4); no decoder checks the CRC."""
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


def _check_tiff(data: bytes, max_pixels: int) -> None:
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
        if kind in _NUMERIC_TYPES and values > VALUES:
            raise DataError(f"{values} numbers in entry {tag} of the TIFF, allowed are at most {VALUES}")
        if tag in _TILE_SIDES:
            # A 2-byte number fills the first bytes of its field, whatever the byte order.
            field = first + place * entry.size + (12 if big else 8)
            sides[tag] = struct.unpack_from(order + "H", data, field)[0] if kind == 3 else value
    if len(sides) == 2 and sides[322] * sides[323] > max_pixels:
        raise DataError(f"a tile of {sides[322]}x{sides[323]} pixels, allowed are at most {max_pixels}")


def describe_unidentified(data: bytes) -> str:
    """Say why no decoder opens a file: what it is, which kind of an accepted format, or that it is damaged."""
    for start, name in _ACCEPTED.items():
        if data.startswith(start):
            return _describe_header(data, name)
    if data[4:8] == b"ftyp":
        found = f"a file of the family of {data[8:12].decode('latin-1')}"
    elif data[128:132] == b"DICM":
        found = "a DICOM file"
    else:
        names = [f"a {name} file" for start, name in _REFUSED.items() if data.startswith(start)]
        found = names[0] if names else f"a file that begins with {data[:8].hex(' ')}"
    return f"not an image of an accepted format (JPEG, PNG, WEBP, BMP, TIFF); found {found}"


def _describe_header(data: bytes, name: str) -> str:
    """Say what a whole header declares that Pillow has no mode for, or that the header is damaged."""
    with suppress(Exception):  # a damaged header makes Pillow raise almost anything
        stream = io.BytesIO(data)
        if name == "TIFF":
            start = stream.read(8)
            tags = TiffImagePlugin.ImageFileDirectory_v2(start + (stream.read(8) if 43 in start[2:4] else b""))
            stream.seek(tags.next)
            tags.load(stream)
            if min(tags[256], tags[257]) > 0:
                kind = [f"{word} {tags[tag]!r:.40}" for tag, word in _TIFF_KIND.items() if tag in tags]
                return no_mode(name, ", ".join(kind))
        try:
            Image.OPEN[name.upper()][0](stream, "")
        except SyntaxError as error:
            if str(error).startswith("cannot handle"):  # the bits or channels of a JPEG
                return no_mode(name, str(error))
    return f"damaged or cut short: begins like a {name} file, but its header cannot be read"


def no_mode(name: str, found: str) -> str:
    """Say that a file is of a kind that the decoder cannot read, `found`, and what to do."""
    return f"a {name} file that the decoder has no mode for ({found}); {REMEDY}"
