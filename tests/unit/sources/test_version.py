"""The version of a source changes with every image and label, and with nothing else."""

import os
import shutil

import pytest

from tests.support.makers import make_folder
from twofold.sources.local_folder import FolderSource
from twofold.sources.version import read_source_version

LIMIT = 100_000


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "images", per_class=3, size=16)


def version(folder):
    return read_source_version(FolderSource(folder), LIMIT)


def test_a_copy_with_other_times_has_the_same_version(folder, tmp_path):
    before = version(folder)
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    for path in copy.rglob("*.png"):
        os.utime(path, (1, 1))
    (copy / "bad" / ".hidden").write_text("")
    assert version(copy) == before


def replace_in_place(folder):
    """Other content of the same size, with the times of before."""
    path = folder / "bad" / "00000.png"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def add_table(folder, group="a"):
    rows = [f"{path.relative_to(folder)},{path.parent.name},{group}" for path in sorted(folder.rglob("*.png"))]
    (folder / "labels.csv").write_text("\n".join(["path,label,group", *rows]))


@pytest.mark.parametrize(
    "change",
    [
        replace_in_place,
        lambda folder: (folder / "bad" / "00000.png").unlink(),
        lambda folder: shutil.copy(folder / "bad" / "00000.png", folder / "bad" / "copy.png"),
        lambda folder: (folder / "bad" / "00000.png").rename(folder / "good" / "moved.png"),
        lambda folder: (folder / "bad" / "00000.png").rename(folder / "bad" / "renamed.png"),
        lambda folder: (folder / "bad" / "note.txt").write_text("counted as ignored"),
        add_table,
        lambda folder: (folder / "bad" / "00000.png").write_bytes(bytes(LIMIT + 1)),
    ],
)
def test_a_change_gives_another_version(folder, change):
    before = version(folder)
    change(folder)
    assert version(folder) != before


def test_a_changed_group_in_the_table_gives_another_version(folder):
    add_table(folder)
    before = version(folder)
    add_table(folder, group="b")
    assert version(folder) != before


def test_a_file_that_cannot_be_read_or_is_too_large_counts_and_stops_nothing(folder):
    (folder / "bad" / "gone.png").symlink_to("/nowhere.png")
    (folder / "bad" / "large.png").write_bytes(bytes(LIMIT + 1))
    before = version(folder)
    assert version(folder) == before
    (folder / "bad" / "large.png").write_bytes(bytes(LIMIT + 2))
    assert version(folder) != before
