"""Each file decoded in a process of its own, with what it cost.

In: a folder of files, and in `jobs.json` beside them the limits and the seconds that each may take. Out: on stdout one
JSON object: name -> what came of it, seconds, peak memory in bytes, and what was written to stderr.

Run as `python -m tests.support.tools.confined FOLDER`, from a small process: the peak is the kernel's own (`ru_maxrss`), and a
fork starts at the size of its parent.
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
    """What came of a file: the digest of its pixels, `refused: …`, or how its process ended."""

    found: str
    seconds: float
    peak: int
    stderr: str


def limits_of_params() -> Limits:
    """Those of params.yaml."""
    from twofold.orchestration.params_file import read  # not in the small process

    values = dict(read(ROOT / "params.yaml")["ingest"])
    return Limits(*(int(values[name]) for name in Limits.__slots__))


def fate(data: bytes, limits: Limits) -> str:
    """The digest of what a file decodes to, or why it is refused; any other error goes on."""
    try:
        return digest(decode(data, limits), limits)
    except DataError as error:
        return f"refused: {error}"


def digest(decoded: Decoded, limits: Limits) -> str:
    """Everything that `decode` says of a file, as one line."""
    height, width, channels = decoded.pixels.shape
    assert decoded.pixels.dtype.name == "uint8"
    assert channels in (1, 3)
    assert (width, height) == (decoded.width, decoded.height)
    assert width * height <= limits.max_pixels
    assert min(width, height) >= limits.min_side
    pixels = hashlib.sha256(decoded.pixels.data).hexdigest()
    return f"decoded: {width}x{height}x{channels} {decoded.mode} {decoded.format} {pixels}"


def confined(folder: Path, limits: Limits, seconds: float) -> dict[str, Cost]:
    """Decode every file of a folder apart."""
    command = [sys.executable, "-m", "tests.support.tools.confined", folder, json.dumps([*values(limits), seconds])]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return {name: Cost(*cost) for name, cost in json.loads(done.stdout).items()}


def values(limits: Limits) -> list[int]:
    """In the order of the class."""
    return [limits.max_bytes, limits.max_pixels, limits.min_side]


def _apart(path: Path, limits: Limits, seconds: float) -> Cost:
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as noise:
        begin = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.dup2(noise.fileno(), 2)
            signal.alarm(int(seconds))  # its default ends the process, whatever C code runs
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


def _main() -> None:
    folder = Path(sys.argv[1])
    *three, seconds = json.loads(sys.argv[2])
    limits = Limits(*three)
    print(json.dumps({path.name: _apart(path, limits, seconds) for path in sorted(folder.iterdir())}))


if __name__ == "__main__":
    _main()
