"""Image files changed at random, the same for the same seed.

In: a seed. Out: the bytes of one of the bases (`tests/support/hostile_images.py`), changed one to four times: bits turned over,
bytes overwritten, pieces cut out, repeated or put in, two files spliced, sizes and other numbers of the header set to
what breaks arithmetic. A PNG's checksums are mostly put right again, as nothing else would reach the decoder.
"""

import struct
import zlib
from collections.abc import Callable

import numpy as np

from tests.support.hostile_images import BASES

Rng = np.random.Generator
NUMBERS = [0, 1, 2, 7, 8, 16, 255, 256, 4000, 9000, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


def mutation(seed: int) -> bytes:
    """One changed file."""
    rng = np.random.default_rng([seed, 20_000])
    names = sorted(BASES)
    data = bytearray(BASES[names[int(rng.integers(len(names)))]])
    for _ in range(int(rng.integers(1, 5))):
        data = _CHANGES[int(rng.integers(len(_CHANGES)))](data, rng)
    return bytes(_summed(data) if data[:4] == b"\x89PNG" and rng.random() < 0.8 else data)


def _flips(data: bytearray, rng: Rng) -> bytearray:
    for place in rng.integers(0, max(1, len(data)), int(rng.integers(1, 20))):
        data[place : place + 1] = bytes([data[place] ^ 1 << int(rng.integers(8))]) if data else b""
    return data


def _overwrites(data: bytearray, rng: Rng) -> bytearray:
    start, end = _piece(data, rng)
    size = end - start
    data[start:end] = [bytes(size), b"\xff" * size, rng.bytes(size)][int(rng.integers(3))]
    return data


def _cut_out(data: bytearray, rng: Rng) -> bytearray:
    start, end = _piece(data, rng)
    del data[start:end]
    return data


def _repeated(data: bytearray, rng: Rng) -> bytearray:
    start, end = _piece(data, rng)
    data[end:end] = data[start:end] * int(rng.integers(1, 50))
    return data


def _put_in(data: bytearray, rng: Rng) -> bytearray:
    start, _ = _piece(data, rng)
    data[start:start] = rng.bytes(int(rng.integers(1, 300)))
    return data


def _spliced(data: bytearray, rng: Rng) -> bytearray:
    other = BASES[sorted(BASES)[int(rng.integers(len(BASES)))]]
    return data[: int(rng.integers(len(data) + 1))] + other[int(rng.integers(len(other))) :]


def _number(data: bytearray, rng: Rng) -> bytearray:
    """Any two or four bytes, most often of the header."""
    size, order = int(rng.choice([2, 4])), str(rng.choice(["<", ">"]))
    value = NUMBERS[int(rng.integers(len(NUMBERS)))] & (256**size - 1)
    within = len(data) if rng.random() < 0.3 else min(len(data), 250)
    start = int(rng.integers(0, max(1, within - size)))
    data[start : start + size] = struct.pack(order + ("H" if size == 2 else "I"), value)
    return data


def _sized(data: bytearray, rng: Rng) -> bytearray:
    """Where the format keeps width and height; in a TIFF any value of the directory, so strips and tiles too."""
    values = [int(rng.choice([1, 15, 16, 40, 48, 49, 300, 5000, 7000, 16383, 65500])) for _ in range(2)]
    if data[:4] == b"\x89PNG":
        data[16:24] = struct.pack(">II", *values)
    elif data[:2] == b"\xff\xd8":
        frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        data[frame + 5 : frame + 9] = struct.pack(">HH", *values)
    elif data[:2] == b"BM":
        data[18:26] = struct.pack("<ii", values[0], values[1] * int(rng.choice([-1, 1])))
    elif data[8:12] == b"WEBP":
        place = data.find(b"VP8X") + 12 if b"VP8X" in data else data.find(b"VP8L") + 9
        data[place : place + 4] = struct.pack("<HH", *values)
    elif data[:2] in (b"II", b"MM") and len(data) > 8:
        order = "<" if data[:2] == b"II" else ">"
        (start,) = struct.unpack(order + "I", data[4:8])
        place = start + 2 + 12 * int(rng.integers(0, 15)) + int(rng.choice([0, 2, 4, 8, 8, 8]))
        data[place : place + 2] = struct.pack(order + "H", values[0])
    return data


def _piece(data: bytearray, rng: Rng) -> tuple[int, int]:
    start = int(rng.integers(0, len(data) + 1))
    return start, min(len(data), start + int(rng.integers(1, 200)))


def _summed(data: bytearray) -> bytearray:
    place = 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return data


_CHANGES: list[Callable[[bytearray, Rng], bytearray]] = [
    *(_flips, _overwrites, _cut_out, _repeated, _put_in, _spliced, _number, _number, _sized, _sized)
]
