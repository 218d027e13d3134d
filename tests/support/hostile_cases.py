"""All hostile images by name, with the expected result of decoding (see `hostile_images.py`)."""

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import cache, partial

import numpy as np
from PIL import Image

from tests.support.hostile_images import (
    BASES,
    COLOUR,
    DECODED,
    EITHER,
    EXTRA,
    GREY,
    MANY,
    SIDE,
    Case,
    adobe_inverted,
    bmp,
    damaged,
    directories,
    entry,
    exif,
    jpeg,
    large,
    png,
    scans,
    several,
    strips,
    tiff,
    turned,
    webp,
    zeros,
)
from tests.support.makers import bomb, chunk, encode
from tests.support.odd_images import KINDS, READ

GIB = 1 << 30
HTML = b"<html><script>alert(1)</script></html>"
START, REST = BASES["jpeg"][:2], BASES["jpeg"][2:]
Files = dict[str, tuple[Callable[[], bytes], str]]


def archive() -> bytes:
    """A small ZIP archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("x.txt", "x")
    return stream.getvalue()


def dictionary() -> bytes:
    """An LZMA-compressed TIFF that claims a dictionary of 4 GiB."""
    packed = bytearray(lzma.compress(GREY.tobytes(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]))
    end = 12 + 4 * (packed[12] + 1)  # of the only block's header, which follows that of the stream
    packed[packed.index(b"\x21\x01", 12) + 2] = 40
    packed[end - 4 : end] = struct.pack("<I", zlib.crc32(packed[12 : end - 4]))
    return tiff((259, 3, 1, 34925), (273, 4, 1, EXTRA), (279, 4, 1, len(packed)), extra=bytes(packed))


def packed(rows: Iterable[bytes]) -> bytes:
    """Rows of pixels, compressed."""
    return zlib.compress(b"".join(rows))


def tile(width: int, height: int, place: int = 8, size: int = 1920) -> list[tuple[int, int, int, int]]:
    """The entries of a TIFF for one tile of `size` bytes at `place`."""
    return [(322, 4, 1, width), (323, 4, 1, height), (324, 4, 1, place), (325, 4, 1, size)]


def compressed_tile() -> bytes:
    """A TIFF with a tile of a gigabyte in a megabyte."""
    entries = [(259, 3, 1, 8), (273, 4, 0, 0), (279, 4, 0, 0), *tile(32768, 32768, EXTRA, 1_100_000)]
    return tiff(*entries, extra=zeros(GIB)[:1_100_000])


@cache
def overlapping_entries() -> bytes:
    """An EXIF block with 65535 entries that share one value of 5 MB."""
    return exif(b"".join(entry(n, 1, 5_000_000, 8) for n in range(65535)), 65535, bytes(5_000_000))


def resized(height: int, width: int) -> bytes:
    """A JPEG whose header claims another size."""
    place = BASES["jpeg"].index(b"\xff\xc0") + 5
    return BASES["jpeg"][:place] + struct.pack(">HH", height, width) + BASES["jpeg"][place + 4 :]


def long_exif() -> bytes:
    """A JPEG with an EXIF block in several segments, which Pillow joins."""
    body = overlapping_entries()[6:]
    return jpeg(*[(0xE1, b"Exif\0\0" + body[start : start + 65000]) for start in range(0, len(body), 65000)])


# Name -> the fields of its `Case`.
BOMBS: Files = {
    "png of 60000 x 60000": (bomb, "3600000000 pixels"),
    "png of 2^31 x 1": (lambda: bomb(2**31 - 1, 1), "2147483647 pixels"),
    "png of no width": (lambda: bomb(0, 40), "."),
    "png just below the limit of pixels": (partial(large, "PNG", "RGBA"), DECODED),
    "deep png just below the limit of pixels": (partial(large, "PNG", "I;16"), DECODED),
    "png whose pixels go on for a gigabyte": (lambda: png(data=zeros(GIB)), EITHER),
    "png with a text of a gigabyte": (lambda: png(chunk(b"zTXt", b"a\0\0" + zeros(GIB))), EITHER),
    "png with an international text of a gigabyte": (lambda: png(chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(GIB))), EITHER),
    "png with a profile of a gigabyte": (lambda: png(chunk(b"iCCP", b"a\0\0" + zeros(GIB))), EITHER),
    "png of four million texts": (lambda: png(chunk(b"tEXt", b"a\0b") * (MANY * 3 // 4)), "parts"),
    "png of four million empty pieces": (lambda: png(chunk(b"IDAT") * MANY), "parts"),
    "png with an exif of 65535 overlapping entries": (lambda: png(chunk(b"eXIf", overlapping_entries()[6:])), DECODED),
    "png that claims four billion frames": (lambda: png(chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0))), DECODED),
    "jpeg of 65500 x 65500": (partial(resized, 65500, 65500), "4290250000 pixels|too many pixels"),
    "jpeg of no height": (partial(resized, 0, 48), "."),
    "jpeg just below the limit of pixels": (partial(large, "JPEG", "RGB"), DECODED),
    "progressive cmyk jpeg just below the limit of pixels": (partial(large, "JPEG", "CMYK", progressive=True), DECODED),
    "jpeg of 20 empty scans": (lambda: scans(20), DECODED),
    "jpeg of 5000 scans": (lambda: scans(5000), "scans"),
    "jpeg of four million comments": (lambda: jpeg(*[(0xFE, b"")] * MANY), "parts"),
    "jpeg of forty million filling bytes": (lambda: START + b"\xff" * 40_000_000 + REST, EITHER),
    "jpeg of forty million bytes of junk": (lambda: START + bytes(40_000_000) + REST, EITHER),
    "jpeg with an exif of 65535 overlapping entries": (long_exif, EITHER),
    "webp of 16383 x 16383": (lambda: webp(16383, 16383), "268402689 pixels|too many pixels"),
    "extended webp of 16383 x 16383": (lambda: webp(16383, 16383, extended=True), "268402689 pixels|too many pixels"),
    "extended webp of 2^24 x 2^24": (lambda: webp(2**24, 2**24, extended=True), "."),
    "webp just below the limit of pixels": (partial(large, "WEBP", "RGB", quality=1, method=0), DECODED),
    "lossless webp with alpha just below the limit": (
        partial(large, "WEBP", "RGBA", lossless=True, method=0, quality=0),
        DECODED,
    ),
    "bmp of 100000 x 100000": (lambda: bmp(100_000, 100_000, 0, bytes(100)), "pixels"),
    "bmp of -2^31 rows": (lambda: bmp(16, -(2**31), 0, bytes(100)), "."),
    "bmp of two billion colours": (lambda: bmp(48, 40, 0, bytes(1920), 2**31 - 1), "."),
    "bmp of runs that get nowhere": (lambda: bmp(48, 40, 1, bytes(48_000_000)), "run"),
    "bmp of runs of one pixel": (lambda: bmp(SIDE, SIDE - 1, 1, b"\1\2" * 24_000_000), "run"),
    "bmp of runs that jump": (lambda: bmp(SIDE, SIDE, 1, b"\0\2\xff\xff" * 1000), "run"),
    "tiff of 65500 x 65500": (
        lambda: tiff((256, 4, 1, 65500), (257, 4, 1, 65500)),
        "4290250000 pixels|too many pixels",
    ),
    "tiff just below the limit of pixels": (partial(large, "TIFF", "RGBA", compression="tiff_adobe_deflate"), DECODED),
    "tiff of a strip that goes on for a gigabyte": (
        lambda: tiff((259, 3, 1, 8), (273, 4, 1, EXTRA), (279, 4, 1, len(zeros(GIB))), extra=zeros(GIB)),
        EITHER,
    ),
    "tiff of ten million strips": (lambda: tiff((273, 4, 10**7, EXTRA), (278, 4, 1, 1), extra=bytes(4 * 10**7)), "."),
    "tiff of strips that share forty megabytes": (lambda: strips(60_000, 40_000_000), DECODED),
    "tiff with a tile of 4 gigabytes": (lambda: tiff((273, 4, 0, 0), *tile(65536, 65536)), "."),
    "compressed tiff with a tile of a gigabyte": (compressed_tile, "."),
    "tiff with a tile of no height": (lambda: tiff(*tile(16, 0)), EITHER),
    "tiff of four million pages": (lambda: directories(MANY), "pages"),
    "tiff whose second page is the first": (lambda: tiff(following=EXTRA), "pages"),
    "tiff of 65535 overlapping entries": (
        lambda: tiff(*[(n, 1, 5_000_000, 8) for n in range(1000, 65000)], extra=bytes(5_000_000)),
        EITHER,
    ),
    "tiff whose compression asks for four gigabytes": (dictionary, EITHER),
    "tiff of 65535 samples": (lambda: tiff((277, 3, 1, 65535)), "."),
    "tiff whose exif is itself": (lambda: tiff((34665, 4, 1, EXTRA), (330, 4, 1, EXTRA)), EITHER),
    "tiff of a large value in every entry": (
        lambda: tiff(*[(n, 4, 1_000_000, EXTRA) for n in (700, 33723, 34377, 50000)], extra=bytes(40_000_000)),
        EITHER,
    ),
}


ODD: Files = {
    "gif": (lambda: encode(GREY, "GIF"), "a GIF file"),
    "text": (lambda: b"not an image at all", "begins with"),
    "html": (lambda: HTML, "begins with|HTML"),
    "zip": (archive, "a ZIP file"),
    "pdf with a jpeg in it": (lambda: b"%PDF-1.4\n" + BASES["jpeg"], "a PDF file"),
    "gif that is a script": (lambda: b"GIF89a=1;" + HTML, "a GIF file"),
    "icon": (lambda: encode(GREY, "ICO"), "begins with"),
    "photoshop": (lambda: b"8BPS" + bytes(100), "begins with"),
    "eps": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "begins with"),
    "nothing": (lambda: b"", "empty"),
    "zeros": (lambda: bytes(1000), "begins with"),
    "too many bytes": (lambda: bytes(50_000_001), "50000001 bytes"),
    "jpeg and zip": (lambda: BASES["jpeg"] + archive(), DECODED),
    "jpeg and forty megabytes": (lambda: BASES["jpeg"] + bytes(40_000_000), DECODED),
    "png and html behind it": (lambda: BASES["png"] + HTML, DECODED),
    "png with html in a text": (lambda: png(chunk(b"tEXt", b"Comment\0" + HTML)), DECODED),
    "bmp and zip": (lambda: BASES["bmp"] + archive(), DECODED),
    "zip and png": (lambda: archive() + BASES["png"], "a ZIP file"),
    "webp and html": (lambda: BASES["webp"] + HTML, DECODED),
    "tiff and zip": (lambda: BASES["tiff"] + archive(), DECODED),
    "animated png": (partial(several, "PNG"), "frames"),
    "animated webp": (partial(several, "WEBP"), "frames"),
    "webp animated with one frame": (lambda: encode(COLOUR, "WEBP", save_all=True), DECODED),
    "tiff of two pages": (partial(several, "TIFF"), "pages"),
    "mpo": (partial(several, "MPO"), DECODED),
    "mpo without its second picture": (lambda: several("MPO")[: len(several("MPO")) // 2], EITHER),
    "16 bits": (lambda: encode((GREY.astype(np.uint16) << 8) | 0x7F), DECODED),
    "16 bits tiff, big end first": (lambda: encode(Image.fromarray(GREY.astype(">u2")), "TIFF"), DECODED),
    "16 bits colour": (lambda: png(bits=16, colour=2, data=packed(b"\0" + r.tobytes() * 2 for r in COLOUR)), DECODED),
    "16 bits colour with alpha": (
        lambda: png(bits=16, colour=6, data=packed([b"\0" + 48 * b"\1\2\3\4\5\6\x80\0"] * 40)),
        DECODED,
    ),
    "black and white": (lambda: encode(Image.fromarray(GREY).convert("1")), DECODED),
    "cmyk jpeg": (lambda: BASES["cmyk jpeg"], DECODED),
    "cmyk jpeg of adobe": (partial(adobe_inverted, 0), DECODED),
    "ycck jpeg of adobe": (partial(adobe_inverted, 2), DECODED),
    "jpeg with a colour transform that is none": (partial(adobe_inverted, 77), EITHER),
    "cmyk tiff": (lambda: encode(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), DECODED),
    "lab tiff": (lambda: encode(Image.fromarray(COLOUR).convert("LAB"), "TIFF"), "mode LAB"),
    "float tiff": (lambda: encode(GREY.astype(np.float32), "TIFF"), "mode F"),
    "32 bits": (lambda: encode(GREY.astype(np.int32), "TIFF"), "mode I"),
    "palette with alpha": (lambda: BASES["palette png"], DECODED),
    "palette of one colour": (lambda: encode(Image.new("P", (48, 40))), DECODED),
    "indices beyond the palette": (
        lambda: png(chunk(b"PLTE", b"\1\2\3"), colour=3, data=zlib.compress(40 * (b"\0" + 48 * b"\xc8"))),
        EITHER,
    ),
    "palette missing": (lambda: png(colour=3), EITHER),
    "one pixel": (lambda: encode(GREY[:1, :1]), "at least 16"),
    "one row": (lambda: encode(np.zeros((1, 60000), np.uint8)), "at least 16"),
    "profile that is none": (lambda: encode(COLOUR, icc_profile=b"none"), DECODED),
    "exif that is none": (lambda: jpeg((0xE1, b"Exif\0\0none at all")), DECODED),
    "exif whose directory is itself": (
        lambda: jpeg((0xE1, exif(entry(0x8769, 4, 1, 8) + entry(0x0112, 3, 1, 6), 2))),
        DECODED,
    ),
    "exif far away": (lambda: jpeg((0xE1, b"Exif\0\0" + struct.pack("<2sHI", b"II", 42, 2**32 - 1))), DECODED),
    "exif orientation as text": (lambda: jpeg((0xE1, exif(entry(0x0112, 2, 2, 0x36), 1))), DECODED),
    "exif orientation twice": (lambda: jpeg((0xE1, exif(entry(0x0112, 3, 1, 6) + entry(0x0112, 3, 1, 3), 2))), DECODED),
}
TURNED = {
    f"{kind.lower()} with exif orientation {value}": (partial(turned, kind, value), DECODED)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF")
    for value in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65535)
}
UNUSUAL = {name: (kind.make, DECODED if kind.outcome in READ else kind.outcome) for name, kind in KINDS.items()}
CASES = {name: Case(*case) for name, case in (BOMBS | ODD | TURNED | UNUSUAL | dict(damaged())).items()}
