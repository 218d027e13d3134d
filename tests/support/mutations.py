"""Random mutations of image files, deterministic for a seed.

Takes a seed; returns the bytes of a base of `hostile_images.py`, changed one to four times: bits flipped, bytes
overwritten, pieces cut out, repeated or inserted, two files spliced, sizes and numbers of the header set to values
that break arithmetic. The checksums of a PNG are mostly corrected, because otherwise nothing reaches the decoder.
"""

import struct
import zlib
from collections.abc import Callable

import numpy as np

from tests.support.hostile_images import BASES

Rng = np.random.Generator
NUMBERS = [0, 1, 2, 7, 8, 16, 255, 256, 4000, 9000, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1]


def mutation(seed: int) -> bytes:
    """One mutated file."""
    rng = np.random.default_rng([seed, 20_000])
    names = sorted(BASES)
    data = bytearray(BASES[names[int(rng.integers(len(names)))]])
    for _ in range(int(rng.integers(1, 5))):
        data = _CHANGES[int(rng.integers(len(_CHANGES)))](data, rng)
    return bytes(_correct_checksums(data) if data[:4] == b"\x89PNG" and rng.random() < 0.8 else data)


def _flip_bits(data: bytearray, rng: Rng) -> bytearray:
    for place in rng.integers(0, max(1, len(data)), int(rng.integers(1, 20))):
        data[place : place + 1] = bytes([data[place] ^ 1 << int(rng.integers(8))]) if data else b""
    return data


def _overwrite(data: bytearray, rng: Rng) -> bytearray:
    start, end = _range(data, rng)
    size = end - start
    data[start:end] = [bytes(size), b"\xff" * size, rng.bytes(size)][int(rng.integers(3))]
    return data


def _cut(data: bytearray, rng: Rng) -> bytearray:
    start, end = _range(data, rng)
    del data[start:end]
    return data


def _repeat(data: bytearray, rng: Rng) -> bytearray:
    start, end = _range(data, rng)
    data[end:end] = data[start:end] * int(rng.integers(1, 50))
    return data


def _insert(data: bytearray, rng: Rng) -> bytearray:
    start, _ = _range(data, rng)
    data[start:start] = rng.bytes(int(rng.integers(1, 300)))
    return data


def _splice(data: bytearray, rng: Rng) -> bytearray:
    other = BASES[sorted(BASES)[int(rng.integers(len(BASES)))]]
    return data[: int(rng.integers(len(data) + 1))] + other[int(rng.integers(len(other))) :]


def _set_number(data: bytearray, rng: Rng) -> bytearray:
    """Set any two or four bytes, most often in the header."""
    size, order = int(rng.choice([2, 4])), str(rng.choice(["<", ">"]))
    value = NUMBERS[int(rng.integers(len(NUMBERS)))] & (256**size - 1)
    within = len(data) if rng.random() < 0.3 else min(len(data), 250)
    start = int(rng.integers(0, max(1, within - size)))
    data[start : start + size] = struct.pack(order + ("H" if size == 2 else "I"), value)
    return data


def _set_size(data: bytearray, rng: Rng) -> bytearray:
    """Set width and height where the format stores them; in a TIFF any value of the directory."""
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


def _range(data: bytearray, rng: Rng) -> tuple[int, int]:
    start = int(rng.integers(0, len(data) + 1))
    return start, min(len(data), start + int(rng.integers(1, 200)))


def _correct_checksums(data: bytearray) -> bytearray:
    place = 8
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return data


_CHANGES: list[Callable[[bytearray, Rng], bytearray]]
_CHANGES = [_flip_bits, _overwrite, _cut, _repeat, _insert, _splice, _set_number, _set_number, _set_size, _set_size]
