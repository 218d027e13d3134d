"""Builds hostile image files: decompression bombs, files that cost time or memory, damaged and unusual files.

A `Case` has a function that returns the bytes, because some files have tens of megabytes, and the expected result:
`DECODED`, or a pattern for the reason of refusal. `EITHER` is for damage that some formats cannot detect: then only the
digest matters, which must be the same in every run.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.support.makers import chunk, encode

DECODED, EITHER = "decoded", "either"
RNG = np.random.default_rng(4)
GREY = RNG.integers(0, 256, (40, 48), np.uint8)
COLOUR = RNG.integers(0, 256, (40, 48, 3), np.uint8)
MANY = 4_000_000  # more parts than any real file has
SIDE = 7000  # x 7000 is just below the 50,000,000 pixels of params.yaml


class Case(NamedTuple):
    """`make` returns the file; `fate` is DECODED, EITHER, or a pattern that the reason must contain."""

    make: Callable[[], bytes]
    fate: str


def png(*middle: bytes, width: int = 48, height: int = 40, bits: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    """A PNG with the chunks `middle` between header and pixels; `data`: its compressed rows."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    rows = data or zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(middle) + chunk(b"IDAT", rows) + chunk(b"IEND")


@cache
def zeros(size: int) -> bytes:
    """`size` zero bytes, compressed to about a thousandth."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)), packer.flush()])


def tiff(*changes: tuple[int, int, int, int], extra: bytes = b"", following: int = 0) -> bytes:
    """A grey TIFF of 48 x 40; `changes` are entries (tag, type, count, value), `extra` is at byte 8 + 1920."""
    start = 8 + GREY.size + len(extra)
    entries = {256: (4, 1, 48), 257: (4, 1, 40), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8)}
    entries |= {277: (3, 1, 1), 278: (4, 1, 40), 279: (4, 1, GREY.size)}
    entries |= {tag: (kind, count, value) for tag, kind, count, value in changes}
    packed = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries) if entries[tag][1])
    count = sum(1 for entry in entries.values() if entry[1])
    directory = struct.pack("<H", count) + packed + struct.pack("<I", following)
    return struct.pack("<2sHI", b"II", 42, start) + GREY.tobytes() + extra + directory


EXTRA = 8 + GREY.size


def exif(entries: bytes, count: int, tail: bytes = b"") -> bytes:
    """An EXIF block with raw entries of 12 bytes."""
    return b"Exif\0\0" + struct.pack("<2sHIH", b"II", 42, 8, count) + entries + bytes(4) + tail


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    """An entry of an IFD."""
    return struct.pack("<HHII", tag, kind, count, value)


def jpeg(*segments: tuple[int, bytes], **options: Any) -> bytes:
    """A JPEG with additional segments (marker, content) at its beginning."""
    plain = encode(COLOUR, "JPEG", **options)
    return plain[:2] + b"".join(segment(*one) for one in segments) + plain[2:]


def segment(marker: int, content: bytes) -> bytes:
    """A marker segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def scans(count: int) -> bytes:
    """A grey progressive JPEG of SIDE x SIDE with `count` scans over all blocks that contain nothing."""
    plain = encode(np.zeros((16, 16), np.uint8), "JPEG", progressive=True)
    frame = plain.index(b"\xff\xc2")
    head = bytearray(plain[: plain.index(b"\xff\xda")])
    head[frame + 5 : frame + 9] = struct.pack(">HH", SIDE, SIDE)
    # One Huffman code for a run of 2^14 + … empty blocks, followed by 14 bits of its length.
    table = segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")
    blocks = ((SIDE + 7) // 8) ** 2
    bits = ("0" + 14 * "1") * (blocks // (2**15 - 1) + 1)
    body = int(bits + "1" * (-len(bits) % 8), 2).to_bytes((len(bits) + 7) // 8).replace(b"\xff", b"\xff\0")
    one = segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + body
    return bytes(head) + table + one * count + b"\xff\xd9"


def webp(width: int, height: int, *, extended: bool = False) -> bytes:
    """A WebP of a few bytes that claims a size."""
    bits = (width - 1) | (height - 1) << 14
    pixels = b"VP8L" + struct.pack("<IB", 25, 0x2F) + struct.pack("<I", bits & 0xFFFFFFFF) + bytes(21)
    if extended:
        canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        pixels = b"VP8X" + struct.pack("<II", 10, 0) + canvas + pixels
    return b"RIFF" + struct.pack("<I", len(pixels) + 4) + b"WEBP" + pixels


def bmp(width: int, height: int, compression: int, body: bytes, colours: int = 256) -> bytes:
    """A BMP with a grey palette."""
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, len(body), 0, 0, colours, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + 1024 + len(body), 0, 0, 54 + 1024) + head + palette + body


def several(kind: str, **options: Any) -> bytes:
    """A file with two pictures."""
    return encode(COLOUR, kind, save_all=True, append_images=[Image.fromarray(255 - COLOUR)], **options)


def turned(kind: str, value: int) -> bytes:
    """A picture with an EXIF orientation, valid or not."""
    tags = Image.Exif()
    tags[0x0112] = value
    return encode(COLOUR, kind, exif=tags)


def adobe_inverted(transform: int) -> bytes:
    """A CMYK JPEG as Adobe writes it: inverted values, marked by a segment."""
    plain = encode(Image.fromarray(COLOUR).convert("CMYK"), "JPEG")
    mark = plain.index(b"Adobe")
    return plain[: mark + 11] + bytes([transform]) + plain[mark + 12 :]


def large(kind: str, mode: str, **options: Any) -> bytes:
    """A valid picture just below the limit of pixels."""
    return encode(Image.new(mode, (SIDE, SIDE)), kind, **options)


def directories(count: int) -> bytes:
    """A TIFF of `count` pages, each an empty directory of 6 bytes."""
    plain = tiff()
    start = len(plain)
    chain = np.zeros(count, np.dtype([("entries", "<u2"), ("following", "<u4")]))
    chain["following"][:-1] = start + 6 * np.arange(1, count)
    return plain[:-4] + struct.pack("<I", start) + chain.tobytes()


def strips(count: int, size: int) -> bytes:
    """A TIFF of `count` strips of one row that share the same `size` compressed bytes."""
    data = zlib.compress(bytes(48)) + bytes(size)
    offsets = np.full(count, EXTRA, "<u4").tobytes()
    sizes = np.full(count, len(data), "<u4").tobytes()
    place = EXTRA + len(data)
    entries = [(257, 4, 1, count), (259, 3, 1, 8), (273, 4, count, place), (278, 4, 1, 1)]
    return tiff(*entries, (279, 4, count, place + len(offsets)), extra=data + offsets + sizes)


BASES: dict[str, bytes] = {
    "jpeg": encode(COLOUR, "JPEG", quality=85),
    "progressive jpeg": encode(COLOUR, "JPEG", progressive=True),
    "cmyk jpeg": encode(Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
    "grey jpeg": encode(GREY, "JPEG", restart_marker_blocks=2),
    "png": encode(COLOUR),
    "palette png": encode(Image.fromarray(COLOUR).quantize(16), transparency=bytes(range(16))),
    "deep png": encode((GREY.astype(np.uint16) << 8) | 0x7F),
    "webp": encode(COLOUR, "WEBP"),
    "lossless webp": encode(COLOUR, "WEBP", lossless=True),
    "webp with alpha": encode(Image.fromarray(COLOUR).convert("RGBA"), "WEBP", exif=exif(b"", 0)),
    "tiff": encode(COLOUR, "TIFF"),
    "deflate tiff": encode(COLOUR, "TIFF", compression="tiff_adobe_deflate"),
    "lzw tiff": encode(GREY, "TIFF", compression="tiff_lzw"),
    "jpeg tiff": encode(COLOUR, "TIFF", compression="jpeg"),
    "fax tiff": encode(Image.fromarray(GREY).convert("1"), "TIFF", compression="group4"),
    "deep tiff": encode(GREY.astype(np.uint16), "TIFF"),
    "bmp": encode(COLOUR, "BMP"),
    "palette bmp": encode(Image.fromarray(COLOUR).quantize(16), "BMP"),
}


def damaged() -> Iterator[tuple[str, Case]]:
    """Every base truncated at six places, and with one flipped bit at six places."""
    for name, data in BASES.items():
        for part in (1, 5, 30, 60, 90, 99):
            cut = data[: max(1, len(data) * part // 100)]
            yield f"{name} cut at {part} %", Case(partial(bytes, cut), EITHER if part == 99 else ".")
        for number in range(6):
            yield f"{name} with flip {number}", Case(partial(_flip, data, number), EITHER)


def _flip(data: bytes, number: int) -> bytes:
    changed = bytearray(data)
    rng = np.random.default_rng([number, len(changed)])
    # Half of the flips are in the first 200 bytes, where the headers are.
    place = int(rng.integers(0, len(changed) if number % 2 else min(200, len(changed))))
    changed[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)
