"""labels.csv and class folders whose names differ by what nobody can see."""

from unicodedata import normalize

import pytest

from tests.support.makers import write_labels
from twofold.core.errors import DataError
from twofold.sources.local_folder import FolderSource


def write(root, keys):
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(b"x")
    return root


def test_a_class_in_two_unicode_forms_is_one_class(tmp_path):
    keys = [normalize("NFC", "Schäden/ä.png"), normalize("NFD", "Schäden/ä.png"), "gut/c.png"]
    entries = FolderSource(write(tmp_path, keys)).listing().entries
    assert {entry.key: entry.label for entry in entries} == dict(zip(keys, ["Schäden", "Schäden", "gut"], strict=True))


@pytest.mark.parametrize("column", ["label", "group", "split", "line"])
@pytest.mark.parametrize("sign", ["\u200b", "\ufeff", "\u00a0", "\u00ad"])
def test_a_cell_holds_what_can_be_seen(tmp_path, column, sign):
    write(tmp_path, ["a.png", "b.png"])
    names = ["path", "label", "group", "split", "line"]
    cells = [["a.png", "gut", "g", "test", "x"], ["b.png", "gut", "g", "test", "x"]]
    cells[1][names.index(column)] += sign
    write_labels(tmp_path, cells, ",".join(names).replace(column, sign + column))
    listing = FolderSource(tmp_path).listing()
    assert listing.slices == ("line",)
    assert len({entry[1:] for entry in listing.entries}) == 1


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "written", [normalize("NFC", "Maß/é.png"), normalize("NFD", "Maß/é.png"), "Maß/é.png\u200b", "\ufeffMaß/é.png"]
)
def test_a_path_names_the_file_that_looks_the_same(tmp_path, stored, written):
    key = normalize(stored, "Maß/é.png")
    write_labels(write(tmp_path, [key, "b.png"]), [[written, "bad"], ["b.png", "gut"]])
    assert key in [entry.key for entry in FolderSource(tmp_path).listing().entries]


def test_the_exact_spelling_takes_precedence_and_no_file_is_guessed(tmp_path):
    both = [normalize(form, "é.png") for form in ("NFC", "NFD")]
    write_labels(write(tmp_path, both), [[both[0], "bad"], [both[1], "gut"]])
    assert {entry.key: entry.label for entry in FolderSource(tmp_path).listing().entries} == {
        both[0]: "bad",
        both[1]: "gut",
    }
    write_labels(tmp_path, [[f"{both[0]}\u200b", "bad"]])
    with pytest.raises(DataError, match=r"line 2: path .*u200b.* not printable"):
        FolderSource(tmp_path).listing()


@pytest.mark.parametrize(("path", "codes"), [("\u0430.png", r"\\u0430"), ("a\u0301.png", r"\\u0301")])
def test_a_path_that_only_looks_like_a_file_is_spelled_out(tmp_path, path, codes):
    write_labels(write(tmp_path, ["a.png"]), [[path, "bad"]])
    with pytest.raises(DataError, match=rf"line 2: path .*{codes}.*: no such file"):
        FolderSource(tmp_path).listing()
