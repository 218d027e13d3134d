"""`twofold predict MODEL PATH…`: a sealed model's prediction for each image, as rows.

Reads a model and paths: files, folders, globs, `s3://bucket/prefix` (also with `*`, `?` and `[…]`), `dvc+…`. Writes one
row per file, as JSON lines or CSV, in the order of the paths: path, label, probability (of the positive class),
threshold, version, error. A file that the model does not accept gets a row with the error and no prediction; only
systems' and editors' own files in a folder have no row.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache
from glob import glob, has_magic
from pathlib import Path
from typing import IO, NamedTuple

from twofold.core.artifacts import csv_writer
from twofold.core.drafts import draft
from twofold.core.errors import DataError, SourceError
from twofold.core.progress import say, track
from twofold.serving.image_loader import ImageFile, load_images
from twofold.serving.model_resolver import ResolvedModel, prepare_inference, resolve_model
from twofold.sources.labels import is_hidden, printable
from twofold.sources.layout_hints import HIDDEN
from twofold.sources.local_folder import FolderSource
from twofold.sources.unlabelled import list_unlabelled


class Answer(NamedTuple):
    """One row; `label` and `probability` are None if there is an `error`."""

    path: str
    label: str | None
    probability: float | None
    threshold: float
    version: str
    error: str | None


def predict(model: str, paths: Sequence[str], *, name: Callable[[], str], to: Path | None, as_csv: bool) -> int:
    """Predict every image and write the rows; return how many files have no prediction.

    A file appears only after its last row is written.

    Args:
        model, name: see `resolve_model`.
        paths: of the images, whose names may have any extension.
        to: the file to write; None is standard output, row by row.
        as_csv: CSV with a header instead of a JSON object per line.

    Raises:
        DataError: a path does not exist or contains no image.
        SourceError: a source failed while it was read.
        RegistryError, ArtifactError: the model is not available.
    """
    # Before the model is downloaded, so that a mistyped path fails at once.
    files = find_files(paths)
    counted = f"{len(files)} file{'' if len(files) == 1 else 's'}"
    with resolve_model(model, name) as resolved, _open_output(to) as stream:
        say(f"predict: {counted}, model {resolved.version}, seal {resolved.sealed.digest[:12]}")
        write, refused = _row_writer(stream, as_csv), 0
        rows = predict_files(resolved, files)
        # A progress bar among rows on one terminal would make both unreadable.
        rows_on_terminal = to is None and sys.stdout.isatty()
        for answer in rows if rows_on_terminal else track(rows, "predicting", len(files)):
            write(answer)
            refused += answer.error is not None
    say(f"predict: {counted}, {refused} of them without a prediction")
    return refused


def predict_files(resolved: ResolvedModel, files: Sequence[ImageFile]) -> Iterator[Answer]:
    """Yield one row per file, in order; computed in the model's precision on TWOFOLD_DEVICE."""
    sealed, version = resolved.sealed, resolved.version
    prepare_inference(sealed)
    for images in load_images(files, sealed.preprocessing):
        scores = iter(sealed.score(image.pixels for image in images if image.pixels is not None))
        for image in images:
            if image.pixels is None:
                yield Answer(image.name, None, None, sealed.threshold, version, image.reason)
            else:
                score = float(next(scores))
                label = sealed.labels[int(score >= sealed.threshold)]
                yield Answer(image.name, label, score, sealed.threshold, version, None)


def find_files(paths: Sequence[str]) -> list[ImageFile]:
    """Return the files of the paths, in the order of the paths and sorted within each.

    Raises:
        DataError: a path does not exist or contains no image.
    """
    files: list[ImageFile] = []
    for path in paths:
        is_remote = path.startswith("dvc+") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path)
        matches = _find_remote(path) if is_remote else _find_local(path)
        if not matches:
            raise DataError(f"{path}: no image found")
        files += matches
    return files


def _find_local(path: str) -> list[ImageFile]:
    if os.path.isdir(path):  # noqa: PTH112  (a Path would drop a trailing slash)
        return _list_folder(path)
    if os.path.lexists(path):
        return [_local_file(path)]
    if not has_magic(path):
        raise DataError(f"{path}: no such file or folder")
    files: list[ImageFile] = []
    for match in sorted(glob(path, recursive=True)):  # noqa: PTH207  (keeps the paths as the user wrote them)
        if os.path.isdir(match):  # noqa: PTH112
            # `parts/**` matches every folder below and also the files in it.
            files += [] if "**" in path else _list_folder(match)
        elif not is_hidden(Path(match).name):
            files.append(_local_file(match))
    return files


def _local_file(path: str) -> ImageFile:
    # A link that the user names is followed.
    target = Path(os.path.realpath(path))
    return ImageFile(printable(path), _folder_source(target.parent), target.name)


@lru_cache(maxsize=1)
def _folder_source(path: Path) -> FolderSource:
    # One source for all files of a folder, so that they are read as one task.
    return FolderSource(path)


def _list_folder(address: str) -> list[ImageFile]:
    found, name = list_unlabelled(address), address.rstrip("/") or "/"
    keys = [(key, "") for key, _ in found.images] + found.refused
    if found.ignored:
        say(f"predict: {name}: left aside {found.ignored} files and folders ({HIDDEN})")
    files = [ImageFile(printable(f"{name}/{key}"), found.source, key, reason) for key, reason in keys]
    return sorted(files, key=lambda file: file.name)


def _find_remote(address: str) -> list[ImageFile]:
    """List the files below a prefix; in S3 also those that match a pattern, or one object."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    is_pattern = address.startswith("s3://") and has_magic(key)
    try:
        if not is_pattern:
            return _list_folder(address)
    except SourceError as error:
        if not address.startswith("s3://") or not key or error.transient:
            raise  # otherwise it may be one object
    prefix = (re.split(r"[*?[]", key, maxsplit=1)[0] if is_pattern else key).rpartition("/")[0]
    try:
        files = _list_folder(f"s3://{bucket}/{prefix}".rstrip("/"))
    except SourceError as error:
        raise SourceError(f"{address}: {error}") from None
    # A key is not a path: `*` also matches slashes.
    return [file for file in files if file.name == address or (is_pattern and fnmatchcase(file.name, address))]


def _row_writer(stream: IO[str], as_csv: bool) -> Callable[[Answer], object]:
    if as_csv:
        write = csv_writer(stream)
        write(Answer._fields)
        return write
    return lambda answer: stream.write(json.dumps(answer._asdict(), ensure_ascii=False) + "\n")


@contextmanager
def _open_output(to: Path | None) -> Iterator[IO[str]]:
    if to is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    if to.is_dir() or not to.parent.is_dir():
        raise DataError(f"{to}: is a folder; name a file" if to.is_dir() else f"{to}: there is no folder {to.parent}")
    with draft(to) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, to)
