"""Names, folders and links as people and systems make them: the outcome of each, as docs/reference/images.md lists it.

`test_hostile_names.py` holds the names that are made to do harm.
"""

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.hostile_cases import archive
from tests.support.hostile_images import several
from tests.support.makers import encode, make_folder, make_raw, pixels, write_labels
from twofold.core.artifacts import read_csv
from twofold.core.errors import DataError
from twofold.data.raw import RawDataset
from twofold.sources.local_folder import FolderSource

DOCS = Path("docs/reference/images.md")
OBJECT = "files/md5/ab/" + "0" * 30
TEXT = b"some words\n"
ACCEPTED, ASIDE = "accepted", "left aside"
FORMAT, LEAVES = "refused: not an image of an accepted format", "refused: a symbolic link that leaves the folder"
OUTSIDE = "refused: outside every class folder"
Plant = Callable[[Path], object]


def picture(kind: str = "JPEG", seed: int = 99) -> bytes:
    return encode(pixels(np.random.default_rng(seed), 24, True), kind)


def file(name: str, data: bytes | None = None) -> Plant:
    """Write a file below the source, with the folders above it; an image unless there are other data."""

    def plant(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture() if data is None else data)

    return plant


def linked(target: str, at: str = OBJECT) -> Plant:
    """Create an image in a cache beside the source, and the link `bad/link.png` to a path in it."""

    def plant(root: Path) -> None:
        file(f"cache/{at}")(root.parent)
        (root / "bad" / "link.png").symlink_to(root.parent / "cache" / target)

    return plant


def both(*plants: Plant) -> Plant:
    return lambda root: [plant(root) for plant in plants]


def configured(where: str) -> Plant:
    """Write a DVC configuration that names the cache beside the source."""
    return lambda root: file(where, f"[cache]\n    dir = {root.parent / 'cache'}\n".encode())(root.parent)


