"""What a process and everything below it hold of memory, watched from outside while it runs."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024


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


def _held(pid: int, above: dict[str, int] | None = None) -> Iterator[int]:
    """Of a process and of everything below it; one that has just been started and still is its parent counts once."""
    own = _fields(pid)
    # Between vfork and exec a child runs in its parent's own memory, and the parent waits.
    if own != above:
        yield sum(own.get(name, 0) for name in ("RssAnon", "RssShmem"))
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _held(int(child), own)


def _fields(pid: int) -> dict[str, int]:
    """What the system says of a process's memory, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: int(value.split()[0]) * 1024 for name, value in fields.items() if value.endswith(" kB")}
