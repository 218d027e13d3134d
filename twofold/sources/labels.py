"""Finds the labels of a source's files, in its class folders or in its `labels.csv`.

The input is the keys of the files, with slashes, and the bytes of `labels.csv` if there is one; the output is a
`Listing`. This module does not know where the files are (a folder, a bucket).

- With a `labels.csv` (UTF-8, comma-separated, a header): columns `path` (relative to the file itself) and `label`;
  optional `group` (images that must stay in one split: a patient, a module) and `split` (train, validation, test; in
  every row or in none); every other column is a slice, for which results are reported separately. Empty means none.
  A path that no file has names the one file that looks the same (another Unicode form, a zero-width space).
- Without: every file below `<class>/`, at any depth. If all folders are named like splits (`train`, `val`, `test`…) and
  hold the same class folders, every file below `<split>/<class>/`, in that split.

Only its content decides whether a file is an image, so a listing offers files of any name; systems' and editors' own
files (`is_hidden`) are the exception.
"""

import csv
import functools
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from twofold.core.errors import DataError, listed
from twofold.core.names import normalize_name, spelled
from twofold.sources.base import Entry, FetchedFile, IgnoredFile, Listing

LABELS = "labels.csv"
LARGEST_TABLE = 1 << 28  # bytes
SPLITS = ("train", "validation", "test")
# The names that people give to splits, in any case.
SPLIT_NAMES = {name: name for name in SPLITS} | {"training": "train", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("val", "valid"), "validation")
# Files and folders that systems, editors and DVC create beside images, in any case.
_HIDDEN = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found", "icon\r"}
_HIDDEN |= {"thumbs.db", "ehthumbs.db", "desktop.ini", "dvc.yaml", "dvc.lock"}
# Reasons why a file is not offered to a step that needs labels.
OUTSIDE, UNNAMED = "outside every class folder", f"not named in {LABELS}"
_PROBLEMS_SHOWN = 10


def is_hidden(name: str) -> bool:
    """Return whether files and folders of this name are a system's or an editor's own, and are not offered."""
    return name.startswith((".", "~$")) or name.endswith(("~", ".dvc")) or name.casefold() in _HIDDEN


def hidden_path(key: str) -> str:
    """Return the path of the first hidden file or folder on the way to a key, or nothing."""
    parts = key.split("/")
    return next(("/".join(parts[: n + 1]) for n, part in enumerate(parts) if is_hidden(part)), "")


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return the names by what is left of them without case, accents' spellings, backslashes and extensions."""
    plain = {normalize_name(name.replace("\\", "/")).casefold(): name for name in names}
    return {key.rpartition(".")[0]: name for key, name in plain.items() if "." in key} | plain


def did_you_mean(name: str, near: Mapping[str, str]) -> str:
    """Return the part of an error that names the one of `plain_names` which is nearly this name, or nothing."""
    found = next((near[key] for key in reversed(plain_names([name])) if key in near), name)
    return "" if found == name else f"; did you mean {found!r}?"


