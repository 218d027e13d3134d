"""A local folder as the source of labelled images.

In: a folder with one subfolder per class, or with a `labels.csv` (see `twofold/sources/listing.py`). Out: what it
offers, sorted by key, and what it holds besides.

- Hidden files and folders (a leading dot) and `__MACOSX` are left aside without a word.
- Symbolic links to files are followed as long as they stay inside the folder. Links that leave it are refused, and
  links to folders are never followed: either could bring in what nobody meant to give, or one image twice.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from twofold.errors import DataError
from twofold.sources.listing import (
    LABELS,
    Aside,
    Fetched,
    Listing,
    Wanted,
    from_classes,
    from_table,
    hidden,
    shown,
)


class Folder:
    """A local folder of labelled images.

    Raises:
        DataError: it is not a folder, or its `labels.csv` is wrong; every wrong row is named by its line.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; set ingest.source in params.yaml to the folder of your images")
        self.root = root.resolve()
        self.name = str(root)

    def listing(self) -> Listing:
        """What the folder offers."""
        files, aside = self._walk()
        table = self.root / LABELS
        if not table.exists():
            return from_classes(files, aside)
        if not table.resolve().is_relative_to(self.root):
            raise DataError(f"{table}: a symbolic link that leaves the folder")
        return from_table(str(table), _content(table), files, aside, self.problem)

    def problem(self, key: str) -> str | None:
        """Why a file on offer may not be read, if so."""
        try:
            real = (self.root / key).resolve()
            if not real.is_relative_to(self.root):
                return "a symbolic link that leaves the folder"
            # A pipe or a device would never end.
            return None if real.is_file() else "not a regular file" if real.exists() else "no such file"
        except (OSError, RuntimeError):  # too long a name, a ring of links
            return "the path leads nowhere"

    def size(self, key: str) -> int:
        """Bytes of a file on offer; 0 if it cannot be asked, which reading it will tell."""
        try:
            return (self.root / key).stat().st_size
        except OSError:
            return 0

    def wanted(self, key: str) -> Wanted:
        """What `fetch` takes for a file on offer."""
        return Wanted(key, self.size(key))

    def fetch(self, wanted: Sequence[Wanted], limit: int) -> list[Fetched]:
        """The files, in their order; of one above `limit` bytes only the beginning."""
        return [self._fetched(one.key, limit) for one in wanted]

    def _fetched(self, key: str, limit: int) -> Fetched:
        try:
            return Fetched(self.read(key, limit))
        except DataError as error:
            return Fetched(b"", str(error))

    def read(self, key: str, limit: int) -> bytes:
        """The bytes of a file on offer, at most `limit` + 1 of them: enough to see that it is too large.

        Raises:
            DataError: with the reason alone.
        """
        problem = self.problem(key)
        if problem is not None:
            raise DataError(problem)
        try:
            with (self.root / key).open("rb") as stream:
                return stream.read(limit + 1)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}") from None

    def _walk(self) -> tuple[list[str], list[Aside]]:
        files: list[str] = []
        aside: list[Aside] = []
        for place, folders, names in os.walk(self.root, onerror=_stop):
            base = Path(place)
            for name in folders:
                if not hidden(name) and (base / name).is_symlink():
                    aside.append(self._aside(base / name, "a symbolic link to a folder; links are not followed", True))
            folders[:] = [name for name in folders if not hidden(name)]  # links are not walked into anyway
            for name in names:
                if hidden(name):
                    continue
                key = (base / name).relative_to(self.root).as_posix()
                if not key.isprintable():  # what is not UTF-8 shows up as lone surrogates
                    aside.append(self._aside(base / name, "the name is not printable UTF-8; rename it", True))
                elif key != LABELS:
                    files.append(key)
        return files, aside

    def _aside(self, path: Path, reason: str, counts: bool) -> Aside:
        names = [shown(name) for name in path.relative_to(self.root).parts]
        key, label = "/".join(names), names[0] if len(names) > 1 else ""
        return Aside(key, label, reason, counts)


def _content(table: Path) -> bytes:
    try:
        return table.read_bytes()
    except OSError as error:
        raise DataError(f"{table}: cannot be read: {error.strerror}") from None


def _stop(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}")
