"""What a source offers, and how labels are found in it: by its folders, or by a `labels.csv`.

In: the keys of the files that lie in a source, with slashes, and the bytes of its `labels.csv` if there is one. Out:
the images on offer, sorted by key, and what lies beside them. Where the files are (a folder, a bucket) is not known
here.

- With a `labels.csv` (UTF-8, comma-separated, a header): columns `path` (relative to where it lies) and `label`;
  optional `group` (images that must stay in one split: a patient, a module) and `split` (train, validation, test; in
  every row or in none); every other column is a slice, by which results are shown apart. Empty means none.
- Without: every file under `<class>/`, however deep, whose name ends in an accepted extension, in any case.
"""

import csv
import io
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath

from twofold.core.errors import DataError, listed
from twofold.sources.base import Entry, FetchedFile, IgnoredFile, Listing

LABELS = "labels.csv"
LARGEST_TABLE = 1 << 28  # bytes of it
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLITS = ("train", "validation", "test")
# Pictures that their owner would miss; other files beside images (notes, sidecars) are no loss.
_OTHER_PICTURES = (".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".dcm", ".dng", ".cr2", ".nef", ".arw", ".svg")
# Why an image is not on offer where labels are asked for.
OUTSIDE, UNNAMED = "an image outside every class folder", f"not named in {LABELS}"
_PROBLEMS_SHOWN = 10


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left aside without a word."""
    return name.startswith(".") or name == "__MACOSX"


def printable(name: str) -> str:
    """A name for people to read, whatever it holds."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def list_labelled(
    name: str,
    keys: Collection[str],
    ignored: Sequence[IgnoredFile],
    table: Callable[[], FetchedFile],
    problem_of: Callable[[str], str | None],
) -> Listing:
    """By `labels.csv` if there is one among the keys, else by folders.

    Args:
        name: the source's.
        keys: of the files that lie in it.
        aside: what is not on offer in any case.
        table: fetches `labels.csv`, at most `LARGEST_TABLE` bytes of it.
        problem_of: why a key may not be read, if so.

    Raises:
        DataError: the table is too large, or every wrong row of it, named by its line.
    """
    files = [key for key in keys if key != LABELS]
    if LABELS not in keys:
        return from_classes(files, ignored)
    content = table()
    if content.reason:
        raise DataError(f"{name}/{LABELS}: {content.reason}")
    return from_table(f"{name}/{LABELS}", content.data, files, ignored, problem_of)


def from_classes(files: Sequence[str], ignored: Sequence[IgnoredFile]) -> Listing:
    """By folders: the first part of a key is its label."""
    entries: list[Entry] = []
    beside = list(ignored)
    for key in files:
        parts = PurePosixPath(key).parts
        kind = PurePosixPath(key).suffix.lower()
        label = parts[0] if len(parts) > 1 else ""
        if kind in EXTENSIONS and label:
            entries.append(Entry(key, label, None, None, ()))
        elif kind in EXTENSIONS:
            beside.append(IgnoredFile(key, "", OUTSIDE, True))
        else:
            pictures = ", ".join(EXTENSIONS)
            beside.append(IgnoredFile(key, label, f"the extension is not one of {pictures}", kind in _OTHER_PICTURES))
    return Listing(sorted(entries), sorted(beside), ())


def from_table(
    table: str,
    content: bytes,
    files: Collection[str],
    ignored: Sequence[IgnoredFile],
    problem_of: Callable[[str], str | None],
) -> Listing:
    """By `labels.csv`.

    Args:
        table: its name in errors.
        content: its bytes.
        files: the keys that lie in the source.
        aside: what is not on offer in any case.
        problem_of: why a key may not be read, if so.

    Raises:
        DataError: every wrong row, named by its line.
    """
    rows, slices = _read_table(table, content)
    problems: list[str] = []
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    for line, row in rows:
        key, problem = _key(row["path"], problem_of)
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
        raise DataError(listed(f"{table}: {len(problems)} problems", problems, _PROBLEMS_SHOWN))
    unlisted = [key for key in files if key not in entries and PurePosixPath(key).suffix.lower() in EXTENSIONS]
    beside = [item._replace(counts=False) for item in ignored if PurePosixPath(item.key).suffix.lower() in EXTENSIONS]
    beside += [IgnoredFile(key, "", UNNAMED, False) for key in unlisted]
    return Listing(sorted(entries.values()), sorted(beside), slices)


def _key(text: str, problem_of: Callable[[str], str | None]) -> tuple[str, str | None]:
    if not text or "\0" in text or not text.isprintable():
        return text, f"path {text!r} is empty or not printable"
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        return text, f"path {text!r} leaves the folder; write it relative to the folder that holds {LABELS}"
    key = path.as_posix()
    problem = problem_of(key)
    if problem is not None:
        return key, f"path {text!r}: {problem}"
    if path.suffix.lower() not in EXTENSIONS:
        return key, f"path {text!r}: the extension must be one of {', '.join(EXTENSIONS)}"
    return key, None


def _read_table(table: str, content: bytes) -> tuple[list[tuple[int, dict[str, str]]], tuple[str, ...]]:
    """The rows of a `labels.csv` with their line numbers, and the names of its slice columns."""
    rows: list[tuple[int, dict[str, str]]] = []
    problems: list[str] = []
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
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
        raise DataError(listed(f"{table}: {len(problems)} problems", problems, _PROBLEMS_SHOWN))
    return rows, tuple(sorted(name for name in header if name not in ("path", "label", "group", "split")))


def _check_header(table: str, header: list[str]) -> None:
    missing = [name for name in ("path", "label") if name not in header]
    if missing:
        raise DataError(f"{table}: line 1: no column {' and '.join(missing)}; found {', '.join(header) or 'nothing'}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice or "" in header:
        raise DataError(f"{table}: line 1: column names must differ and not be empty; found {', '.join(header)}")
