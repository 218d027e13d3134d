"""A local folder as the source of labelled images.

In: a folder with one subfolder per class, or with a `labels.csv` (see `twofold/sources/labels.py`). Out: what it
offers, sorted by key, and what it holds besides.

- Hidden files and folders (a leading dot) and `__MACOSX` are left aside without a word.
- A name is never made into a path that is written to, so `A.png` and `a.png`, or two spellings of one accent, are two
  images. Names that do not print (line ends, marks that turn the direction of reading, no UTF-8) are refused.
- Only regular files are read, which a pipe, a socket or a device is not: it might never end.
- Symbolic links to files are followed as long as they stay inside the folder. Links that leave it are refused, and
  links to folders are never followed: either could bring in what nobody meant to give, or one image twice.
  Hard links are plain files; nothing tells them apart.
"""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from twofold.core.errors import DataError
from twofold.sources.base import FetchedFile, FileRequest, IgnoredFile, Listing
from twofold.sources.labels import LABELS, LARGEST_TABLE, from_classes, from_table, is_hidden, printable

_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_MORE = 1 << 20  # bytes read at a time, of a file that grew while it was read


class FolderSource:
    """A local folder of labelled images.

    Raises:
        DataError: it is not a folder, or its `labels.csv` is wrong; every wrong row is named by its line.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(
                f"{root}: no such folder; name that of your images as ingest.source in params.yaml, or after "
                "`twofold audit`"
            )
        self.root = root.resolve()
        self.name = str(root)
        self._inside: dict[str, bool] = {}  # folders below the root: whether they are there, and no link leads out

    def listing(self) -> Listing:
        """What the folder offers."""
        files, ignored = self._walk()
        table = self.root / LABELS
        if not os.path.lexists(table):
            return from_classes(files, ignored)
        try:
            content = self.read(LABELS, LARGEST_TABLE)
        except DataError as error:
            raise DataError(f"{table}: {error}") from None
        if len(content) > LARGEST_TABLE:
            raise DataError(f"{table}: more than {LARGEST_TABLE} bytes")
        return from_table(str(table), content, files, ignored, self.problem)

    def problem(self, key: str) -> str | None:
        """Why a file on offer may not be read, if so."""
        # Most files are plain ones in plain folders: then a look at the file is enough.
        parent = key.rpartition("/")[0]
        if parent not in self._inside:
            self._inside[parent] = self._is_plain(parent)
        if self._inside[parent]:
            with suppress(OSError, ValueError):
                if stat.S_ISREG(os.lstat(f"{self.root}/{key}").st_mode):
                    return None
        try:
            real = (self.root / key).resolve()
            if not real.is_relative_to(self.root):
                return "a symbolic link that leaves the folder"
            # A pipe or a device would never end.
            return None if real.is_file() else "not a regular file" if real.exists() else "no such file"
        except (OSError, RuntimeError):  # too long a name, a ring of links
            return "the path leads nowhere"

    def _is_plain(self, parent: str) -> bool:
        """Whether a folder is the place that its name says, with no link on the way to it."""
        place = f"{self.root}/{parent}".rstrip("/")
        try:
            return os.path.realpath(place) == place and Path(place).is_dir()
        except (OSError, ValueError):  # too long a name
            return False

    def size(self, key: str) -> int:
        """Bytes of a file on offer; 0 if it cannot be asked, which reading it will tell."""
        try:
            return os.stat(f"{self.root}/{key}").st_size  # noqa: PTH116 - a Path takes longer than the look
        except OSError:
            return 0

    def wanted(self, key: str) -> FileRequest:
        """What `fetch` takes for a file on offer."""
        return FileRequest(key, self.size(key))

    def fetch(self, wanted: Sequence[FileRequest], limit: int) -> list[FetchedFile]:
        """The files, in their order; of one above `limit` bytes only the beginning."""
        return [self._fetched(one.key, limit) for one in wanted]

    def _fetched(self, key: str, limit: int) -> FetchedFile:
        try:
            return FetchedFile(self.read(key, limit))
        except DataError as error:
            return FetchedFile(b"", str(error))

    def read(self, key: str, limit: int) -> bytes:
        """The bytes of a file on offer, at most `limit` + 1 of them: enough to see that it is too large.

        Raises:
            DataError: with the reason alone.
        """
        problem = self.problem(key)
        if problem is not None:
            raise DataError(problem)
        try:
            # Without waiting, should a pipe have taken the file's place since.
            handle = os.open(f"{self.root}/{key}", _READ)
            try:
                found = os.fstat(handle)
                if not stat.S_ISREG(found.st_mode):
                    raise DataError("not a regular file")
                return _bytes(handle, found.st_size, limit + 1)
            finally:
                os.close(handle)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}") from None

    def _walk(self) -> tuple[list[str], list[IgnoredFile]]:
        files: list[str] = []
        ignored: list[IgnoredFile] = []
        waiting = [""]
        while waiting:
            base = waiting.pop()
            for item in _items(self.root / base):
                key = base + item.name
                if is_hidden(item.name):
                    continue
                if _is_folder(item):
                    if item.is_symlink():
                        ignored.append(_aside(key, "a symbolic link to a folder; links are not followed"))
                    else:
                        waiting.append(f"{key}/")
                elif not key.isprintable():  # what is not UTF-8 shows up as lone surrogates
                    ignored.append(_aside(key, "the name is not printable UTF-8; rename it"))
                elif key != LABELS:
                    files.append(key)
        return files, ignored


def _aside(key: str, reason: str) -> IgnoredFile:
    names = [printable(name) for name in key.split("/")]
    return IgnoredFile("/".join(names), names[0] if len(names) > 1 else "", reason, True)


def _items(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return list(items)
    except OSError as error:
        raise DataError(f"{printable(str(folder))}: cannot be read: {error.strerror}") from None


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a ring of links
        return False


def _bytes(handle: int, size: int, most: int) -> bytes:
    """A file to its end, or its first `most` bytes; `size` is what it says of itself."""
    data = os.read(handle, min(size + 1, most))
    if len(data) == size:
        return data  # all there is; to look for more would take another buffer and another turn at Python's lock
    while len(data) < most and (more := os.read(handle, min(_MORE, most - len(data)))):
        data += more
    return data
