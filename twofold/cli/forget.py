"""Removing one image for good: `twofold forget SHA256`.

In: the SHA-256 of an image file, and the project's folder. Out: a project whose raw data, prepared data, memo and
reports no longer hold it, and a text that says what was done and what is left to do by hand.

Three things are not this command's to delete: the file in the source folder, the old versions that DVC keeps in its
cache and remotes, and what MLflow has recorded. Each of them is named as it is found. Run it as often as you like.
"""

import contextlib
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
from twofold.data.decoding import FORMATS
from twofold.data.prepared import INDEX, LEFT_OUT, PreparedDataset
from twofold.data.raw import DUPLICATES, QUARANTINE, VERSIONS, Duplicate, QuarantinedFile, RawDataset, write_tables
from twofold.data.shards import ShardWriter
from twofold.orchestration.params_file import load_yaml
from twofold.steps.preprocess import Preprocess, preprocess
from twofold.storage import cache

RAW, PREPARED, REPORTS = Path("data/raw"), Path("data/prepared"), Path("reports")
EVALUATION, REGISTRATION = REPORTS / "evaluation", REPORTS / "registration"
DVC, MLFLOW_FILES = Path(".dvc"), Path("mlartifacts")
_SHORT = 12  # digits of a SHA-256 by which reports name an image
_CHUNK = 1 << 20
_SHOWN = 10


def forget(sha256: str, root: Path) -> str:
    """Remove an image from every artifact in the project's usual places.

    Returns:
        What was done, and what is left to do.

    Raises:
        DataError: not a SHA-256, or nothing anywhere holds that image.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise DataError(f"{sha256!r} is not a SHA-256: 64 digits 0-9 and a-f, as in {RAW}/manifest.parquet")
    twins = _twins(sha256, root)
    done = [line for line in (_raw(sha256, root), _prepared(sha256, root), _memo(sha256, root)) if line]
    done += _reports(sha256, root)
    left = _left(sha256, root, twins)
    if not done and not left:
        raise DataError(
            f"no image {sha256} in {root.resolve()}: not in data, memo, reports, DVC's cache or MLflow's files"
        )
    title = ["Removed:", *(f"  {line}" for line in done)] if done else ["Nothing left to remove here."]
    return "\n".join([*title, "Left for you to do:", *(f"  {line}" for line in [*left, *_always(root)])])


def _twins(sha256: str, root: Path) -> list[str]:
    """The SHA-256 of other files that show the same pixels."""
    if not (root / RAW / META).exists():
        return []
    images = RawDataset.open(root / RAW).images
    content = {image.content for image in images if image.sha256 == sha256}
    return [image.sha256 for image in images if image.content in content and image.sha256 != sha256]


def _raw(sha256: str, root: Path) -> str:
    """Write the shards and tables again without the image."""
    directory = root / RAW
    if not (directory / META).exists():
        return ""
    raw = RawDataset.open(directory)
    duplicates = [Duplicate(**row) for row in read_csv(directory / DUPLICATES)]
    quarantined = [QuarantinedFile(**row) for row in read_csv(directory / QUARANTINE)]
    listed = [item for item in [*duplicates, *quarantined] if sha256 in item]
    if not listed and all(image.sha256 != sha256 for image in raw.images):
        return ""
    images = []
    with publish(directory) as draft:
        shards = ShardWriter(draft)
        for image in sorted(raw.images, key=lambda image: (image.shard, image.offset)):
            if image.sha256 != sha256:
                shard, offset = shards.add(f"{image.sha256}.{FORMATS[image.format]}", raw.read(image))
                images.append(image._replace(shard=shard, offset=offset))
        shards.close()
        if (directory / VERSIONS).exists():
            gone = {image.key for image in raw.images if image.sha256 == sha256}
            gone |= {item.key for item in duplicates if item.sha256 == sha256}
            rows = [(row["key"], row["version"]) for row in read_csv(directory / VERSIONS) if row["key"] not in gone]
            write_csv(draft / VERSIONS, ("key", "version"), rows)
        write_tables(
            draft,
            images,
            [item for item in duplicates if sha256 not in item],
            [item for item in quarantined if sha256 not in item],
            labels=(raw.meta["labels"][0], raw.meta["labels"][1]),
            slices=raw.meta["slices"],
            params=raw.meta["params"],
        )
    return f"{RAW}: shards, manifest and lists written again without it"


def _prepared(sha256: str, root: Path) -> str:
    """Make the prepared data again without the image; if that is not possible, remove them."""
    directory = root / PREPARED
    if not (directory / META).exists():
        return ""
    prepared = PreparedDataset.open(directory)
    left_out = read_csv(directory / LEFT_OUT)
    if sha256 not in prepared.sha256 and not any(sha256 in row.values() for row in left_out):
        return ""
    values = prepared.meta["params"]
    del prepared
    try:
        # The data says all but the policies, which shape it only by what they leave out.
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
        return f"{PREPARED}: deleted; `dvc repro` makes it again"
    return f"{PREPARED}: arrays, {INDEX} and statistics made again without it"


def _memo(sha256: str, root: Path) -> str:
    with contextlib.chdir(root):  # the memo's usual place is below the project's folder
        count = cache.forget_image(sha256)
    shared = (
        "; if its bucket keeps old versions of objects, those are yours to delete"
        if "://" in cache.cache_address()
        else ""
    )
    return f"memo: {count} entries{shared}" if count else ""


def _reports(sha256: str, root: Path) -> list[str]:
    """Delete every report that lists or shows the image, whole: its figures were made with it."""
    # Each step's audit is a report of its own.
    reports = [*(root / REPORTS).glob("*"), *(root / REPORTS / "audit").glob("*")]
    reports = sorted(path for path in reports if path != root / REPORTS / "audit")
    found = [path for path in reports if any(holds(file, sha256) for file in _files(path))]
    # The page on which a team decides is made from the evaluation, and may show its pictures.
    if root / EVALUATION in found and (root / REGISTRATION).exists():
        found = sorted({*found, root / REGISTRATION})
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [f"{path.relative_to(root)}: deleted; `dvc repro` makes it again" for path in found]


def _left(sha256: str, root: Path, twins: list[str]) -> list[str]:
    """What still holds the image, outside this command's reach."""
    lines: list[str] = []
    source = _source(root)
    given = [path for path in _files(source) if file_sha256(path) == sha256] if source else []
    if given:
        lines.append("delete the source, and its row if there is a labels.csv; if a script or `dvc add` made that")
        lines += _shown("folder, delete it there too, or it comes back with the next `dvc repro`:", given, root)
    if source is None and (address := _address(root)):
        lines.append(f"delete the object with that SHA-256, and its old versions, if it lies in {address}")
    if twins:
        lines.append(f"other files show the same pixels; forget them too: {', '.join(twins)}")
    cached = [path for path in _files(root / DVC / "cache") if holds(path, sha256)]
    if cached:
        title = f"{len(cached)} files in DVC's cache hold it, beside prepared arrays, which cannot be told apart:"
        lines += _shown(title, cached, root)
    recorded = [path for path in _files(root / MLFLOW_FILES) if holds(path, sha256)]
    if recorded:
        title = f"{len(recorded)} files that MLflow recorded list or show it; delete those runs (`mlflow gc`):"
        lines += _shown(title, recorded, root)
    return lines


