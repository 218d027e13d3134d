"""Unusual but intact image files, with the outcome of each: the rows of "Kinds of image" in docs/reference/images.md.

TIFF files of any sample format are written by hand from the TIFF 6.0 specification, as Pillow cannot write them.
"""

import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tests.support.hostile_images import png, segment
from tests.support.makers import chunk, encode

_SHORT, _LONG = 3, 4
GREY = np.random.default_rng(7).integers(0, 256, (40, 48), np.uint8)  # as `hostile_images.png` expects its size
DEEP = GREY.astype(np.uint16) << 8 | 0x7F
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], 2)

READ = {"grey": "one channel", "colour": "three channels"}  # outcomes of files that are read


class Kind(NamedTuple):
    """`outcome`: "grey", "colour" or the words of the reason for which the file is refused; `pixels`: if it is read."""

    make: Callable[[], bytes]
    outcome: str
    pixels: Any = None


def write_tiff(
    samples: Any, bits: int, order: str = "<", photometric: int = 1, compression: int = 1, **tags: Any
) -> bytes:
    """A TIFF of one strip.

    Args:
        samples: (H, W) or (H, W, C); signed or floating-point as their type is.
        order: `<` for II, `>` for MM.
        tags: further entries by number, SHORT values each, such as t338=(2,) for a sample of alpha.
    """
    height, width = samples.shape[:2]
    count = samples.shape[2] if samples.ndim == 3 else 1
    kind = samples.dtype.kind
    if bits in (8, 16, 32, 64):
        body = samples.astype(f"{order}{kind}{bits // 8}").tobytes()
    else:  # packed, the highest bit first, whatever the byte order
        rows = samples.reshape(height, -1, 1).astype(np.uint32) >> np.arange(bits - 1, -1, -1) & 1
        body = np.packbits(rows.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    body = zlib.compress(body) if compression == 8 else body
    entries = {256: (width,), 257: (height,), 258: (bits,) * count, 259: (compression,), 262: (photometric,)}
    entries |= {277: (count,), 278: (height,)} | ({} if kind == "u" else {339: ({"i": 2, "f": 3}[kind],) * count})
    entries |= {int(name[1:]): values for name, values in tags.items()}
    start = 8 + len(body) + len(body) % 2
    packed = {273: struct.pack(f"{order}HHII", 273, _LONG, 1, 8)}
    packed |= {279: struct.pack(f"{order}HHII", 279, _LONG, 1, len(body))}
    tail, behind = b"", start + 2 + 12 * (len(entries) + 2) + 4
    for tag, values in entries.items():
        content = struct.pack(f"{order}{len(values)}H", *values)
        if len(content) > 4:
            content, tail = struct.pack(f"{order}I", behind + len(tail)), tail + content
        packed[tag] = struct.pack(f"{order}HHI", tag, _SHORT, len(values)) + content.ljust(4, b"\0")
    directory = struct.pack(f"{order}H", len(packed)) + b"".join(packed[tag] for tag in sorted(packed)) + bytes(4)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", start) + body + bytes(len(body) % 2) + directory + tail


def deep_png(samples: Any, colour: int, *chunks: bytes) -> bytes:
    """A PNG of 16 bits; `colour` is its colour type."""
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples))
    return png(*chunks, bits=16, colour=colour, data=rows)


