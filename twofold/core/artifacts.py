"""Artifacts of a step: atomic publication of files and folders, `meta.json`, digests, and CSV files."""

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, Any

from twofold.core.drafts import draft
from twofold.core.errors import ArtifactError

META = "meta.json"
# Where a text begins that a spreadsheet would run (OWASP, "CSV Injection"), numbers aside; and with an apostrophe.
_FORMULA = re.compile(r"\A(?![+-]?[\d.]+(e[+-]?\d+)?\Z)(?=['\s]*[=+\-@\uff1d\uff0b\uff0d\uff20])")
_ESCAPED = re.compile(rf"\A'{_FORMULA.pattern[2:]}")


@contextmanager
def publish(directory: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; rename it to `directory` on success, remove it on failure."""
    with draft(directory) as temporary:
        temporary.mkdir()
        yield temporary
        for path in sorted(temporary.rglob("*")):
            if path.is_file():
                # safetensors makes files readable by their owner only; a later step may run as another user.
                path.chmod(path.stat().st_mode | (temporary.stat().st_mode & 0o444))
                _sync(path)
        old = temporary.with_name(f"{temporary.name}.old")
        if directory.is_dir() and not directory.is_symlink():
            directory.rename(old)
        else:
            directory.unlink(missing_ok=True)
        temporary.rename(directory)
        shutil.rmtree(old, ignore_errors=True)
        _sync(directory.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: temporary file, fsync, rename."""
    with draft(path) as temporary:
        temporary.write_bytes(data)
        _sync(temporary)
        os.replace(temporary, path)


def write_all(stream: FileIO, data: bytes | memoryview) -> None:
    """Write all bytes to an unbuffered file; one call of its `write` may write fewer, for example on a full disk."""
    remaining = memoryview(data).cast("B")
    while remaining:
        remaining = remaining[stream.write(remaining) :]


def write_json(path: Path, value: Mapping[str, Any], *, sort_keys: bool = True) -> None:
    """Write JSON, by default with sorted keys; raise ArtifactError if a value is NaN or infinite."""
    try:
        text = json.dumps(value, indent=2, sort_keys=sort_keys, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}; NaN and infinity are not allowed in a result") from None
    write_bytes(path, (text + "\n").encode())


def write_meta(directory: Path, kind: str, version: int, **values: Any) -> None:
    """Write an artifact's meta.json: its kind, its schema version, and the values that later steps need."""
    write_json(directory / META, {"kind": kind, "schema_version": version, **values})


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raise ArtifactError if the file is missing or holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file; has the step that writes it run?") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ArtifactError(f"{path}: must be a JSON object, found {type(value).__name__}")
    return value


def read_meta(directory: Path, kind: str, version: int) -> dict[str, Any]:
    """Read meta.json; raise ArtifactError if its kind or schema version is not the expected one."""
    meta = read_json(directory / META)
    found = (meta.get("kind"), meta.get("schema_version"))
    if found != (kind, version):
        raise ArtifactError(
            f"{directory / META}: kind and schema version are {found}, expected {(kind, version)}; "
            "make this artifact again with this version of twofold: `twofold run`"
        )
    return meta


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of an artifact: a file's bytes, or a folder's sorted (relative path, SHA-256) lines."""
    if path.is_file():
        return file_sha256(path)
    if not path.is_dir():
        raise ArtifactError(f"{path}: no such file or folder")
    files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    lines = "".join(f"{name}\0{file_sha256(path / name)}\n" for name in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file with a header, for people and for `read_csv`."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        write = csv_writer(stream)
        for row in (header, *rows):
            write(row)


def csv_writer(stream: IO[str]) -> Callable[[Iterable[Any]], object]:
    """Return a function that writes a row of CSV, which ends with a line feed alone; None becomes an empty cell.

    A text that a spreadsheet would run as a formula begins with an apostrophe, which `read_csv` removes.
    """
    table = csv.writer(stream, lineterminator="\n")
    return lambda row: table.writerow([_FORMULA.sub("'", cell) if isinstance(cell, str) else cell for cell in row])


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read the rows of a CSV file as {column: text}; raise ArtifactError if the file cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return [{_text(key): _text(cell) for key, cell in row.items()} for row in csv.DictReader(stream)]
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}") from None


def _text(cell: Any) -> Any:
    return _ESCAPED.sub("", cell) if isinstance(cell, str) else cell


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
