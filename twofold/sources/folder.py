"""A local folder as the source of labelled images.

In: a folder with one subfolder per class, or with a `labels.csv`. Out: what it offers, sorted by key, and what it
holds besides.

- With a `labels.csv` (UTF-8, comma-separated, a header): columns `path` (relative to the folder) and `label`;
  optional `group` (images that must stay in one split: a patient, a module) and `split` (train, validation, test; in
  every row or in none); every other column is a slice, by which results are shown apart. Empty means none.
- Without: every file under `<class>/`, however deep, whose name ends in an accepted extension, in any case.
- Hidden files and folders (a leading dot) and `__MACOSX` are left aside without a word.
- Symbolic links to files are followed as long as they stay inside the folder. Links that leave it are refused, and
  links to folders are never followed: either could bring in what nobody meant to give, or one image twice.
"""

import csv
import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from twofold.errors import DataError

LABELS = "labels.csv"
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLITS = ("train", "validation", "test")
# Pictures that their owner would miss; other files beside images (notes, sidecars) are no loss.
_OTHER_PICTURES = (".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".dcm", ".dng", ".cr2", ".nef", ".arw", ".svg")
_PROBLEMS_SHOWN = 10


class Entry(NamedTuple):
    """One image on offer; `key` is its path relative to the folder, with slashes."""

    key: str
    label: str
    group: str | None
    split: str | None
    slices: tuple[str | None, ...]


class Aside(NamedTuple):
    """A file that is not on offer; `counts` says whether its owner would miss it (then it counts as refused)."""

    key: str
    label: str
    reason: str
    counts: bool


class Listing(NamedTuple):
    """What a source offers: `entries` and `aside` sorted by key, the names of the slice columns sorted."""

    entries: list[Entry]
    aside: list[Aside]
    slices: tuple[str, ...]


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
        found = self._from_table(table, files, aside) if table.exists() else self._from_classes(files, aside)
        return Listing(sorted(found.entries), sorted(found.aside), found.slices)

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
                if not _hidden(name) and (base / name).is_symlink():
                    aside.append(self._aside(base / name, "a symbolic link to a folder; links are not followed", True))
            folders[:] = [name for name in folders if not _hidden(name)]  # links are not walked into anyway
            for name in names:
                if _hidden(name):
                    continue
                key = (base / name).relative_to(self.root).as_posix()
                if not key.isprintable():  # what is not UTF-8 shows up as lone surrogates
                    aside.append(self._aside(base / name, "the name is not printable UTF-8; rename it", True))
                elif key != LABELS:
                    files.append(key)
        return files, aside

    def _aside(self, path: Path, reason: str, counts: bool) -> Aside:
        names = [_shown(name) for name in path.relative_to(self.root).parts]
        key, label = "/".join(names), names[0] if len(names) > 1 else ""
        return Aside(key, label, reason, counts)

    def _from_classes(self, files: list[str], aside: list[Aside]) -> Listing:
        entries: list[Entry] = []
        for key in files:
            parts = PurePosixPath(key).parts
            kind = PurePosixPath(key).suffix.lower()
            label = parts[0] if len(parts) > 1 else ""
            if kind in EXTENSIONS and label:
                entries.append(Entry(key, label, None, None, ()))
            elif kind in EXTENSIONS:
                aside.append(Aside(key, "", "an image outside every class folder", True))
            else:
                pictures = ", ".join(EXTENSIONS)
                aside.append(Aside(key, label, f"the extension is not one of {pictures}", kind in _OTHER_PICTURES))
        return Listing(entries, aside, ())

    def _from_table(self, table: Path, files: list[str], aside: list[Aside]) -> Listing:
        if not table.resolve().is_relative_to(self.root):
            raise DataError(f"{table}: a symbolic link that leaves the folder")
        rows, slices = _read_table(table)
        problems: list[str] = []
        entries: dict[str, Entry] = {}
        lines: dict[str, int] = {}
        for line, row in rows:
            key, problem = self._key(row["path"])
            if problem is None and not row["label"]:
                problem = "the label is empty"
            if problem is None and key in lines:
                problem = f"{key} is already in line {lines[key]}"
            if problem is None and (row.get("split") or SPLITS[0]) not in SPLITS:
                problem = f"split {row['split']!r}; allowed are {', '.join(SPLITS)}"
            if problem is not None:
                problems.append(f"line {line}: {problem}")
                continue
            lines[key] = line
            values = tuple(row[name] or None for name in slices)
            entries[key] = Entry(key, row["label"], row.get("group") or None, row.get("split") or None, values)
        blank = [key for key, entry in entries.items() if entry.split is None]
        if 0 < len(blank) < len(entries):
            first = ", ".join(str(lines[key]) for key in blank[:_PROBLEMS_SHOWN])
            problems.append(f"split is empty in {len(blank)} rows (lines {first}); fill it in every row or in none")
        if problems:
            raise DataError(_listed(f"{table}: {len(problems)} problems", problems))
        unlisted = [key for key in files if key not in entries and PurePosixPath(key).suffix.lower() in EXTENSIONS]
        aside = [item for item in aside if PurePosixPath(item.key).suffix.lower() in EXTENSIONS]
        aside = [item._replace(counts=False) for item in aside]
        aside += [Aside(key, "", f"not named in {LABELS}", False) for key in unlisted]
        return Listing(list(entries.values()), aside, slices)

    def _key(self, text: str) -> tuple[str, str | None]:
        if not text or "\0" in text or not text.isprintable():
            return text, f"path {text!r} is empty or not printable"
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts:
            return text, f"path {text!r} leaves the folder; write it relative to the folder that holds {LABELS}"
        key = path.as_posix()
        problem = self.problem(key)
        if problem is not None:
            return key, f"path {text!r}: {problem}"
        if path.suffix.lower() not in EXTENSIONS:
            return key, f"path {text!r}: the extension must be one of {', '.join(EXTENSIONS)}"
        return key, None


def _read_table(table: Path) -> tuple[list[tuple[int, dict[str, str]]], tuple[str, ...]]:
    """The rows of a `labels.csv` with their line numbers, and the names of its slice columns."""
    rows: list[tuple[int, dict[str, str]]] = []
    problems: list[str] = []
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(table, header)
            for cells in reader:
                if len(cells) == len(header):
                    rows.append((reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))))
                elif cells:
                    problems.append(f"line {reader.line_num}: {len(cells)} cells, the header has {len(header)}")
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{table}: line {reader.line_num}: not CSV: {error}") from None
    if problems:
        raise DataError(_listed(f"{table}: {len(problems)} problems", problems))
    return rows, tuple(sorted(name for name in header if name not in ("path", "label", "group", "split")))


def _check_header(table: Path, header: list[str]) -> None:
    missing = [name for name in ("path", "label") if name not in header]
    if missing:
        raise DataError(f"{table}: line 1: no column {' and '.join(missing)}; found {', '.join(header) or 'nothing'}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice or "" in header:
        raise DataError(f"{table}: line 1: column names must differ and not be empty; found {', '.join(header)}")


def _listed(title: str, problems: list[str]) -> str:
    more = len(problems) - _PROBLEMS_SHOWN
    shown = problems[:_PROBLEMS_SHOWN] + ([f"… and {more} more"] if more > 0 else [])
    return "\n  ".join([title, *shown])


def _shown(name: str) -> str:
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _stop(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}")
