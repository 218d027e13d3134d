"""`twofold predict MODEL PATH…`: a sealed model's answer for every image, as rows.

In: a model, and paths: files, folders, globs, `s3://bucket/prefix` (with `*`, `?` and `[…]` too), `dvc+…`. Out: a row
an image, as JSON lines or CSV, in the order of the paths: path, label, probability (of the positive class),
threshold, version, error. A file that is no image the model accepts is a row with the error and without an answer.
"""

import csv
import json
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache
from glob import glob, has_magic
from pathlib import Path
from typing import IO, NamedTuple

from twofold.core.errors import DataError, SourceError
from twofold.core.progress import say, track
from twofold.serving.image_loader import ImageFile, load_images
from twofold.serving.model_resolver import ResolvedModel, resolve_model
from twofold.sources.labels import EXTENSIONS, printable
from twofold.sources.local_folder import FolderSource
from twofold.sources.unlabelled import list_unlabelled


class Answer(NamedTuple):
    """One row: `label` and `probability` are None where `error` says why there is no answer."""

    path: str
    label: str | None
    probability: float | None
    threshold: float
    version: str
    error: str | None


class Count(NamedTuple):
    """How many files there were, and how many of them have an error for an answer."""

    files: int
    refused: int


def predict(model: str, paths: Sequence[str], *, name: Callable[[], str], to: Path | None, as_csv: bool) -> Count:
    """Answer for every image and write the rows, to a file whole or not at all.

    Args:
        model: as `twofold.serving.model_resolver` takes it.
        paths: where the images are; what a file is, if named itself, its content decides.
        name: gives the name of the registered model, where `model` names none.
        to: the file to write; None is standard output, row by row.
        as_csv: CSV with a header, else a JSON object a line.

    Raises:
        DataError: a path leads to nothing, or to no image.
        SourceError: a source failed while it was read.
        RegistryError, ArtifactError: the model cannot be had.
    """
    # Before the model is fetched: a mistyped path shall not wait for it.
    files = find_files(paths)
    with resolve_model(model, name) as chosen, _output(to) as stream:
        say(f"predict: {len(files)} files, model {chosen.version}, seal {chosen.sealed.digest[:12]}")
        write, refused = _writer(stream, as_csv), 0
        rows = predict_files(chosen, files)
        # A bar among rows on one terminal would make both unreadable.
        mixed = to is None and sys.stdout.isatty()
        for answer in rows if mixed else track(rows, "predicting", len(files)):
            write(answer)
            refused += answer.error is not None
    say(f"predict: {len(files)} files, {refused} of them without an answer")
    return Count(len(files), refused)


def predict_files(chosen: ResolvedModel, files: Sequence[ImageFile]) -> Iterator[Answer]:
    """One answer a file, in their order; computed in the model's precision on TWOFOLD_DEVICE."""
    from twofold.model.device import device, make_deterministic, warn_if_emulated

    make_deterministic()
    sealed, version = chosen.sealed, chosen.version
    warn_if_emulated(sealed.precision, device())
    sealed.classifier.to(device())
    for some in load_images(files, sealed.preprocessing):
        scores = iter(sealed.score(one.pixels for one in some if one.pixels is not None))
        for one in some:
            if one.pixels is None:
                yield Answer(one.name, None, None, sealed.threshold, version, one.reason)
            else:
                score = float(next(scores))
                label = sealed.labels[int(score >= sealed.threshold)]
                yield Answer(one.name, label, score, sealed.threshold, version, None)


def find_files(paths: Sequence[str]) -> list[ImageFile]:
    """The files behind the paths, in the order of the paths and sorted within each.

    Raises:
        DataError: one leads to nothing; none leads to an image.
    """
    files: list[ImageFile] = []
    for path in paths:
        some = _remote(path) if _is_remote(path) else _local(path)
        if not some:
            raise DataError(f"{path}: no image lies there ({', '.join(EXTENSIONS)})")
        files += some
    return files


def _is_remote(path: str) -> bool:
    return path.startswith("dvc+") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def _local(path: str) -> list[ImageFile]:
    if os.path.isdir(path):  # noqa: PTH112  (a Path would drop a trailing slash)
        return _below(path, path.rstrip("/") or "/")
    if os.path.lexists(path):
        return [_file(path)]
    if not has_magic(path):
        raise DataError(f"{path}: no such file or folder")
    matches = sorted(glob(path, recursive=True))  # noqa: PTH207  (the paths as they were asked for)
    files: list[ImageFile] = []
    for match in matches:
        if os.path.isdir(match):  # noqa: PTH112
            # `parts/**` names every folder below too, whose files it names as well.
            files += [] if "**" in path else _below(match, match.rstrip("/"))
        elif match.lower().endswith(EXTENSIONS):
            files.append(_file(match))
    return files


def _file(path: str) -> ImageFile:
    # Links are followed: who names a file means it.
    real = Path(os.path.realpath(path))
    return ImageFile(printable(path), _folder(real.parent), real.name)


@lru_cache(maxsize=1)
def _folder(path: Path) -> FolderSource:
    # One for all files of a folder, which are then read together.
    return FolderSource(path)


def _below(address: str, name: str) -> list[ImageFile]:
    listed = list_unlabelled(address)
    files = [ImageFile(printable(f"{name}/{key}"), listed.source, key) for key, _ in listed.images]
    files += [ImageFile(printable(f"{name}/{key}"), listed.source, key, reason) for key, reason in listed.refused]
    if listed.ignored:
        say(f"predict: {name}: {listed.ignored} other files are left aside")
    return sorted(files, key=lambda file: file.name)


def _remote(address: str) -> list[ImageFile]:
    """What lies below a prefix; of S3 also what matches a pattern, or one object."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    single = key.lower().endswith(EXTENSIONS)
    if not address.startswith("s3://") or not (has_magic(key) or single):
        return _below(address, address.rstrip("/"))
    fixed = re.split(r"[*?[]", key, maxsplit=1)[0] if has_magic(key) else key
    prefix = fixed.rpartition("/")[0]
    place = f"s3://{bucket}/{prefix}".rstrip("/")
    try:
        files = _below(place, place)
    except SourceError as error:
        raise SourceError(f"{address}: {error}") from None
    whole = f"s3://{bucket}/{key}"
    # A key is no path: `*` stands for slashes too.
    return [file for file in files if file.name == whole or (has_magic(key) and fnmatchcase(file.name, whole))]


def _writer(stream: IO[str], as_csv: bool) -> Callable[[Answer], object]:
    if as_csv:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(Answer._fields)
        return lambda answer: table.writerow(answer)  # None is an empty cell
    return lambda answer: stream.write(json.dumps(answer._asdict(), ensure_ascii=False) + "\n")


@contextmanager
def _output(to: Path | None) -> Iterator[IO[str]]:
    if to is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    if to.is_dir() or not to.parent.is_dir():
        raise DataError(f"{to}: is a folder; name a file" if to.is_dir() else f"{to}: there is no folder {to.parent}")
    draft = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}")
    try:
        with draft.open("w", encoding="utf-8", newline="") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, to)
    except OSError as error:
        raise DataError(f"{to}: cannot be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
