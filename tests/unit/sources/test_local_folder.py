"""A local folder as a source: class folders, labels.csv, and unusual files in them."""

import os

import pytest

from tests.support.makers import make_folder, write_labels
from twofold.core.errors import DataError
from twofold.sources.local_folder import FolderSource


@pytest.fixture
def images(tmp_path):
    return make_folder(tmp_path / "images", per_class=2, size=16)


def ignored(folder):
    return {item.key: (item.reason, item.counts) for item in FolderSource(folder).listing().ignored}


def test_class_folders(images):
    (images / "bad" / "deep" / "er").mkdir(parents=True)
    (images / "bad" / "00000.png").rename(images / "bad" / "deep" / "er" / "A.PNG")
    listing = FolderSource(images).listing()
    assert [(entry.key, entry.label) for entry in listing.entries] == [
        ("bad/00001.png", "bad"),
        ("bad/deep/er/A.PNG", "bad"),
        ("good/00000.png", "good"),
        ("good/00001.png", "good"),
    ]
    assert listing.ignored == []
    assert listing.slices == ()


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.Png", "a.TIFF", "a.jfif", "a.jpe", "a.ppm", "a.gif", "notes.txt", "a", "a."]
)
def test_files_of_any_name_are_offered(images, name):
    (images / "good" / name).write_bytes(b"")
    assert f"good/{name}" in [entry.key for entry in FolderSource(images).listing().entries]


def test_files_of_systems_and_editors_are_left_aside(images):
    for name in ("stray.png", ".hidden.png", "bad/.DS_Store", "bad/THUMBS.DB", "good/a.png~"):
        (images / name).write_bytes(b"x")
    for name in ("bad/.cache", "__MACOSX"):
        (images / name).mkdir()
        (images / name / "x.png").write_bytes(b"x")
    assert ignored(images) == {"stray.png": ("outside every class folder", True)}
    hidden = [".hidden.png", "__MACOSX", "bad/.DS_Store", "bad/.cache", "bad/THUMBS.DB", "good/a.png~"]
    assert FolderSource(images).listing().hidden == hidden
    assert len(FolderSource(images).listing().entries) == 4


def test_links(images, tmp_path):
    outside = make_folder(tmp_path / "outside", per_class=1, size=16)
    (images / "bad" / "inside.png").symlink_to(images / "good" / "00000.png")
    (images / "bad" / "out.png").symlink_to(outside / "bad" / "00000.png")
    (images / "bad" / "nowhere.png").symlink_to(images / "none.png")
    (images / "bad" / "ring.png").symlink_to(images / "bad" / "ring.png")
    (images / "bad" / "folder").symlink_to(outside, target_is_directory=True)
    folder = FolderSource(images)
    assert folder.problem("bad/inside.png") is None
    inside, out = folder.fetch([folder.request(f"bad/{name}.png") for name in ("inside", "out")], 10_000)
    assert (inside.data, inside.reason) == ((images / "good" / "00000.png").read_bytes(), "")
    assert out.data == b""
    assert "leaves the folder" in out.reason
    assert folder.problem("bad/out.png").startswith("a symbolic link that leaves the folder")
    assert folder.problem("bad/nowhere.png") == "no such file"
    assert folder.problem("bad/ring.png") is not None
    assert ignored(images) == {"bad/folder": ("a symbolic link to a folder; links are not followed", True)}


def test_a_link_to_the_source_folder_is_allowed(images, tmp_path):
    (tmp_path / "link").symlink_to(images)
    folder = FolderSource(tmp_path / "link")
    assert folder.problem(folder.listing().entries[0].key) is None


def test_pipes_and_unprintable_names(images):
    os.mkfifo(images / "bad" / "pipe.png")
    (images / "bad" / "new\nline.png").write_bytes(b"x")
    with open(os.fsencode(images / "bad") + b"/\xff.png", "wb"):  # noqa: PTH123
        pass
    assert FolderSource(images).problem("bad/pipe.png") == "not a regular file"
    found = ignored(images)
    assert set(found) == {"bad/new\\nline.png", "bad/\\udcff.png"}
    assert all(counts and "printable" in reason for reason, counts in found.values())


def test_reading_stops_one_byte_after_the_limit(images):
    (images / "bad" / "00000.png").write_bytes(bytes(1000))
    source = FolderSource(images)
    (file,) = source.fetch([source.request("bad/00000.png")], 100)
    assert len(file.data) == 101


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError, match=r"ingest\.source"):
        FolderSource(tmp_path / "none")