def _always(root: Path) -> list[str]:
    lines = ["dvc repro: makes the reports again, and trains models that never saw it; until then the old ones have"]
    if (root / DVC).exists():
        lines += [
            "then dvc gc --workspace --force: drops old versions from DVC's cache, those of other branches, commits",
            "  and experiments as well; with a remote: dvc gc --workspace --cloud --force (-r NAME for each of them)",
        ]
    lines.append(
        "registered model versions that were trained with it, and copies made of any of this, are yours to judge"
    )
    return lines


def holds(path: Path, sha256: str) -> bool:
    """Whether a file is the image, or names it: as a shard's member, in a table's column, in a text."""
    with path.open("rb") as stream:
        if stream.read(4) == b"PAR1":
            return _in_table(path, sha256)
        stream.seek(0)
        name = sha256[:_SHORT].encode()
        tail = b""
        while block := stream.read(_CHUNK):
            if name in tail + block:
                return True
            tail = block[-_SHORT:]
    return file_sha256(path) == sha256


def _in_table(path: Path, sha256: str) -> bool:
    try:
        columns = pq.read_table(path, use_threads=False).to_pydict()
    except pa.ArrowException:
        return False
    return any(sha256 in values for values in columns.values())


def _source(root: Path) -> Path | None:
    """The folder that ingest reads; None if params.yaml names none."""
    address = _address(root)
    return root / address if address and "://" not in address else None


def _address(root: Path) -> str:
    try:
        return str(load_yaml(root / "params.yaml")["ingest"]["source"])
    except (ParameterError, KeyError, TypeError):
        return ""


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())


def _shown(title: str, paths: list[Path], root: Path) -> list[str]:
    names = [str(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths]
    return listed(title, names, _SHOWN).split("\n")
