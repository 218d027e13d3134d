"""Hostile file names, in a folder and in labels.csv: rejected by name or accepted; nothing is written elsewhere.

The tables below list the results. Twofold names no file after a source file: shards are numbered, and their members are
named by SHA-256. So names that differ only in case, or in the encoding of an accent, are two images on every system.
"""

import contextlib
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.makers import encode, make_folder, make_raw, pixels
from twofold.core.artifacts import read_csv
from twofold.core.errors import DataError
from twofold.data.raw import RawDataset
from twofold.sources.base import FetchedFile
from twofold.sources.local_folder import FolderSource

ACCEPTED, IGNORED = "accepted", "ignored without a message"
RENAME = "not printable UTF-8; rename it"
LEAVES = "a symbolic link that leaves the folder"


@pytest.fixture(autouse=True)
def no_waiting():
    """Fail a test that waits, as reading a pipe would wait forever."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(20)
    yield
    signal.alarm(0)


def _too_long(*_):
    raise AssertionError("waited for 20 seconds")


@pytest.fixture
def images(tmp_path):
    make_folder(tmp_path / "outside", per_class=1, size=24, seed=7)
    yield make_folder(tmp_path / "images", per_class=4, size=24)
    # Python and pytest cannot remove a tree that is 1,000 folders deep.
    subprocess.run(["rm", "-rf", tmp_path / "images" / "bad"], check=True)


def image() -> bytes:
    return encode(pixels(np.random.default_rng(99), 24, True))


def named(name: bytes | str) -> Callable[[Path], None]:
    """Write an image with this name to the folder `bad`; a slash creates folders."""

    def plant(root: Path) -> None:
        path = root / "bad" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image())

    return plant


def linked(target: str) -> Callable[[Path], None]:
    """Create a symbolic link `bad/link.png`."""
    return lambda root: (root / "bad" / "link.png").symlink_to(target)


def deep(levels: int) -> Callable[[Path], None]:
    """Write an image below this many folders, one by one, as the path may be longer than the system allows."""

    def plant(root: Path) -> None:
        here = os.open(root / "bad", os.O_RDONLY)
        for _ in range(levels):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        with os.fdopen(os.open("x.png", os.O_WRONLY | os.O_CREAT, dir_fd=here), "wb") as stream:
            stream.write(image())
        os.close(here)

    return plant


def bound(root: Path) -> None:
    """Create a socket, from within its folder because its path must be short."""
    with contextlib.chdir(root / "bad"), socket.socket(socket.AF_UNIX) as made:
        made.bind("s.png")


def looped(root: Path) -> None:
    (root / "bad" / "a.png").symlink_to("b.png")
    (root / "bad" / "b.png").symlink_to("a.png")


def collisions(*names: str) -> Callable[[Path], None]:
    """Write different images with names that are the same name on some file systems."""

    def plant(root: Path) -> None:
        for number, name in enumerate(names):
            (root / "bad" / name).write_bytes(encode(pixels(np.random.default_rng(200 + number), 24, True)))

    return plant


# name of the case -> (function that creates it, {printed key: result})
FOLDER = {
    "two dots in a name": (named("..x.png"), {"bad/..x.png": IGNORED}),
    "three dots as a folder": (named(".../x.png"), {"bad/.../x.png": IGNORED}),
    "two dots, percent-encoded": (named("%2e%2e/x.png"), {"bad/%2e%2e/x.png": ACCEPTED}),
    "a slash, percent-encoded": (named("..%2F..%2Fx.png"), {"bad/..%2F..%2Fx.png": IGNORED}),
    "a slash, percent-encoded, behind a letter": (named("a%2Fx.png"), {"bad/a%2Fx.png": ACCEPTED}),
    "backslashes": (named("a\\..\\..\\x.png"), {"bad/a\\..\\..\\x.png": ACCEPTED}),
    "a drive": (named("C:\\x.png"), {"bad/C:\\x.png": ACCEPTED}),
    "a line end": (named("a\nb.png"), {"bad/a\\nb.png": RENAME}),
    "a carriage return": (named("a\rb.png"), {"bad/a\\rb.png": RENAME}),
    "a tab": (named("a\tb.png"), {"bad/a\\tb.png": RENAME}),
    "an escape of the terminal": (named("a\x1b[2Jb.png"), {"bad/a\\x1b[2Jb.png": RENAME}),
    "a mark from right to left": (named("a\u200fb.png"), {"bad/a\\u200fb.png": RENAME}),
    "an override from right to left": (named("gnp\u202egnp.png"), {"bad/gnp\\u202egnp.png": RENAME}),
    "a space of no width": (named("a\u200bb.png"), {"bad/a\\u200bb.png": RENAME}),
    "a byte order mark": (named("\ufeffa.png"), {"bad/\\ufeffa.png": RENAME}),
    "a separator of lines": (named("a\u2028b.png"), {"bad/a\\u2028b.png": RENAME}),
    "no UTF-8": (named(b"\xff\xfe.png"), {"bad/\\udcff\\udcfe.png": RENAME}),
    "a lone surrogate in UTF-8": (named(b"\xed\xa0\x80.png"), {"bad/\\udced\\udca0\\udc80.png": RENAME}),
    "a folder that does not print": (named("a\nb/x.png"), {"bad/a\\nb/x.png": RENAME}),
    "255 bytes": (named("x" * 251 + ".png"), {"bad/" + "x" * 251 + ".png": ACCEPTED}),
    "folders 1,200 deep": (deep(1200), {"bad/" + "d/" * 1200 + "x.png": ACCEPTED}),
    "a folder named like an image": (named("a.png/x.png"), {"bad/a.png/x.png": ACCEPTED}),
    "a leading dash": (named("-rf.png"), {"bad/-rf.png": ACCEPTED}),
    "a trailing space": (named("a.png "), {"bad/a.png ": ACCEPTED}),
    "a trailing dot": (named("a.png."), {"bad/a.png.": ACCEPTED}),
    "a device of Windows": (named("CON.png"), {"bad/CON.png": ACCEPTED}),
    "another device of Windows": (named("NUL"), {"bad/NUL": ACCEPTED}),
    "a stream of Windows": (named("a.png:x.png"), {"bad/a.png:x.png": ACCEPTED}),
    "the home folder": (named("~root/x.png"), {"bad/~root/x.png": ACCEPTED}),
    "a command": (named("$(touch x)`id`;|&.png"), {"bad/$(touch x)`id`;|&.png": ACCEPTED}),
    "a formula": (named('=cmd("x"),1.png'), {'bad/=cmd("x"),1.png': ACCEPTED}),
    "html": (named("<script>alert(1)<x>.png"), {"bad/<script>alert(1)<x>.png": ACCEPTED}),
    "upper and lower case": (collisions("A.png", "a.png"), {"bad/A.png": ACCEPTED, "bad/a.png": ACCEPTED}),
    "two spellings of an accent": (
        collisions("\u00e9.png", "e\u0301.png"),
        {"bad/\u00e9.png": ACCEPTED, "bad/e\u0301.png": ACCEPTED},
    ),
    "prefixes of each other": (
        collisions("a", "a.png", "a.png.png"),
        {"bad/a": ACCEPTED, "bad/a.png": ACCEPTED, "bad/a.png.png": ACCEPTED},
    ),
    "a link to a file inside": (linked("00000.png"), {"bad/link.png": ACCEPTED}),
    "a link to a file outside": (linked("../../outside/bad/00000.png"), {"bad/link.png": LEAVES}),
    "a link to a file outside, absolute": (linked("/etc/passwd"), {"bad/link.png": LEAVES}),
    "a link to a sibling whose name begins alike": (linked("../../images-old/x.png"), {"bad/link.png": LEAVES}),
    "a link to a folder inside": (linked("../good"), {"bad/link.png": "a symbolic link to a folder"}),
    "a link to the folder itself": (linked("."), {"bad/link.png": "a symbolic link to a folder"}),
    "a link to a folder outside": (linked("../../outside"), {"bad/link.png": "a symbolic link to a folder"}),
    "a link to nothing": (linked("none.png"), {"bad/link.png": "no such file"}),
    "links in a ring": (looped, {"bad/a.png": "leads nowhere", "bad/b.png": "leads nowhere"}),
    "a link to a device": (linked("/dev/zero"), {"bad/link.png": LEAVES}),
    "a hard link to a file outside": (
        lambda root: (root / "bad" / "hard.png").hardlink_to(root.parent / "outside" / "bad" / "00000.png"),
        {"bad/hard.png": ACCEPTED},
    ),
    "a pipe": (lambda root: os.mkfifo(root / "bad" / "p.png"), {"bad/p.png": "not a regular file"}),
    "a socket": (bound, {"bad/s.png": "not a regular file"}),
}


def surroundings(root: Path) -> set[tuple[str, int]]:
    """Everything below a folder except `out`, where `ingest` may write."""
    found = set()
    for place, folders, names in os.walk(root):
        if place == str(root):
            folders[:] = [name for name in folders if name != "out"]
        found |= {(f"{place}/{name}", os.lstat(f"{place}/{name}").st_mtime_ns) for name in (*folders, *names)}
    return found


@pytest.mark.parametrize("name", FOLDER)
def test_names_in_a_folder(name, images, tmp_path):
    plant, expected = FOLDER[name]
    plant(images)
    if "deep" not in name:  # too deep for os.walk
        before = surroundings(tmp_path)
    found = outcome(images, tmp_path / "out")
    assert {key: found.get(key, IGNORED) for key in expected}.keys() == expected.keys()
    for key, how in expected.items():
        assert how in found.get(key, IGNORED)
    assert set(found) <= set(expected)  # apart from the ordinary images
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out", "outside"]
    if "deep" not in name:
        assert surroundings(tmp_path) == before
    assert {stat.S_ISREG(path.lstat().st_mode) for path in (tmp_path / "out" / "raw").iterdir()} == {True}


def outcome(images: Path, out: Path) -> dict[str, str]:
    """The result of every file that `make_folder` did not write."""
    raw = RawDataset.open(make_raw(images, out / "raw", max_refused_fraction=1.0))
    found = {one.key: ACCEPTED for one in raw.images}
    found |= {row["key"]: ACCEPTED for row in read_csv(out / "raw" / "duplicates.csv")}
    found |= {row["key"]: row["reason"] for row in read_csv(out / "raw" / "quarantine.csv")}
    return {key: how for key, how in found.items() if not Path(key).stem.isdigit()}


def test_folders_deeper_than_the_longest_path(images, tmp_path):
    deep(2500)(images)
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        make_raw(images, tmp_path / "out" / "raw")


ROWS = {
    "up": ("../outside/bad/00000.png", "leaves the folder"),
    "up from below": ("bad/../../outside/bad/00000.png", "leaves the folder"),
    "absolute": ("/etc/passwd", "leaves the folder"),
    "absolute twice": ("//etc/passwd", "leaves the folder"),
    "percent-encoded": ("%2e%2e/outside/bad/00000.png", "no such file"),
    "backslashes": ("..\\outside\\bad\\00000.png", "no such file"),
    "drive": ("C:\\x.png", "no such file"),
    "address": ("file:///etc/passwd", "no such file"),
    "home": ("~/x.png", "no such file"),
    "nul": ("bad/\0.png", "not printable|not CSV"),
    "line end in quotes": ('"bad/a\nb.png"', "not printable"),
    "right to left": ("bad/a\u200fb.png", "not printable"),
    "no width": ("bad/a\u200bb.png", "not printable"),
    "byte order mark": ("bad/\ufeffa.png", "not printable"),
    "longer than a name may be": ("bad/" + "x" * 300 + ".png", "no such file|leads nowhere"),
    "longer than a path may be": ("bad/" + "x/" * 3000 + "x.png", "no such file|leads nowhere"),
    "a folder": ("bad", "not a regular file"),
    "the root": (".", "not a regular file"),
    "through a file": ("bad/00000.png/x.png", "no such file|leads nowhere"),
    "twice, spelled otherwise": ("good//./00000.png", "already in line 2"),
    "a link out": ("bad/out.png", LEAVES),
    "a link to a folder": ("bad/folder/00000.png", LEAVES),
    "a pipe": ("bad/p.png", "not a regular file"),
    "a command": ("$(id).png", "no such file"),
}


@pytest.mark.parametrize("name", ROWS)
def test_names_in_labels_csv(name, images, tmp_path):
    path, reason = ROWS[name]
    os.mkfifo(images / "bad" / "p.png")
    (images / "bad" / "out.png").symlink_to(tmp_path / "outside" / "bad" / "00000.png")
    (images / "bad" / "folder").symlink_to(tmp_path / "outside" / "bad")
    table = f"path,label\ngood/00000.png,good\n{path},bad\n"
    (images / "labels.csv").write_text(table, encoding="utf-8", newline="")
    before = surroundings(tmp_path)
    with pytest.raises(DataError, match=rf"(?s)labels\.csv: .*line [34].*({reason})"):
        make_raw(images, tmp_path / "out" / "raw")
    assert surroundings(tmp_path) == before
    assert not (tmp_path / "out" / "raw").exists()


TABLES = {
    "a pipe": (os.mkfifo, "not a regular file"),
    "a folder": (Path.mkdir, "not a regular file"),
    "a link out": (lambda path: path.symlink_to("../outside/labels.csv"), LEAVES),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), LEAVES),
    "a link to nothing": (lambda path: path.symlink_to("none.csv"), "no such file"),
    "a link to itself": (lambda path: path.symlink_to("labels.csv"), "the path leads nowhere"),
}


@pytest.mark.parametrize("name", TABLES)
def test_labels_csv_that_is_not_a_regular_file(name, images, tmp_path):
    """It is an error, not a missing table, whose labels would come from the folders."""
    make, reason = TABLES[name]
    (tmp_path / "outside" / "labels.csv").write_text("path,label\n")
    make(images / "labels.csv")
    with pytest.raises(DataError, match=rf"labels\.csv: {reason}"):
        FolderSource(images).listing()


def test_a_labels_csv_that_is_too_large(images, monkeypatch):
    monkeypatch.setattr("twofold.sources.labels.LARGEST_TABLE", 100)
    (images / "labels.csv").write_text("path,label\n" + "good/00000.png,good\n" * 10)
    with pytest.raises(DataError, match=r"labels\.csv: more than 100 bytes"):
        FolderSource(images).listing()


def test_a_pipe_that_replaces_a_file_is_not_waited_for(images, monkeypatch):
    folder = FolderSource(images)
    (images / "bad" / "00000.png").unlink()
    os.mkfifo(images / "bad" / "00000.png")
    monkeypatch.setattr(FolderSource, "problem", lambda self, key: None)  # as if it were replaced after that check
    assert folder.fetch([folder.request("bad/00000.png")], 1000) == [FetchedFile(b"", "not a regular file")]


def test_csv_files_contain_names_unchanged(images, tmp_path):
    """Formulas are not escaped: the files are data, and a spreadsheet must import their cells as text."""
    names = ['=cmd("x"),1.txt', "+1.txt", "@sum.txt", '"quoted".txt', "<script>.txt", "-1;2.txt"]
    for name in names:
        (images / name).write_bytes(b"x")
    make_raw(images, tmp_path / "raw")
    assert [row["key"] for row in read_csv(tmp_path / "raw" / "quarantine.csv")] == sorted(names)