PROJECT, USER = configured("project/.dvc/config"), configured("user/config")
# case -> (function that creates it, the key that it is about, its outcome)
FILES = {
    "`a.jfif`, a JPEG": (file("bad/a.jfif"), "bad/a.jfif", ACCEPTED),
    "`a.jpe`, a JPEG": (file("bad/a.jpe"), "bad/a.jpe", ACCEPTED),
    "`a.mpo`, an MPO": (file("bad/a.mpo", several("MPO")), "bad/a.mpo", ACCEPTED),
    "`a`, a PNG": (file("bad/a", picture("PNG")), "bad/a", ACCEPTED),
    "`a.png` with a space behind it": (file("bad/a.png "), "bad/a.png ", ACCEPTED),
    "`a.jpg_large`, a JPEG": (file("bad/a.jpg_large"), "bad/a.jpg_large", ACCEPTED),
    "`a.jpg.1`, a JPEG": (file("bad/a.jpg.1"), "bad/a.jpg.1", ACCEPTED),
    "`a.ppm`, a JPEG": (file("bad/a.ppm"), "bad/a.ppm", ACCEPTED),
    "`a.gif`, a PNG": (file("bad/a.gif", picture("PNG")), "bad/a.gif", ACCEPTED),
    "`a.dng`, a TIFF": (file("bad/a.dng", picture("TIFF")), "bad/a.dng", ACCEPTED),
    "`a.ppm`, a PPM": (file("bad/a.ppm", picture("PPM")), "bad/a.ppm", FORMAT),
    "`a.jpg`, a GIF": (file("bad/a.jpg", picture("GIF")), "bad/a.jpg", FORMAT),
    "`a.heic`, a HEIC": (file("bad/a.heic", b"\0\0\0\x18ftypheic"), "bad/a.heic", FORMAT),
    "`a.jpg.part`, half a JPEG": (file("bad/a.jpg.part", picture()[:300]), "bad/a.jpg.part", "refused: damaged"),
    "`a`, empty": (file("bad/a", b""), "bad/a", "refused: the file is empty"),
    "`a.txt`, a text in a class folder": (file("bad/a.txt", TEXT), "bad/a.txt", FORMAT),
    "`a.zip`, a ZIP in a class folder": (file("bad/a.zip", archive()), "bad/a.zip", FORMAT),
    "`.DS_Store`": (file("bad/.DS_Store", bytes(9)), "bad/.DS_Store", ASIDE),
    "`._a.png`": (file("bad/._a.png", bytes(9)), "bad/._a.png", ASIDE),
    "`Thumbs.db`": (file("bad/Thumbs.db", bytes(9)), "bad/Thumbs.db", ASIDE),
    "`DESKTOP.INI`": (file("bad/DESKTOP.INI", TEXT), "bad/DESKTOP.INI", ASIDE),
    "`.ipynb_checkpoints/a.png`": (file("bad/.ipynb_checkpoints/a.png"), "bad/.ipynb_checkpoints", ASIDE),
    "`__MACOSX/bad/a.png`": (file("__MACOSX/bad/a.png"), "__MACOSX", ASIDE),
    "`@eaDir/a.png`": (file("bad/@eaDir/a.png"), "bad/@eaDir", ASIDE),
    "`a.png~`": (file("bad/a.png~"), "bad/a.png~", ASIDE),
    "`~$a.png`": (file("bad/~$a.png"), "bad/~$a.png", ASIDE),
    "`a.png.dvc`": (file("bad/a.png.dvc", TEXT), "bad/a.png.dvc", ASIDE),
    "`README.md` beside the class folders": (file("README.md", TEXT), "README.md", "ignored: a text"),
    "`LICENSE` beside the class folders": (file("LICENSE", TEXT), "LICENSE", "ignored: a text"),
    "`Labels.csv` beside the class folders": (file("Labels.csv", TEXT), "Labels.csv", "ignored: a text"),
    "an image beside the class folders": (file("a"), "a", OUTSIDE),
    "a ZIP beside the class folders": (file("a.txt", archive()), "a.txt", OUTSIDE),
    "a link into the cache of the project": (both(PROJECT, linked(OBJECT)), "bad/link.png", ACCEPTED),
    "a link into the cache of the user": (both(USER, linked(OBJECT)), "bad/link.png", ACCEPTED),
    "a link into a cache of DVC 2": (both(USER, linked(OBJECT[10:], OBJECT[10:])), "bad/link.png", ACCEPTED),
    "a link into a cache that `.dvc/config` in the source names": (
        both(configured("images/.dvc/config"), linked(OBJECT)),
        "bad/link.png",
        LEAVES,
    ),
    "a link into a cache that `bad/.dvc/config.local` names": (
        both(configured("images/bad/.dvc/config.local"), linked(OBJECT)),
        "bad/link.png",
        LEAVES,
    ),
    "a link into a cache that nothing names": (linked(OBJECT), "bad/link.png", LEAVES),
    "a link to another file in the cache": (both(USER, linked("tmp/a.png", "tmp/a.png")), "bad/link.png", LEAVES),
    "a link to a missing object": (both(USER, linked(OBJECT[:-1] + "1")), "bad/link.png", "refused: no such file"),
    "a link to an object that is a link to elsewhere": (
        both(USER, linked(OBJECT), lambda root: moved(root.parent / "cache" / OBJECT)),
        "bad/link.png",
        LEAVES,
    ),
    "a link to a folder of the cache": (
        both(USER, linked("files/md5/ab")),
        "bad/link.png",
        "refused: a symbolic link to a folder",
    ),
    "a link when the configuration of DVC is damaged": (
        both(file("../user/config", b"[cache"), linked(OBJECT)),
        "bad/link.png",
        LEAVES,
    ),
}


def moved(path: Path) -> None:
    """Replace a file by a link to it elsewhere."""
    path.rename(path.parents[4] / "secret.png")
    path.symlink_to(path.parents[4] / "secret.png")


@pytest.fixture
def images(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "user"))
    root = make_folder(tmp_path / "images", per_class=4, size=24)
    (tmp_path / "project" / ".dvc").mkdir(parents=True)
    return root


def outcome(images: Path, key: str) -> str:
    """What `ingest`, called in the project's folder, does with a file."""
    raw = RawDataset.open(make_raw(images, images.parent / "raw", max_refused_fraction=1.0))
    rows = {row["key"]: f"{row['kind']}: {row['reason']}" for row in read_csv(raw.directory / "quarantine.csv")}
    aside = dict.fromkeys(FolderSource(images).listing().hidden, ASIDE)
    return ({image.key: ACCEPTED for image in raw.images} | rows | aside).get(key, "no word about it")


def row_of(name: str, result: str) -> str:
    return f"| {name} | {result} |"


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_accepted_refused_or_left_aside_and_never_lost(name, images, monkeypatch):
    plant, key, expected = FILES[name]
    plant(images)
    table = DOCS.read_text(encoding="utf-8")
    monkeypatch.chdir(images.parent / "project")
    assert outcome(images, key).startswith(expected)
    assert row_of(name, expected) in table


@pytest.mark.parametrize("inside", ["images", "images/bad"])
def test_a_working_directory_in_the_source_makes_its_configuration_no_more_trusted(images, inside, monkeypatch):
    both(configured(f"{inside}/.dvc/config"), linked(OBJECT))(images)
    monkeypatch.chdir(images.parent / inside)
    assert outcome(images, "bad/link.png").startswith(LEAVES)