def printable(name: str) -> str:
    """Return a name with unprintable characters escaped."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def refuse_name(key: str, reason: str) -> IgnoredFile:
    """Return the record of a file that is refused because of its name."""
    names = [printable(name) for name in key.split("/")]
    return IgnoredFile("/".join(names), names[0] if len(names) > 1 else "", reason, True)


def list_labelled(
    name: str,
    keys: Collection[str],
    ignored: Sequence[IgnoredFile],
    read_table: Callable[[int], FetchedFile],
    problem_of: Callable[[str], str | None],
) -> Listing:
    """Label the files by `labels.csv` if it is one of the keys, otherwise by folders.

    Args:
        name: the source's name, for errors.
        keys: of the files in the source; hidden ones are left aside.
        ignored: files that are not offered in any case.
        read_table: reads `labels.csv`, at most the given number of bytes and one more.
        problem_of: returns why a key must not be read, or None.

    Raises:
        DataError: the table is too large or has wrong rows, each named by its line.
    """
    aside = {key: path for key in keys if (path := hidden_path(key))}
    hidden = sorted({printable(path) for path in aside.values()})
    files = [key for key in keys if key != LABELS and key not in aside]
    if LABELS not in keys:
        return _label_by_folder(files, ignored)._replace(hidden=hidden)
    table = f"{name}/{LABELS}"
    content = read_table(LARGEST_TABLE)
    if content.reason or len(content.data) > LARGEST_TABLE:
        raise DataError(f"{table}: {content.reason or f'more than {LARGEST_TABLE} bytes'}")
    return _label_by_table(table, content.data, files, ignored, problem_of)._replace(hidden=hidden)


def split_folders(keys: Iterable[str]) -> dict[str, list[str]]:
    """Return the class folders in each folder at the top; nothing unless all of these are named like splits."""
    found: dict[str, set[str]] = {}
    for key in keys:
        top, *below = key.split("/")
        if below:
            found.setdefault(top, set()).update(map(normalize_name, below[:-1][:1]))
    splits = {SPLIT_NAMES.get(top.casefold()) for top in found}
    return {} if None in splits or len(splits) < 2 else {top: sorted(found[top]) for top in sorted(found)}


def _label_by_folder(files: Sequence[str], ignored: Sequence[IgnoredFile]) -> Listing:
    entries: list[Entry] = []
    others = list(ignored)
    classes = [*split_folders(files).values()]
    depth = 1 if classes and classes[0] and all(names == classes[0] for names in classes) else 0
    for key in files:
        folders = key.split("/")[:-1]
        if len(folders) > depth:
            split = SPLIT_NAMES[folders[0].casefold()] if depth else None
            entries.append(Entry(key, normalize_name(folders[depth]), None, split, ()))
        else:
            others.append(IgnoredFile(key, "", OUTSIDE, True))
    return Listing(sorted(entries), sorted(others), ())


def _label_by_table(
    table: str,
    content: bytes,
    files: Sequence[str],
    ignored: Sequence[IgnoredFile],
    problem_of: Callable[[str], str | None],
) -> Listing:
    rows, slices = _read_table(table, content)
    problems: list[str] = []
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    known = set(files)

    @functools.cache
    def alike() -> dict[str, str]:  # of a million files only if a path is not as it is written
        counts = Counter(map(normalize_name, files))
        return {name: key for key in files if counts[name := normalize_name(key)] == 1}

    near = functools.cache(lambda: plain_names(files))
    for line, row in rows:
        path = row["path"] if row["path"] in known else alike().get(normalize_name(row["path"]), row["path"])
        key, problem = _check_path(path, problem_of)
        if problem is not None:
            problem += did_you_mean(key, near()) or ("; write it with slashes" if "\\" in key else "")
        if problem is None and not row["label"]:
            problem = "the label is empty"
        if problem is None and key in lines:
            problem = f"{key} is already in line {lines[key]}"
        if problem is None and (row.get("split") or SPLITS[0]) not in SPLITS:
            problem = f"split {row['split']!r}; allowed are {', '.join(SPLITS)}"
            problem += did_you_mean(row["split"], SPLIT_NAMES)
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
    _raise_problems(table, problems)
    others = [item._replace(counts=False) for item in ignored]
    others += [IgnoredFile(key, "", UNNAMED, False) for key in files if key not in entries]
    return Listing(sorted(entries.values()), sorted(others), slices)


def _check_path(text: str, problem_of: Callable[[str], str | None]) -> tuple[str, str | None]:
    """Return the key that a row's path names, and what is wrong with it, or None."""
    if not text or "\0" in text or not text.isprintable():
        return text, f"path {text!r} is empty or not printable"
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        return text, f"path {text!r} leaves the folder; write it relative to the folder that holds {LABELS}"
    key = path.as_posix()
    problem = problem_of(key)
    return key, f"path {spelled(text)}: {problem}" if problem is not None else None


def _read_table(table: str, content: bytes) -> tuple[list[tuple[int, dict[str, str]]], tuple[str, ...]]:
    """Return the rows of a `labels.csv` with their line numbers, and the names of its slice columns."""
    rows: list[tuple[int, dict[str, str]]] = []
    problems: list[str] = []
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        header = [normalize_name(name) for name in next(reader, [])]
        _check_header(table, header)
        for cells in reader:
            if len(cells) == len(header):
                row = {name: normalize_name(cell) for name, cell in zip(header, cells, strict=True)}
                rows.append((reader.line_num, row | {"path": cells[header.index("path")].strip()}))
            elif cells:
                problems.append(f"line {reader.line_num}: {len(cells)} cells, the header has {len(header)}")
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{table}: line {reader.line_num}: not CSV: {error}") from None
    _raise_problems(table, problems)
    return rows, tuple(sorted(name for name in header if name not in ("path", "label", "group", "split")))


def _check_header(table: str, header: list[str]) -> None:
    missing = [name for name in ("path", "label") if name not in header]
    if missing:
        hint = "; write them in lower case" if {name.casefold() for name in header}.issuperset(missing) else ""
        hint = "; separate columns by commas" if re.search(r"[;\t|]", "".join(header)) else hint
        found = ", ".join(header) or "nothing"
        raise DataError(f"{table}: line 1: no column {' and '.join(missing)}; found {found}{hint}")
    if len(set(header)) < len(header) or "" in header:
        raise DataError(f"{table}: line 1: column names must differ and not be empty; found {', '.join(header)}")


def _raise_problems(table: str, problems: Sequence[str]) -> None:
    if problems:
        raise DataError(listed(f"{table}: {len(problems)} problems", problems, _PROBLEMS_SHOWN))
