"""`twofold forget SHA256`: remove one image for good.

Takes the SHA-256 of an image file and the project's folder. Removes the image from raw data, prepared data, cache and
reports, and returns a text that says what was done and what is left to do by hand.

Three things are only named if they are found: the file in the source folder, old versions in DVC's cache and remotes,
and MLflow's records. The command can be repeated.
"""

import contextlib
import mmap
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from twofold.core.artifacts import META, file_sha256, publish, read_csv, write_csv
from twofold.core.errors import DataError, ParameterError, TwofoldError, listed
from twofold.core.params import check_section
from twofold.core.progress import say
from twofold.data import raw as raw_data
from twofold.data.prepared import INDEX, LEFT_OUT, PreparedDataset
from twofold.data.raw import DUPLICATES, QUARANTINE, VERSIONS, Duplicate, QuarantinedFile, RawDataset, write_tables
from twofold.orchestration.params_file import load_yaml
from twofold.steps.preprocess import Preprocess, preprocess
from twofold.storage import cache

RAW, PREPARED, REPORTS = Path("data/raw"), Path("data/prepared"), Path("reports")
EVALUATION, REGISTRATION = REPORTS / "evaluation", REPORTS / "registration"
DVC, MLFLOW_FILES = Path(".dvc"), Path("mlartifacts")
_SHORT = 12  # digits of a SHA-256 by which reports name an image
_LISTED = 10


