"""Tells glibc's allocator to keep freed memory for reuse; on other systems nothing is changed."""

import ctypes
import platform
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # of glibc's malloc.h
_MIB = 1 << 20


def keep_freed_memory() -> None:
    """Keep one image's freed memory for the next image; blocks above 32 MiB go back to the system.

    By default glibc returns an image's memory at once, and the system clears and maps every page again for the next.
    """
    _set_options((_MMAP_THRESHOLD, 32 * _MIB), (_TRIM_THRESHOLD, 64 * _MIB), (_TOP_PAD, _MIB))


def keep_all_freed_memory() -> None:
    """Keep all freed memory: a training step frees gigabytes and allocates the same amount again."""
    _set_options((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 256 * _MIB))


def _set_options(*options: tuple[int, int]) -> None:
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in options:
            libc.mallopt(option, value)