def splits(*names: str, classes: tuple[str, ...] = ("bad", "good")) -> Plant:
    """Move the class folders into the first split, and make the others like it."""

    def plant(root: Path) -> None:
        root.rename(root.with_name("once"))
        for number, name in enumerate(names):
            make_folder(root / name, per_class=3, size=24, seed=number)
        for label in {"bad", "good"} - {*classes}:
            (root / names[-1] / label).rename(root.parent / "taken")

    return plant


def kept(*names: str) -> Plant:
    """Leave only files of these names in `bad`."""

    def plant(root: Path) -> None:
        (root / "bad").rename(root.parent / "once")
        both(*(file(f"bad/{name}") for name in names))(root)

    return plant


def table(path: str, header: str = "path,label,split", split: str = "train") -> Plant:
    return lambda root: write_labels(root, [(path, "bad", split), ("good/00000.png", "good", "test")], header)


GIVEN = "accepted, with these splits"
# case -> (function that creates it, its outcome)
LAYOUTS = {
    "`train`, `val`, `test` with the same class folders": (splits("train", "val", "test"), GIVEN),
    "`Training`, `Valid`, `Testing`": (splits("Training", "Valid", "Testing"), GIVEN),
    "`TRAIN`, `validation`, `test`": (splits("TRAIN", "validation", "test"), GIVEN),
    "`train`, `val`, `test`, and a class missing in `test`": (
        splits("train", "val", "test", classes=("good",)),
        "error: folders named like splits must all hold the same two class folders",
    ),
    "`train` and `test`, and one more folder": (
        both(splits("train", "test"), file("other/a.png")),
        "error: exactly two classes are needed, found 3: 'other', 'test', 'train'",
    ),
    "one folder around the class folders": (
        both(lambda root: root.rename(root.with_name("x")), lambda root: root.mkdir(), lambda root: inner(root)),
        "error: x holds bad, good; if they are the classes or splits, make it the source",
    ),
    "a class folder with `.a.png` and `Thumbs.db` only": (kept(".a.png", "Thumbs.db"), "error: left aside: 2"),
    "a class folder that is a link": (
        both(kept(), lambda root: (root / "bad").symlink_to(root.parent / "once")),
        "error: left aside: 1 (bad), a symbolic link to a folder",
    ),
    "images without class folders, and `Labels.csv`": (
        both(kept(), lambda root: (root / "good").rename(root.parent / "good"), file("a"), file("Labels.csv", TEXT)),
        "error: Labels.csv: a table of labels must be called labels.csv",
    ),
    "`labels.csv` in a folder below the source": (
        both(kept(), file("good/labels.csv", TEXT)),
        "error: good/labels.csv: a table of labels must be called labels.csv, in the source's own folder",
    ),
    "classes `good` and `Good`": (
        both(kept(), file("Good/a.png")),
        "error: some differ only in upper and lower case",
    ),
    "a path with backslashes in `labels.csv`": (table("bad\\00000.png"), "error: did you mean 'bad/00000.png'?"),
    "a path in another case": (table("Bad/00000.PNG"), "error: did you mean 'bad/00000.png'?"),
    "a path without its extension": (table("bad/00000"), "error: did you mean 'bad/00000.png'?"),
    "a path with another extension": (table("bad/00000.jpg"), "error: did you mean 'bad/00000.png'?"),
    "a path in another case and spelling of an accent": (
        both(file("bad/\u00e9.png"), table(unicodedata.normalize("NFD", "bad/\u00c9.png"))),
        "error: did you mean 'bad/\u00e9.png'?",
    ),
    "a path with a drive": (table("C:\\bad\\00000.png"), "error: write it with slashes"),
    "a split called `Val`": (table("bad/00000.png", split="Val"), "error: did you mean 'validation'?"),
    "a header `Path,Label`": (table("bad/00000.png", "Path,Label,split"), "error: write them in lower case"),
    "a header `path;label`": (table("bad/00000.png", "path;label;split"), "error: separate columns by commas"),
}


def inner(root: Path) -> None:
    root.with_name("x").rename(root / "x")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_understood_or_the_error_says_what_to_change(name, images):
    plant, expected = LAYOUTS[name]
    plant(images)
    assert row_of(name, expected) in DOCS.read_text(encoding="utf-8")
    if expected == GIVEN:
        raw = RawDataset.open(make_raw(images, images.parent / "raw"))
        found = {(image.key.split("/")[0].casefold()[:3], image.label, image.split) for image in raw.images}
        names = {"tra": "train", "val": "validation", "tes": "test"}
        assert found == {(short, label, split) for short, split in names.items() for label in ("bad", "good")}
        return
    with pytest.raises(DataError, match=re.escape(expected.removeprefix("error: "))):
        make_raw(images, images.parent / "raw")