def test_labels_table(images):
    header = " path , type ,label,group,split,camera"
    rows = [
        ("./bad/00000.png", "mono", "bad", "g1", "train", ""),
        ("good/00000.png", "poly", "good", "", "test", "x"),
    ]
    write_labels(images, rows, header)
    (images / "LICENSE.txt").write_text("free")
    listing = FolderSource(images).listing()
    assert listing.slices == ("camera", "type")
    assert listing.entries == [
        ("bad/00000.png", "bad", "g1", "train", (None, "mono")),
        ("good/00000.png", "good", None, "test", ("x", "poly")),
    ]
    unnamed = ("bad/00001.png", "good/00001.png", "LICENSE.txt")
    assert ignored(images) == dict.fromkeys(unnamed, ("not named in labels.csv", False))


def test_a_table_written_by_a_spreadsheet(images):
    text = 'path,label\r\n"bad/00000.png",bad\r\n\r\ngood/00000.png,good\r\n'
    (images / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [entry.key for entry in FolderSource(images).listing().entries] == ["bad/00000.png", "good/00000.png"]


WRONG_ROWS = {
    "leaves the folder": ("../secret.png,bad", "line 3: path '../secret.png' leaves the folder"),
    "absolute": ("/etc/passwd,bad", "line 3: path '/etc/passwd' leaves the folder"),
    "hidden way out": ("bad/../../x.png,bad", "line 3: .* leaves the folder"),
    "missing": ("bad/none.png,bad", "line 3: path 'bad/none.png': no such file"),
    "a folder": ("bad,bad", "line 3: path 'bad': not a regular file"),
    "empty path": (",bad", "line 3: path '' is empty"),
    "empty label": ("bad/00000.png,", "line 3: the label is empty"),
    "twice": ("good/00000.png,bad", "line 3: good/00000.png is already in line 2"),
    "too many cells": ("bad/00000.png,bad,more", "line 3: 3 cells, the header has 2"),
    "too few cells": ("bad/00000.png", "line 3: 1 cells, the header has 2"),
    "open quote": ('"bad/00000.png,bad', "line 3: not CSV"),
    "nul": ("bad/\0.png,bad", "line 3"),
}


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_an_error_names_the_line_of_a_wrong_row(images, name):
    row, message = WRONG_ROWS[name]
    (images / "labels.csv").write_text(f"path,label\ngood/00000.png,good\n{row}\n")
    with pytest.raises(DataError, match=message):
        FolderSource(images).listing()


def test_a_row_with_a_link_out_of_the_folder_is_wrong(images, tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    (images / "bad" / "out.png").symlink_to(tmp_path / "x.png")
    write_labels(images, [("bad/out.png", "bad")])
    with pytest.raises(DataError, match=r"line 2: .*symbolic link that leaves the folder"):
        FolderSource(images).listing()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,label", "line 1: no column path; found file, label"),
        ("", "no column path and label; found nothing"),
        ("path,label,label", "must differ"),
        ("path,label,", "must differ and not be empty"),
    ],
)
def test_a_wrong_header(images, header, message):
    write_labels(images, [], header)
    with pytest.raises(DataError, match=message):
        FolderSource(images).listing()


def test_splits_in_a_table(images):
    header = "path,label,split"
    write_labels(images, [("bad/00000.png", "bad", "dev")], header)
    with pytest.raises(DataError, match="line 2: split 'dev'; allowed are train, validation, test"):
        FolderSource(images).listing()
    write_labels(images, [("bad/00000.png", "bad", "test"), ("good/00000.png", "good", "")], header)
    with pytest.raises(DataError, match=r"split is empty in 1 rows \(lines 3\)"):
        FolderSource(images).listing()
    write_labels(images, [("bad/00000.png", "bad", ""), ("good/00000.png", "good", "")], header)
    assert [entry.split for entry in FolderSource(images).listing().entries] == [None, None]


def test_a_table_that_is_not_utf8(images):
    (images / "labels.csv").write_bytes("path,label\nbad/é.png,bad\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        FolderSource(images).listing()


def test_an_error_counts_all_problems_and_shows_the_first_ten(images):
    write_labels(images, [(f"none{n}.png", "bad") for n in range(14)])
    with pytest.raises(DataError) as caught:
        FolderSource(images).listing()
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("labels.csv: 14 problems")
    assert len(lines) == 12
    assert lines[-1].strip() == "… and 4 more"
