"""Memory: the peak of a process with all its children, measured from outside, and free pages mapped in advance."""

import ctypes
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024
RESERVE = 1024 * MIB  # of free memory, left to other processes
TOUCH_SCRIPT = """
import ctypes, mmap, sys
size = int(sys.argv[1])
pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(pages)), 1, size)
"""
KCMP, KCMP_VM = {"x86_64": 312, "aarch64": 272}, 1  # the system call's number by machine, and what it compares


def peak_memory(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Wait for a process; return the peak memory in bytes, without mapped files, and the peak number of processes."""
    memory = processes = 0
    while process.poll() is None:
        try:
            sizes = list(_tree_sizes(process.pid))
            memory, processes = max(memory, sum(sizes)), max(processes, len(sizes))
        except (FileNotFoundError, ProcessLookupError):
            pass  # one of them ended meanwhile
        time.sleep(0.05)
    return memory, processes


def touch_free_memory(size: int) -> None:
    """Have another process write to up to `size` bytes of free memory and end.

    A virtual machine may have returned free memory to its host, and the first use of a page then waits for the host
    (bench/notes.md on B9: nine times as long as the write itself). Memory that was just in use stays available, most
    of it for some seconds.

    Raises:
        SystemExit: less memory was available, for example in a container with a limit.
    """
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemFree:"))
    size = min(size, free - RESERVE)
    if size > 0:
        status = subprocess.run([sys.executable, "-c", TOUCH_SCRIPT, str(size)], check=False).returncode
        if status:
            raise SystemExit(
                f"bench: could not write to {size:,} bytes, which are free by /proc/meminfo: ended with status "
                f"{status}; most likely the memory of this process is limited to less"
            )


def _tree_sizes(pid: int) -> Iterator[int]:
    """Bytes of a process and of each of its descendants; a child that still runs in its parent's memory counts 0."""
    yield _own_size(pid)
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        # Compared before the size is read: from vfork to exec a child uses its parent's memory, and then little.
        if _same_memory(pid, child):
            yield 0
        else:
            yield from _tree_sizes(child)


def _own_size(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return sum(int(fields.get(name, "0").split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def _same_memory(one: int, other: int) -> bool:
    """Whether two processes share their memory, by Linux's kcmp; False where that is not available."""
    number = KCMP.get(platform.machine())
    return number is not None and ctypes.CDLL(None).syscall(number, one, other, KCMP_VM, 0, 0) == 0
