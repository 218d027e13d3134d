"""What a process and everything below it hold of memory, watched from outside while it runs."""

import ctypes
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024
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
