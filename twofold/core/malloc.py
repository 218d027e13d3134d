"""What becomes of memory that is freed: kept for the next piece of work, where the C library can be told so."""

import ctypes
import platform
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # of glibc's malloc.h
_MIB = 1 << 20


def keep_freed_memory() -> None:
    """Keep what an image needed for the next one; what is above 32 MiB in one piece goes back to the system.

    By default glibc hands an image's memory back as soon as it is free, and the system clears and maps every page of
    it anew for the next image.
    """
    _set((_MMAP_THRESHOLD, 32 * _MIB), (_TRIM_THRESHOLD, 64 * _MIB), (_TOP_PAD, _MIB))


def keep_all_freed_memory() -> None:
    """Keep all of it: a training step frees gigabytes and asks for the same again."""
    _set((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 256 * _MIB))


def _set(*options: tuple[int, int]) -> None:
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in options:
            libc.mallopt(option, value)