def forget(sha256: str, root: Path) -> str:
    """Remove an image from every artifact of a project, and say what was done and what is left to do.

    Raises:
        DataError: the text is not a SHA-256, or nothing holds that image.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise DataError(f"{sha256!r} is not a SHA-256: 64 digits 0-9 and a-f, as in {RAW}/manifest.parquet")
    duplicates = _find_duplicates(sha256, root)
    steps = (_rewrite_raw(sha256, root), _rewrite_prepared(sha256, root), _clean_cache(sha256, root))
    done = [line for line in steps if line] + _delete_reports(sha256, root)
    left = _find_rest(sha256, root, duplicates)
    if not done and not left:
        raise DataError(
            f"no image {sha256} in {root.resolve()}: not in data, cache, reports, DVC's cache or MLflow's files"
        )
    title = ["Removed:", *(f"  {line}" for line in done)] if done else ["Nothing left to remove here."]
    return "\n".join([*title, "Left for you to do:", *(f"  {line}" for line in [*left, *_next_commands(root)])])


def _find_duplicates(sha256: str, root: Path) -> list[str]:
    """The SHA-256 of other files with the same pixels."""
    if not (root / RAW / META).exists():
        return []
    images = RawDataset.open(root / RAW).images
    content = {image.content for image in images if image.sha256 == sha256}
    return [image.sha256 for image in images if image.content in content and image.sha256 != sha256]


def _rewrite_raw(sha256: str, root: Path) -> str:
    directory = root / RAW
    if not (directory / META).exists():
        return ""
    raw = RawDataset.open(directory)
    duplicates = [Duplicate(**row) for row in read_csv(directory / DUPLICATES)]
    quarantined = [QuarantinedFile(**row) for row in read_csv(directory / QUARANTINE)]
    own_keys = {image.key for image in raw.images if image.sha256 == sha256}
    if not own_keys and not any(sha256 in row for row in [*duplicates, *quarantined]):
        return ""
    with publish(directory) as draft:
        images = raw_data.copy_images(directory, draft, (image for image in raw.images if image.sha256 != sha256))
        if (directory / VERSIONS).exists():
            own_keys |= {row.key for row in duplicates if row.sha256 == sha256}
            versions = read_csv(directory / VERSIONS)
            rows = [(row["key"], row["version"]) for row in versions if row["key"] not in own_keys]
            write_csv(draft / VERSIONS, ("key", "version"), rows)
        write_tables(
            draft,
            images,
            [row for row in duplicates if sha256 not in row],
            [row for row in quarantined if sha256 not in row],
            labels=(raw.meta["labels"][0], raw.meta["labels"][1]),
            slices=raw.meta["slices"],
            params=raw.meta["params"],
        )
    return f"{RAW}: shards, manifest and lists written again without it"


def _rewrite_prepared(sha256: str, root: Path) -> str:
    """Make the prepared data again without the image; delete them if that is not possible."""
    directory = root / PREPARED
    if not any(holds(path, sha256) for path in (directory / INDEX, directory / LEFT_OUT) if path.exists()):
        return ""
    try:
        values = PreparedDataset.open(directory).meta["params"]
        # The data record every parameter except the policies, which only decide what is left out.
        section = load_yaml(root / "params.yaml").get("preprocess")
        policies = section.get("audit") if isinstance(section, dict) else None
        preprocess(
            check_section(Preprocess, "preprocess", values | {"audit": policies}),
            root / RAW,
            data=directory,
            metrics=root / REPORTS / "preprocess.json",
            audit=root / REPORTS / "audit" / "preprocess",
        )
    except TwofoldError as error:
        shutil.rmtree(directory)
        say(f"forget: {PREPARED} could not be made again without the image ({error})")
        return f"{PREPARED}: deleted; `twofold run` makes it again"
    return f"{PREPARED}: arrays, {INDEX} and statistics made again without it"


def _clean_cache(sha256: str, root: Path) -> str:
    with contextlib.chdir(root):  # the default cache is in the project's folder
        count = cache.forget_image(sha256)
    hint = "; if its bucket keeps old versions of objects, delete those" if "://" in cache.cache_address() else ""
    return f"cache: {count} entries{hint}" if count else ""


def _delete_reports(sha256: str, root: Path) -> list[str]:
    """Delete every report that lists or shows the image as a whole, because its metrics include the image."""
    audits = root / REPORTS / "audit"  # holds one report per step
    reports = {*(root / REPORTS).glob("*"), *audits.glob("*")} - {audits}
    found = {path for path in reports if any(holds(file, sha256) for file in _files(path))}
    # The decision page is made from the evaluation, and may show its images.
    if root / EVALUATION in found and (root / REGISTRATION).exists():
        found.add(root / REGISTRATION)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [f"{path.relative_to(root)}: deleted; `twofold run` makes it again" for path in sorted(found)]


def _find_rest(sha256: str, root: Path, duplicates: list[str]) -> list[str]:
    """Name everything that still holds the image and that this command does not delete."""
    lines: list[str] = []
    try:
        source = str(load_yaml(root / "params.yaml")["ingest"]["source"])
    except (ParameterError, KeyError, TypeError):
        source = ""
    if "://" in source:
        lines.append(f"delete the object with that SHA-256, and its old versions, if it is in {source}")
    elif source and (files := [path for path in _files(root / source) if file_sha256(path) == sha256]):
        lines.append("delete the source, and its row if there is a labels.csv; if a script or `dvc add` made that")
        lines += _list_files("folder, delete it there too, or it comes back with the next `twofold run`:", files, root)
    if duplicates:
        lines.append(f"other files show the same pixels; forget them too: {', '.join(duplicates)}")
    if cached := [path for path in _files(root / DVC / "cache") if holds(path, sha256)]:
        title = f"{len(cached)} files in DVC's cache hold it; prepared arrays there may hold it too:"
        lines += _list_files(title, cached, root)
    if recorded := [path for path in _files(root / MLFLOW_FILES) if holds(path, sha256)]:
        title = f"{len(recorded)} files that MLflow recorded list or show it; delete those runs (`mlflow gc`):"
        lines += _list_files(title, recorded, root)
    return lines


def _next_commands(root: Path) -> list[str]:
    lines = ["twofold run: makes the reports again, and trains without the image; until then, the old ones stay"]
    if (root / DVC).exists():
        lines += [
            "then dvc gc --workspace --force: drops old versions from DVC's cache, also of other branches, commits and",
            "  experiments; with a remote: dvc gc --workspace --cloud --force (-r NAME for each of them)",
        ]
    lines.append("decide about registered model versions that were trained with it, and about copies of any of this")
    return lines


def holds(path: Path, sha256: str) -> bool:
    """Whether a file is the image or contains its SHA-256: as a shard's member, in a table's column or in a text."""
    with path.open("rb") as stream:
        if stream.read(4) == b"PAR1":
            try:
                columns = pq.read_table(path, use_threads=False).to_pydict()
            except pa.ArrowException:
                return False
            return any(sha256 in values for values in columns.values())
        if stream.seek(0, os.SEEK_END):  # an empty file cannot be mapped
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(sha256[:_SHORT].encode()) >= 0:
                    return True
    return file_sha256(path) == sha256


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())


def _list_files(title: str, paths: list[Path], root: Path) -> list[str]:
    names = [str(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths]
    return listed(title, names, _LISTED).split("\n")
