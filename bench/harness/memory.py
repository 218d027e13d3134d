"""Memory: what a process and everything below it hold of it, watched from outside, and having what is free at hand."""

import ctypes
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024
SPARED = 1024 * MIB  # of free memory, for what else runs
TOUCH = """
import ctypes, mmap, sys
size = int(sys.argv[1])
held = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(held)), 1, size)
"""
KCMP, KCMP_VM = {"x86_64": 312, "aarch64": 272}, 1  # the call's number by machine, and what is compared


def peak(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Wait for a process; returns the most memory in bytes, files mapped left out, and the most processes."""
    memory = most = 0
    while process.poll() is None:
        try:
            held = list(_held(process.pid))
            memory, most = max(memory, sum(held)), max(most, len(held))
        except (FileNotFoundError, ProcessLookupError):
            pass  # one of them ended while it was looked at
        time.sleep(0.05)
    return memory, most


def at_hand(size: int) -> None:
    """Have another process write to up to `size` bytes of free memory and end.

    A virtual machine may have given free memory back to its host; the first to use a page then waits for the host
    (bench/notes.md on B9: nine times as long as the write itself takes). What is free and has just been used is there,
    most of it for some seconds.

    Raises:
        SystemExit: there was not so much memory, for instance in a container with a limit.
    """
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemFree:"))
    size = min(size, free - SPARED)
    if size > 0:
        status = subprocess.run([sys.executable, "-c", TOUCH, str(size)], check=False).returncode
        if status:
            raise SystemExit(
                f"bench: {size:,} bytes, which /proc/meminfo calls free, could not be had: writing to them ended with "
                f"status {status}; most likely this process's memory is limited to less"
            )


def _held(pid: int) -> Iterator[int]:
    """Of a process and of everything below it; one that has just been started and still is its parent counts as 0."""
    yield _own(pid)
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        # Asked first: from vfork to exec a child runs in its parent's own memory, and afterwards in little.
        if _share(pid, child):
            yield 0
        else:
            yield from _held(child)


def _own(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return sum(int(fields.get(name, "0").split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def _share(one: int, other: int) -> bool:
    """Whether two processes have the same memory, by Linux's kcmp; False where there is none."""
    number = KCMP.get(platform.machine())
    return number is not None and ctypes.CDLL(None).syscall(number, one, other, KCMP_VM, 0, 0) == 0