def bmp(
    bits: int, rows: bytes, *, compression: int = 0, masks: bytes = b"", height: int = 40, header: int = 40
) -> bytes:
    """A BMP of 48 x `height` pixels without a palette; a negative height is stored from the top down."""
    place = 14 + header + len(masks)
    head = struct.pack("<IiiHHIIiiII", header, 48, height, 1, bits, compression, len(rows), 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", place + len(rows), 0, 0, place) + head + bytes(header - 40) + masks + rows


def jpeg_of(precision: int = 8, components: int = 1) -> bytes:
    """A grey JPEG whose header claims another depth, or further components."""
    data = encode(GREY, "JPEG")
    start = data.index(b"\xff\xc0")
    frame = bytes([precision]) + struct.pack(">HHB", 40, 48, components)
    frame += b"".join(bytes([number, 0x11, 0]) for number in range(1, components + 1))
    return data[:start] + segment(0xC0, frame) + data[start + 2 + 11 :]


def _alpha(samples: Any, value: int) -> Any:
    return np.stack([samples, np.full_like(samples, value)], 2)


def over_white(grey: Any, alpha: float) -> Any:
    """A grey picture of one transparency over white."""
    return np.rint(grey * alpha + 255 * (1 - alpha))


_MASKS_565 = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
_FIVE, _SIX = np.rint(np.arange(32) * 255 / 31)[COLOUR >> 3], np.rint(np.arange(64) * 255 / 63)[COLOUR >> 2]
_565 = np.stack([_FIVE[:, :, 0], _SIX[:, :, 1], _FIVE[:, :, 2]], 2)
_ROWS_565 = (COLOUR.astype("<u2") >> [3, 2, 3] << [11, 5, 0]).sum(2).astype("<u2")[::-1].tobytes()
_ONE_FRAME = chunk(b"acTL", struct.pack(">II", 1, 0))
_ONE_FRAME += chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 48, 40, 0, 0, 1, 1, 0, 0))
_NO_MODE = "has no mode for"
_T = partial(partial, write_tiff)
KINDS = {
    "TIFF, 2 bits grey": Kind(_T(GREY >> 6, 2), "grey", (GREY >> 6) * 85),
    "TIFF, 4 bits grey, white is zero": Kind(_T(GREY >> 4, 4, photometric=0), "grey", 255 - (GREY >> 4) * 17),
    "TIFF, 6 bits grey": Kind(_T(GREY >> 2, 6), _NO_MODE),
    "TIFF, 10 bits grey": Kind(_T(DEEP >> 6, 10), _NO_MODE),
    "TIFF, 12 bits grey": Kind(_T(DEEP >> 4, 12), "grey", GREY),
    "TIFF, 12 bits grey, big-endian": Kind(_T(DEEP >> 4, 12, ">"), "grey", GREY),
    "TIFF, 12 bits grey, white is zero": Kind(_T(DEEP >> 4, 12, photometric=0), "grey", 255 - GREY),
    "TIFF, 12 bits grey, white is zero, big-endian, deflate": Kind(
        _T(DEEP >> 4, 12, ">", photometric=0, compression=8), "grey", 255 - GREY
    ),
    "TIFF, 14 bits grey": Kind(_T(DEEP >> 2, 14), _NO_MODE),
    "TIFF, 16 bits grey, big-endian": Kind(_T(DEEP, 16, ">"), "grey", GREY),
    "TIFF, 16 bits grey, white is zero, big-endian": Kind(_T(DEEP, 16, ">", photometric=0), "grey", 255 - GREY),
    "TIFF, 16 bits grey, white is zero, big-endian, deflate": Kind(
        _T(DEEP, 16, ">", photometric=0, compression=8), "grey", 255 - GREY
    ),
    "TIFF, 12 bits in 16, stating 4095 as largest value": Kind(_T(DEEP >> 4, 16, t281=(4095,)), "grey", GREY),
    "TIFF, 10 bits in 16, big-endian, stating 1023": Kind(_T(DEEP >> 6, 16, ">", t281=(1023,)), "grey", GREY),
    "TIFF, 12 bits in 16, white is zero, stating 3900": Kind(
        _T(DEEP >> 4, 16, photometric=0, t281=(3900,)), "grey", 255 - GREY
    ),
    "TIFF, 16 bits grey, stating a largest value below 255": Kind(_T(DEEP >> 8, 16, t281=(7,)), "grey", GREY),
    "TIFF, 16 bits grey, brighter than the stated 4095": Kind(
        _T(DEEP, 16, t281=(4095,)), "grey", np.minimum(DEEP >> 4, 255)
    ),
    "TIFF, 8 bits grey and alpha": Kind(_T(_alpha(GREY, 128), 8, t338=(2,)), "grey", over_white(GREY, 128 / 255)),
    "TIFF, 16 bits grey and alpha": Kind(_T(_alpha(DEEP, 65535), 16, t338=(2,)), _NO_MODE),
    "TIFF, 16 bits grey and alpha, big-endian": Kind(_T(_alpha(DEEP, 65535), 16, ">", t338=(1,)), _NO_MODE),
    "TIFF, 16 bits grey and an unnamed sample": Kind(_T(_alpha(DEEP, 65535), 16), _NO_MODE),
    "TIFF, signed 8 bits": Kind(_T((GREY // 2).astype(np.int8), 8), _NO_MODE),
    "TIFF, signed 16 bits": Kind(_T((DEEP // 2).astype(np.int16), 16), "no fixed range"),
    "TIFF, 32 bits unsigned, big-endian": Kind(_T(DEEP.astype(np.uint32), 32, ">"), _NO_MODE),
    "TIFF, 64 bits floating-point": Kind(_T(GREY.astype(np.float64), 64), _NO_MODE),
    "TIFF, 32 bits floating-point colour": Kind(_T(COLOUR.astype(np.float32), 32, photometric=2), _NO_MODE),
    "TIFF, 16 bits colour, big-endian": Kind(
        _T(COLOUR.astype(np.uint16) << 8, 16, ">", photometric=2), "colour", COLOUR
    ),
    "TIFF, 12 bits colour": Kind(_T(COLOUR.astype(np.uint16) << 4, 12, photometric=2), _NO_MODE),
    "TIFF, raw sensor mosaic (CFA)": Kind(_T(DEEP, 16, photometric=32803), _NO_MODE),
    "TIFF, JPEG 2000 inside": Kind(_T(GREY, 8, compression=34712), _NO_MODE),
    "BigTIFF": Kind(partial(encode, GREY, "TIFF", big_tiff=True), "grey", GREY),
    "PNG, 16 bits grey and alpha": Kind(partial(deep_png, _alpha(DEEP, 65535), 4), "grey", GREY),
    "PNG, 16 bits grey, half transparent": Kind(
        partial(deep_png, _alpha(DEEP, 0x8080), 4), "grey", over_white(GREY, 128 / 255)
    ),
    "PNG, 16 bits grey, 12 significant (sBIT)": Kind(partial(deep_png, DEEP, 0, chunk(b"sBIT", b"\x0c")), "grey", GREY),
    "PNG with a gamma": Kind(
        lambda: encode(GREY)[:33] + chunk(b"gAMA", struct.pack(">I", 100000)) + encode(GREY)[33:], "grey", GREY
    ),
    "PNG, animated with one frame": Kind(lambda: encode(GREY)[:33] + _ONE_FRAME + encode(GREY)[33:], "grey", GREY),
    "JPEG, 12 bits": Kind(partial(jpeg_of, 12), _NO_MODE),
    "JPEG of two components": Kind(partial(jpeg_of, components=2), _NO_MODE),
    "JPEG without its end": Kind(lambda: encode(GREY, "JPEG")[:-2], "cut short"),
    "BMP, 16 bits (5-6-5)": Kind(partial(bmp, 16, _ROWS_565, compression=3, masks=_MASKS_565), "colour", _565),
    "BMP, 24 bits, from the top down": Kind(
        partial(bmp, 24, COLOUR[:, :, ::-1].tobytes(), height=-40), "colour", COLOUR
    ),
    "BMP, 64 bits": Kind(partial(bmp, 64, bytes(48 * 40 * 8)), _NO_MODE),
    "BMP, 2 bits": Kind(partial(bmp, 2, bytes(12 * 40)), _NO_MODE),
    "BMP with a JPEG inside": Kind(lambda: bmp(0, encode(GREY, "JPEG"), compression=4), _NO_MODE),
    "WebP, grey": Kind(partial(encode, GREY, "WEBP", lossless=True), "colour", np.stack([GREY] * 3, 2)),
    "GIF of one frame": Kind(partial(encode, GREY, "GIF"), "a GIF file"),
    "Git LFS pointer instead of the image": Kind(
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer file"
    ),
}
