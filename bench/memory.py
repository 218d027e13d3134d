"""What a process and everything below it hold of memory, watched from outside while it runs."""

import subprocess
import time
from pathlib import Path

MIB = 1024 * 1024


def peak(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Wait for a process; returns the most memory in bytes, files mapped left out, and the most processes."""
    memory = most = 0
    while process.poll() is None:
        try:
            pids = _tree(process.pid)
            memory, most = max(memory, sum(map(_anonymous, pids))), max(most, len(pids))
        except (FileNotFoundError, ProcessLookupError):
            pass  # one of them ended while it was looked at
        time.sleep(0.05)
    return memory, most


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in _tree(int(child)))]


def _anonymous(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return sum(int(fields.get(name, "0").split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))
