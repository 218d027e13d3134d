"""A local folder as a source of labelled images, with one subfolder per class or a `labels.csv` (see `labels.py`).

- Systems' and editors' own files and folders (a leading dot, `__MACOSX`, `Thumbs.db`…) are left aside.
- Nothing is ever written to a path made from a file's name, so `A.png` and `a.png`, or two Unicode spellings of an
  accent, are two images. Names that are not printable (line ends, marks for the reading direction, invalid UTF-8) are
  refused.
- Only regular files are read: reading a pipe, a socket or a device might never end.
- Symbolic links to files are followed if the target is inside the folder, or an object in a DVC cache that the user's
  or the project's configuration names. Other links out of the folder are refused, and links to folders are not
  followed: either could add files that the user did not mean, or one image twice. Hard links cannot be distinguished
  from other files.
"""

import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from twofold.core.errors import DataError
from twofold.sources.base import FetchedFile, FileRequest, IgnoredFile, Listing
from twofold.sources.labels import LABELS, is_hidden, list_labelled, printable, refuse_name

_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_LEAVES = "a symbolic link that leaves the folder, and leads into no DVC cache of your or the project's configuration"
_CHUNK = 1 << 20  # bytes per read of a file that grew while it was read


class FolderSource:
    """A local folder of labelled images; anything else raises a DataError."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(
                f"{root}: no such folder; set ingest.source in params.yaml, or the argument of `twofold audit`, to the "
                "folder of your images"
            )
        self.root = root.resolve()
        self.name = str(root)
        self._plain: dict[str, bool] = {}  # by folder below the root: whether it exists and no link is on the way to it

    def listing(self) -> Listing:
        """List the folder's images.

        Raises:
            DataError: a folder cannot be read, or `labels.csv` is wrong; every wrong row is named by its line.
        """
        files, ignored = self._walk()
        if os.path.lexists(self.root / LABELS):
            files.append(LABELS)
        return list_labelled(str(self.root), files, ignored, lambda limit: self._read(LABELS, limit), self.problem)

    def problem(self, key: str) -> str | None:
        """Return why a file must not be read, or None."""
        # Most files are regular files in folders without links, for which one system call is enough.
        parent = key.rpartition("/")[0]
        if parent not in self._plain:
            self._plain[parent] = self._is_plain(parent)
        if self._plain[parent]:
            with suppress(OSError, ValueError):
                if stat.S_ISREG(os.lstat(f"{self.root}/{key}").st_mode):
                    return None
        try:
            real = (self.root / key).resolve()
            if not real.is_relative_to(self.root) and not self._cached.fullmatch(real.as_posix()):
                return _LEAVES
            # Reading a pipe or a device would never end.
            return None if stat.S_ISREG(real.stat().st_mode) else "not a regular file"
        except (FileNotFoundError, NotADirectoryError):
            return "no such file"
        except (OSError, RuntimeError):  # the name is too long, or links form a loop
            return "the path leads nowhere"
        except DataError as error:
            return str(error)

    @cached_property
    def _cached(self) -> re.Pattern[str]:
        from twofold.sources.dvc_objects import cached_objects  # DVC is slow to import

        return cached_objects(self.root)

    def _is_plain(self, parent: str) -> bool:
        path = f"{self.root}/{parent}".rstrip("/")
        try:
            return os.path.realpath(path) == path and Path(path).is_dir()
        except (OSError, ValueError):  # the name is too long
            return False

    def request(self, key: str) -> FileRequest:
        """Return the request for a key of the listing; size 0 if the file cannot be accessed, which reading reports."""
        try:
            return FileRequest(key, os.stat(f"{self.root}/{key}").st_size)  # noqa: PTH116 - a Path is slower
        except OSError:
            return FileRequest(key, 0)

    def fetch(self, requests: Sequence[FileRequest], limit: int) -> list[FetchedFile]:
        """Return the files, in order; of a file above `limit` bytes only its beginning."""
        return [self._read(one.key, limit) for one in requests]

    def _read(self, key: str, limit: int) -> FetchedFile:
        """Return at most `limit` + 1 bytes of a file, or why it is refused."""
        if (problem := self.problem(key)) is not None:
            return FetchedFile(b"", problem)
        try:
            # Does not block if a pipe has replaced the file since.
            handle = os.open(f"{self.root}/{key}", _READ)
            try:
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode):
                    return FetchedFile(b"", "not a regular file")
                return FetchedFile(_read_bytes(handle, status.st_size, limit + 1))
            finally:
                os.close(handle)
        except OSError as error:
            return FetchedFile(b"", f"cannot be read: {error.strerror}")

    def _walk(self) -> tuple[list[str], list[IgnoredFile]]:
        """Return the keys of hidden folders and of all other files but `labels.csv`, and those with a refused name."""
        files: list[str] = []
        ignored: list[IgnoredFile] = []
        pending = [""]
        while pending:
            base = pending.pop()
            for item in _scan(self.root / base):
                key = base + item.name
                if is_hidden(item.name):
                    files.append(key)
                elif _is_folder(item):
                    if item.is_symlink():
                        ignored.append(refuse_name(key, "a symbolic link to a folder; links are not followed"))
                    else:
                        pending.append(f"{key}/")
                elif not key.isprintable():  # invalid UTF-8 becomes lone surrogates
                    ignored.append(refuse_name(key, "the name is not printable UTF-8; rename it"))
                elif key != LABELS:
                    files.append(key)
        return files, ignored


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except OSError as error:
        raise DataError(f"{printable(str(folder))}: cannot be read: {error.strerror}") from None


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # links form a loop
        return False


def _read_bytes(handle: int, size: int, most: int) -> bytes:
    """Return a file's bytes, at most `most` of them; `size` is its size according to fstat."""
    data = os.read(handle, min(size + 1, most))
    if len(data) == size:
        return data  # another read to look for more would take another buffer and wait for Python's lock again
    while len(data) < most and (more := os.read(handle, min(_CHUNK, most - len(data)))):
        data += more
    return data
