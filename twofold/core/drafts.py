"""Drafts: files and folders under a temporary name, of which nothing stays if their process fails or is killed.

The name, `.<name>.<machine>-<process>-<its start>-<random>`, says who writes. A new draft removes those of dead
processes in its folder; one on another machine (a pod on the same volume) is dead if it renews nothing for LEASE.
"""

import errno
import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from twofold.core.errors import ArtifactError

LEASE, RENEWAL = 3600.0, 60.0  # seconds
_NAME = re.compile(r"\.(.+)\.(([0-9a-f]{8})-(\d+)-\d+)-[0-9a-f]{8}(\.old)?")
_NO_ROOM = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)]


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """Yield a new name beside `path`, to be renamed to it; what still has that name at the end is removed.

    Raises:
        ArtifactError: there is no room or no right to write there; names `path`.
    """
    temporary = path.with_name(f".{path.name}.{_writer(os.getpid())}-{uuid.uuid4().hex[:8]}")
    done = threading.Event()
    threading.Thread(target=_renew, args=(temporary, done), daemon=True).start()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        yield temporary
    except ArtifactError as error:  # of a file in this folder
        raise ArtifactError(str(error).replace(str(temporary), str(path))) from error
    except Exception as error:  # torch, safetensors and Arrow report a full disk in errors of their own
        if reason := _write_failure(error, path, temporary):
            raise ArtifactError(f"{path}: cannot be written: {reason}; make room there, or allow it") from error
        raise
    finally:
        done.set()
        _remove(temporary)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder for temporary files, which is removed at the end; TMPDIR says where it lies."""
    with draft(Path(tempfile.gettempdir()) / "twofold") as folder:
        folder.mkdir(mode=0o700)
        yield folder


def sweep(folder: Path) -> None:
    """Remove the drafts of dead processes in a folder; a folder that was being replaced gets its name back."""
    for found in folder.glob(".*-*"):
        if parts := _NAME.fullmatch(found.name):
            name, writer, machine, process, old = parts.groups()
            with suppress(OSError):  # another process was faster
                far = machine != _machine()
                if (time.time() - found.stat().st_mtime > LEASE) if far else writer != _writer(int(process)):
                    if old and not (folder / name).exists():
                        found.rename(folder / name)
                    _remove(found)


def _renew(temporary: Path, done: threading.Event) -> None:
    while not done.wait(RENEWAL):
        with suppress(OSError):
            os.utime(temporary)


def _writer(process: int) -> str:
    """Identify a process by its machine, id and start, in the kernel's ticks; that of a dead one is 0."""
    fields = ["Z"]
    with suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return f"{_machine()}-{process}-{0 if fields[0] in 'ZX' else fields[19]}"


@cache
def _machine() -> str:
    """Identify where process ids mean the same: one boot of a kernel, one container; at random without /proc."""
    place = uuid.uuid4().hex
    with suppress(OSError):
        place = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(place.encode()).hexdigest()[:8]


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def _write_failure(error: Exception, path: Path, temporary: Path) -> str | None:
    """Return why `path` cannot be written; None for an error of something else."""
    # The text of another library's error may be about a disk elsewhere, such as a server's.
    text = str(error) if type(error).__module__.partition(".")[0] in ("builtins", "pyarrow", "safetensors") else ""
    if place := getattr(error, "filename2", None) or getattr(error, "filename", None):
        written = {temporary, path} & {Path(place), *Path(place).parents} or Path(place) in path.parents
        return getattr(error, "strerror", None) if written else None
    if re.search(r"requested and \d+ written|unexpected pos", text):  # NumPy, torch
        return _NO_ROOM[0]
    return next((reason for reason in _NO_ROOM if reason in text), None)
