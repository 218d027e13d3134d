"""Decodes each file of a folder in its own process, and measures time and peak memory.

Prints one JSON object: file name -> result, seconds, peak memory in bytes, and standard error. Runs as
`python -m tests.support.tools.confined FOLDER LIMITS` in a small process, because the peak is the kernel's `ru_maxrss`,
and a fork starts with the size of its parent.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

from twofold.core.errors import DataError
from twofold.data.decoding import Decoded, Limits, decode

ROOT = Path(__file__).resolve().parents[3]


class Cost(NamedTuple):
    """The result for a file (digest of its pixels, `refused: …`, or how its process ended) and what it cost."""

    found: str
    seconds: float
    peak: int
    stderr: str


def limits_of_params() -> Limits:
    """The limits of params.yaml."""
    from twofold.orchestration.params_file import read  # too large for the small process

    values = dict(read(ROOT / "params.yaml")["ingest"])
    return Limits(*(int(values[name]) for name in Limits.__slots__))


def fate(data: bytes, limits: Limits) -> str:
    """The digest of the decoded file, or why it is refused; any other error is raised."""
    try:
        return digest(decode(data, limits), limits)
    except DataError as error:
        return f"refused: {error}"


def digest(decoded: Decoded, limits: Limits) -> str:
    """Everything that `decode` returns for a file, as one line."""
    height, width, channels = decoded.pixels.shape
    assert decoded.pixels.dtype.name == "uint8"
    assert channels in (1, 3)
    assert (width, height) == (decoded.width, decoded.height)
    assert width * height <= limits.max_pixels
    assert min(width, height) >= limits.min_side
    pixels = hashlib.sha256(decoded.pixels.data).hexdigest()
    return f"decoded: {width}x{height}x{channels} {decoded.mode} {decoded.format} {pixels}"


def confined(folder: Path, limits: Limits, seconds: float) -> dict[str, Cost]:
    """Decode every file of a folder in its own process, which may take so many seconds."""
    values = [limits.max_bytes, limits.max_pixels, limits.min_side, seconds]
    command = [sys.executable, "-m", "tests.support.tools.confined", folder, json.dumps(values)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return {name: Cost(*cost) for name, cost in json.loads(done.stdout).items()}


def _decode_in_fork(path: Path, limits: Limits, seconds: float) -> Cost:
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as noise:
        begin = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.dup2(noise.fileno(), 2)
            signal.alarm(int(seconds))  # by default it ends the process, even in C code
            status = 1
            try:
                warnings.simplefilter("error")
                answer.write(fate(path.read_bytes(), limits).encode())
                answer.flush()
                status = 0
            except BaseException as error:
                answer.write(f"escaped: {type(error).__name__}: {error}".encode())
                answer.flush()
            finally:
                os._exit(status)
        _, status, usage = os.wait4(pid, 0)
        took = time.monotonic() - begin
        answer.seek(0)
        noise.seek(0)
        found = answer.read().decode()
        if os.WIFSIGNALED(status):
            found = f"killed by signal {os.WTERMSIG(status)}"
        return Cost(found, took, usage.ru_maxrss * 1024, noise.read().decode(errors="replace"))


if __name__ == "__main__":
    *limits, seconds = json.loads(sys.argv[2])
    files = sorted(Path(sys.argv[1]).iterdir())
    print(json.dumps({path.name: _decode_in_fork(path, Limits(*limits), seconds) for path in files}))
