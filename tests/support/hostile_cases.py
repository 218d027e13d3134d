"""Every hostile image by name, with what must come of it (see `tests/support/hostile_images.py`)."""

import io
import lzma
import struct
import zipfile
import zlib
from functools import partial

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
    chunk,
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
from tests.support.makers import bomb, encode

GIB = 1 << 30
HTML = b"<html><script>alert(1)</script></html>"


def archive() -> bytes:
    """A small ZIP."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("x.txt", "x")
    return stream.getvalue()


def dictionary() -> bytes:
    """A TIFF of LZMA that claims to look back 4 GiB."""
    packed = bytearray(lzma.compress(GREY.tobytes(), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 4096}]))
    end = 12 + 4 * (packed[12] + 1)  # of the header of the only block, behind that of the stream
    packed[packed.index(b"\x21\x01", 12) + 2] = 40
    packed[end - 4 : end] = struct.pack("<I", zlib.crc32(packed[12 : end - 4]))
    return tiff((259, 3, 1, 34925), (273, 4, 1, EXTRA), (279, 4, 1, len(packed)), extra=bytes(packed))


BOMBS = {
    "png of 60000 x 60000": Case(bomb, "3600000000 pixels"),
    "png of 2^31 x 1": Case(lambda: bomb(2**31 - 1, 1), "2147483647 pixels"),
    "png of no width": Case(lambda: bomb(0, 40), "."),
    "png just below the limit of pixels": Case(partial(large, "PNG", "RGBA"), DECODED),
    "deep png just below the limit of pixels": Case(partial(large, "PNG", "I;16"), DECODED),
    "png whose pixels go on for a gigabyte": Case(lambda: png(data=zeros(GIB)), EITHER),
    "png with a text of a gigabyte": Case(lambda: png(chunk(b"zTXt", b"a\0\0" + zeros(GIB))), EITHER),
    "png with an international text of a gigabyte": Case(
        lambda: png(chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(GIB))), EITHER
    ),
    "png with a profile of a gigabyte": Case(lambda: png(chunk(b"iCCP", b"a\0\0" + zeros(GIB))), EITHER),
    "png of four million texts": Case(lambda: png(chunk(b"tEXt", b"a\0b") * (MANY * 3 // 4)), "parts"),
    "png of four million empty pieces": Case(lambda: png(chunk(b"IDAT") * MANY), "parts"),
    "png with an exif of 65535 overlapping entries": Case(
        lambda: png(
            chunk(
                b"eXIf",
                exif(b"".join(entry(n, 1, 5_000_000, 8) for n in range(65535)), 65535, bytes(5_000_000))[6:],
            )
        ),
        DECODED,
    ),
    "png that claims four billion frames": Case(lambda: png(chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0))), DECODED),
    "jpeg of 65500 x 65500": Case(
        lambda: _sized(BASES["jpeg"], b"\xff\xc0", 65500, 65500), "4290250000 pixels|too many pixels"
    ),
    "jpeg of no height": Case(lambda: _sized(BASES["jpeg"], b"\xff\xc0", 0, 48), "."),
    "jpeg just below the limit of pixels": Case(partial(large, "JPEG", "RGB"), DECODED),
    "progressive cmyk jpeg just below the limit of pixels": Case(
        partial(large, "JPEG", "CMYK", progressive=True), DECODED
    ),
    "jpeg of 20 empty scans": Case(lambda: scans(20), DECODED),
    "jpeg of 5000 scans": Case(lambda: scans(5000), "scans"),
    "jpeg of four million comments": Case(lambda: jpeg(*[(0xFE, b"")] * MANY), "parts"),
    "jpeg of forty million filling bytes": Case(
        lambda: BASES["jpeg"][:2] + b"\xff" * 40_000_000 + BASES["jpeg"][2:], EITHER
    ),
    "jpeg of forty million bytes of junk": Case(
        lambda: BASES["jpeg"][:2] + bytes(40_000_000) + BASES["jpeg"][2:], EITHER
    ),
    "jpeg with an exif of 65535 overlapping entries": Case(
        lambda: _long_exif(exif(b"".join(entry(n, 1, 5_000_000, 8) for n in range(65535)), 65535, bytes(5_000_000))),
        EITHER,
    ),
    "webp of 16383 x 16383": Case(lambda: webp(16383, 16383), "268402689 pixels|too many pixels"),
    "extended webp of 16383 x 16383": Case(
        lambda: webp(16383, 16383, extended=True), "268402689 pixels|too many pixels"
    ),
    "extended webp of 2^24 x 2^24": Case(lambda: webp(2**24, 2**24, extended=True), "."),
    "webp just below the limit of pixels": Case(partial(large, "WEBP", "RGB", quality=1, method=0), DECODED),
    "lossless webp with alpha just below the limit": Case(
        partial(large, "WEBP", "RGBA", lossless=True, method=0, quality=0), DECODED
    ),
    "bmp of 100000 x 100000": Case(lambda: bmp(100_000, 100_000, 0, bytes(100)), "pixels"),
    "bmp of -2^31 rows": Case(lambda: bmp(16, -(2**31), 0, bytes(100)), "."),
    "bmp of two billion colours": Case(lambda: bmp(48, 40, 0, bytes(1920), 2**31 - 1), "."),
    "bmp of runs that get nowhere": Case(lambda: bmp(48, 40, 1, bytes(48_000_000)), "run"),
    "bmp of runs of one pixel": Case(lambda: bmp(SIDE, SIDE - 1, 1, b"\1\2" * 24_000_000), "run"),
    "bmp of runs that jump": Case(lambda: bmp(SIDE, SIDE, 1, b"\0\2\xff\xff" * 1000), "run"),
    "tiff of 65500 x 65500": Case(
        lambda: tiff((256, 4, 1, 65500), (257, 4, 1, 65500)), "4290250000 pixels|too many pixels"
    ),
    "tiff just below the limit of pixels": Case(
        partial(large, "TIFF", "RGBA", compression="tiff_adobe_deflate"), DECODED
    ),
    "tiff of a strip that goes on for a gigabyte": Case(
        lambda: tiff((259, 3, 1, 8), (273, 4, 1, EXTRA), (279, 4, 1, len(zeros(GIB))), extra=zeros(GIB)),
        EITHER,
    ),
    "tiff of ten million strips": Case(
        lambda: tiff((273, 4, 10_000_000, EXTRA), (278, 4, 1, 1), extra=bytes(40_000_000)), "."
    ),
    "tiff of strips that share forty megabytes": Case(lambda: strips(60_000, 40_000_000), DECODED),
    "tiff with a tile of 4 gigabytes": Case(
        lambda: tiff((273, 4, 0, 0), (322, 4, 1, 65536), (323, 4, 1, 65536), (324, 4, 1, 8), (325, 4, 1, 1920)), "."
    ),
    "compressed tiff with a tile of a gigabyte": Case(
        lambda: tiff(
            *[(259, 3, 1, 8), (273, 4, 0, 0), (279, 4, 0, 0), (322, 4, 1, 32768), (323, 4, 1, 32768)],
            *[(324, 4, 1, EXTRA), (325, 4, 1, 1_100_000)],
            extra=zeros(GIB)[:1_100_000],
        ),
        ".",
    ),
    "tiff with a tile of no height": Case(
        lambda: tiff((322, 4, 1, 16), (323, 4, 1, 0), (324, 4, 1, 8), (325, 4, 1, 1920)), EITHER
    ),
    "tiff of four million pages": Case(lambda: directories(MANY), "pages"),
    "tiff whose second page is the first": Case(lambda: tiff(following=EXTRA), "pages"),
    "tiff of 65535 overlapping entries": Case(
        lambda: tiff(*[(n, 1, 5_000_000, 8) for n in range(1000, 65000)], extra=bytes(5_000_000)), EITHER
    ),
    "tiff whose compression asks for four gigabytes": Case(dictionary, EITHER),
    "tiff of 65535 samples": Case(lambda: tiff((277, 3, 1, 65535)), "."),
    "tiff whose exif is itself": Case(lambda: tiff((34665, 4, 1, EXTRA), (330, 4, 1, EXTRA)), EITHER),
    "tiff of a large value in every entry": Case(
        lambda: tiff(*[(n, 4, 1_000_000, EXTRA) for n in (700, 33723, 34377, 50000)], extra=bytes(40_000_000)), EITHER
    ),
}


def _sized(data: bytes, frame: bytes, height: int, width: int) -> bytes:
    place = data.index(frame) + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def _long_exif(block: bytes) -> bytes:
    """Pillow puts an EXIF block together that goes over many segments."""
    body = block[6:]
    return jpeg(*[(0xE1, b"Exif\0\0" + body[start : start + 65000]) for start in range(0, len(body), 65000)])


ODD = {
    "gif": Case(lambda: encode(GREY, "GIF"), "a GIF file"),
    "text": Case(lambda: b"not an image at all", "begins with"),
    "html": Case(lambda: HTML, "begins with|HTML"),
    "zip": Case(archive, "a ZIP file"),
    "pdf with a jpeg in it": Case(lambda: b"%PDF-1.4\n" + BASES["jpeg"], "a PDF file"),
    "gif that is a script": Case(lambda: b"GIF89a=1;" + HTML, "a GIF file"),
    "icon": Case(lambda: encode(GREY, "ICO"), "begins with"),
    "photoshop": Case(lambda: b"8BPS" + bytes(100), "begins with"),
    "eps": Case(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "begins with"),
    "nothing": Case(lambda: b"", "empty"),
    "zeros": Case(lambda: bytes(1000), "begins with"),
    "too many bytes": Case(lambda: bytes(50_000_001), "50000001 bytes"),
    "jpeg and zip": Case(lambda: BASES["jpeg"] + archive(), DECODED),
    "jpeg and forty megabytes": Case(lambda: BASES["jpeg"] + bytes(40_000_000), DECODED),
    "png and html behind it": Case(lambda: BASES["png"] + HTML, DECODED),
    "png with html in a text": Case(lambda: png(chunk(b"tEXt", b"Comment\0" + HTML)), DECODED),
    "bmp and zip": Case(lambda: BASES["bmp"] + archive(), DECODED),
    "zip and png": Case(lambda: archive() + BASES["png"], "a ZIP file"),
    "webp and html": Case(lambda: BASES["webp"] + HTML, DECODED),
    "tiff and zip": Case(lambda: BASES["tiff"] + archive(), DECODED),
    "animated png": Case(partial(several, "PNG"), "frames"),
    "animated webp": Case(partial(several, "WEBP"), "frames"),
    "webp animated with one frame": Case(lambda: encode(COLOUR, "WEBP", save_all=True), DECODED),
    "tiff of two pages": Case(partial(several, "TIFF"), "pages"),
    "mpo": Case(partial(several, "MPO"), DECODED),
    "mpo without its second picture": Case(lambda: several("MPO")[: len(several("MPO")) // 2], EITHER),
    "16 bits": Case(lambda: encode((GREY.astype(np.uint16) << 8) | 0x7F), DECODED),
    "16 bits tiff, big end first": Case(lambda: encode(Image.fromarray(GREY.astype(">u2")), "TIFF"), DECODED),
    "16 bits colour": Case(
        lambda: png(bits=16, colour=2, data=zlib.compress(b"".join(b"\0" + r.tobytes() * 2 for r in COLOUR))), DECODED
    ),
    "16 bits colour with alpha": Case(
        lambda: png(bits=16, colour=6, data=zlib.compress(40 * (b"\0" + 48 * b"\1\2\3\4\5\6\x80\0"))), DECODED
    ),
    "black and white": Case(lambda: encode(Image.fromarray(GREY).convert("1")), DECODED),
    "cmyk jpeg": Case(lambda: BASES["cmyk jpeg"], DECODED),
    "cmyk jpeg of adobe": Case(partial(adobe_inverted, 0), DECODED),
    "ycck jpeg of adobe": Case(partial(adobe_inverted, 2), DECODED),
    "jpeg with a colour transform that is none": Case(partial(adobe_inverted, 77), EITHER),
    "cmyk tiff": Case(lambda: encode(Image.fromarray(COLOUR).convert("CMYK"), "TIFF"), DECODED),
    "lab tiff": Case(lambda: encode(Image.fromarray(COLOUR).convert("LAB"), "TIFF"), "mode LAB"),
    "float tiff": Case(lambda: encode(GREY.astype(np.float32), "TIFF"), "mode F"),
    "32 bits": Case(lambda: encode(GREY.astype(np.int32), "TIFF"), "mode I"),
    "palette with alpha": Case(lambda: BASES["palette png"], DECODED),
    "palette of one colour": Case(lambda: encode(Image.new("P", (48, 40))), DECODED),
    "indices beyond the palette": Case(
        lambda: png(chunk(b"PLTE", b"\1\2\3"), colour=3, data=zlib.compress(40 * (b"\0" + 48 * b"\xc8"))), EITHER
    ),
    "palette missing": Case(lambda: png(colour=3), EITHER),
    "one pixel": Case(lambda: encode(GREY[:1, :1]), "at least 16"),
    "one row": Case(lambda: encode(np.zeros((1, 60000), np.uint8)), "at least 16"),
    "profile that is none": Case(lambda: encode(COLOUR, icc_profile=b"none"), DECODED),
    "exif that is none": Case(lambda: jpeg((0xE1, b"Exif\0\0none at all")), DECODED),
    "exif whose directory is itself": Case(
        lambda: jpeg((0xE1, exif(entry(0x8769, 4, 1, 8) + entry(0x0112, 3, 1, 6), 2))), DECODED
    ),
    "exif far away": Case(lambda: jpeg((0xE1, b"Exif\0\0" + struct.pack("<2sHI", b"II", 42, 2**32 - 1))), DECODED),
    "exif orientation as text": Case(lambda: jpeg((0xE1, exif(entry(0x0112, 2, 2, 0x36), 1))), DECODED),
    "exif orientation twice": Case(
        lambda: jpeg((0xE1, exif(entry(0x0112, 3, 1, 6) + entry(0x0112, 3, 1, 3), 2))), DECODED
    ),
}
TURNED = {
    f"{kind.lower()} with exif orientation {value}": Case(partial(turned, kind, value), DECODED)
    for kind in ("JPEG", "PNG", "WEBP", "TIFF")
    for value in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65535)
}
CASES: dict[str, Case] = {**BOMBS, **ODD, **TURNED, **dict(damaged())}
