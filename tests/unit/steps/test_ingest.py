"""ingest: which files are accepted and refused, and that the bytes depend on the images only."""

import json
import shutil
import tarfile
from unicodedata import normalize

import numpy as np
import pytest

from tests.support.makers import bomb, encode, file_bytes, make_folder, make_raw, write_labels
from twofold.core.artifacts import read_csv
from twofold.core.errors import DataError, ParameterError
from twofold.data.raw import RawDataset


@pytest.fixture
def images(tmp_path):
    return make_folder(tmp_path / "images", per_class=6, size=16)


def test_every_image_is_stored_unchanged(images, tmp_path):
    raw = RawDataset.open(make_raw(images, tmp_path / "raw"))
    assert {one.key: raw.read(one) for one in raw.images} == file_bytes(images)
    assert raw.meta["labels"] == ["good", "bad"]
    assert {(one.width, one.height, one.mode, one.format, one.channels) for one in raw.images} == {
        (16, 16, "L", "PNG", 1)
    }
    assert "source" not in raw.meta["params"]
    figures = json.loads((tmp_path / "raw.json").read_text())
    assert (figures["images"], figures["positive"], figures["refused"], figures["shards"]) == (12, 6, 0, 1)


def test_another_folder_order_and_number_of_workers_give_the_same_bytes(images, tmp_path, monkeypatch):
    rows = [(f"{label}/{n:05d}.png", label, f"g{n}") for label in ("bad", "good") for n in range(6)]
    write_labels(images, rows, "path,label,group")
    expected = file_bytes(make_raw(images, tmp_path / "one"))
    elsewhere = tmp_path / "else" / "where"
    shutil.copytree(images, elsewhere)
    write_labels(elsewhere, rows[::-1], "path,label,group")
    for workers in ("1", "3"):
        monkeypatch.setenv("TWOFOLD_WORKERS", workers)
        monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path / f"cache{workers}"))  # each run computes everything
        assert file_bytes(make_raw(elsewhere, tmp_path / workers)) == expected
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "one.json").read_bytes()


def test_other_file_names_give_the_same_fingerprint(images, tmp_path):
    before = RawDataset.open(make_raw(images, tmp_path / "before")).meta["fingerprint"]
    for number, path in enumerate(sorted((images / "bad").iterdir(), reverse=True)):
        path.rename(images / "bad" / f"renamed-{number}.png")
    assert RawDataset.open(make_raw(images, tmp_path / "after")).meta["fingerprint"] == before


def test_the_content_of_a_file_decides_its_format(images, tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (images / "good" / "actually-a-jpeg.png").write_bytes(encode(grey, "JPEG"))
    raw = RawDataset.open(make_raw(images, tmp_path / "raw"))
    found = next(one for one in raw.images if one.key == "good/actually-a-jpeg.png")
    assert found.format == "JPEG"
    assert f"{found.sha256}.jpg".encode() in (tmp_path / "raw" / "images-00000.tar").read_bytes()


def flip_bit(data, position):
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


PNG = encode(np.arange(256, dtype=np.uint8).reshape(16, 16))
CORRUPT = {
    "empty.png": (b"", "empty"),
    "cut.png": (PNG[: len(PNG) // 2], "damaged or cut short"),
    "flipped.png": (flip_bit(PNG, len(PNG) // 2), "damaged or cut short"),
    "text.jpg": (b"hello, world", "not an image of an accepted format"),
    "gif.png": (encode(np.zeros((16, 16), np.uint8), "GIF"), "a GIF file"),
    "bomb.png": (bomb(), "too many pixels"),
    "bytes.bmp": (bytes(10_001), "10001 bytes, allowed are at most 10000"),
    "pixels.png": (encode(np.zeros((100, 101), np.uint8)), "10100 pixels, allowed are at most 10000"),
    "tiny.png": (encode(np.zeros((3, 16), np.uint8)), "at least 4 pixels"),
    "other.gif": (b"GIF89a", "a GIF file"),
    "notes.txt": (b"not meant as an image", "not an image of an accepted format"),
    "no extension": (b"\0\0\0\x18ftypheic", "family of heic"),
}
LIMITS = {"max_bytes": 10_000, "max_pixels": 10_000}


def test_corrupt_files_go_to_quarantine_with_a_reason(images, tmp_path, capsys):
    for name, (data, _) in CORRUPT.items():
        (images / "bad" / name).write_bytes(data)
    (images / "notes.txt").write_text("outside every class folder")
    (images / "Label.CSV").write_text("path,label")
    raw = make_raw(images, tmp_path / "raw", max_refused_fraction=0.6, **LIMITS)
    rows = {row["key"]: row for row in read_csv(raw / "quarantine.csv")}
    assert set(rows) == {*(f"bad/{name}" for name in CORRUPT), "notes.txt", "Label.CSV"}
    for name, (_, reason) in CORRUPT.items():
        assert reason in rows[f"bad/{name}"]["reason"]
        assert rows[f"bad/{name}"]["kind"] == "refused"
    assert rows["notes.txt"]["kind"] == rows["Label.CSV"]["kind"] == "ignored"
    assert "warning: Label.CSV is not read; a table of labels must be called labels.csv" in capsys.readouterr().err
    assert len(RawDataset.open(raw).images) == 12
    assert json.loads((tmp_path / "raw.json").read_text())["refused"] == len(CORRUPT)


@pytest.mark.parametrize("name", CORRUPT)
def test_one_corrupt_file_fails_the_step_if_none_is_allowed(images, tmp_path, name):
    data, reason = CORRUPT[name]
    (images / "bad" / name).write_bytes(data)
    with pytest.raises(DataError, match=f"1 of 13 files are refused.*(?s:.*)bad/{name}: .*{reason}"):
        make_raw(images, tmp_path / "raw", **LIMITS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


def test_the_error_lists_the_first_ten_refused_files(images, tmp_path):
    for number in range(12):
        (images / "bad" / f"x{number:02d}.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        make_raw(images, tmp_path / "raw", max_refused_fraction=0.49)
    text = str(caught.value)
    assert text.startswith("12 of 24 files are refused, ingest.max_refused_fraction allows 0.49")
    assert "bad/x09.png: the file is empty" in text
    assert "x10" not in text
    assert text.endswith("… and 2 more")
    make_raw(images, tmp_path / "raw", max_refused_fraction=0.5)


def test_a_class_needs_enough_different_images(images, tmp_path):
    with pytest.raises(DataError, match=r"too few different images: 6 of good, 6 of bad; .* requires 7 of each"):
        make_raw(images, tmp_path / "raw", min_per_class=7)
    shutil.copy(images / "bad" / "00000.png", images / "bad" / "again.png")
    shutil.copy(images / "good" / "00000.png", images / "good" / "again.png")
    with pytest.raises(DataError, match="6 of good, 6 of bad"):
        make_raw(images, tmp_path / "raw", min_per_class=7)


@pytest.mark.parametrize("name", ["Schäden", "Café", "각", "Å b"])
@pytest.mark.parametrize("folder", ["NFC", "NFD"])
@pytest.mark.parametrize("given", ["NFC", "NFD"])
def test_a_class_is_found_in_every_unicode_form(images, tmp_path, name, folder, given):
    (images / "bad").rename(images / normalize(folder, name))
    make_raw(images, tmp_path / "raw", positive=normalize(given, name))
    assert RawDataset.open(tmp_path / "raw").meta["labels"] == ["good", normalize("NFC", name)]


def test_a_class_that_only_looks_like_the_positive_one_is_spelled_out(images, tmp_path):
    (images / "bad").rename(images / "b\u0430d")  # a Cyrillic letter
    with pytest.raises(DataError, match=r"found 'bad'; the classes of .* \['b\u0430d' \('b\\u0430d'\), 'good'\]"):
        make_raw(images, tmp_path / "raw")


def test_exactly_two_classes_and_the_positive_one_among_them(images, tmp_path):
    with pytest.raises(DataError, match=r"ingest.positive: found 'ill'; the classes of .* \['bad', 'good'\]"):
        make_raw(images, tmp_path / "raw", positive="ill")
    shutil.copytree(images / "bad", images / "ugly")
    with pytest.raises(DataError, match="exactly two classes are needed, found 3: 'bad', 'good', 'ugly'"):
        make_raw(images, tmp_path / "raw")
    shutil.rmtree(images / "ugly")
    shutil.rmtree(images / "good")
    with pytest.raises(DataError, match="found 1: 'bad'"):
        make_raw(images, tmp_path / "raw")


def test_a_file_that_occurs_twice_is_kept_once_whatever_the_split_given_to_each(images, tmp_path):
    shutil.copy(images / "bad" / "00000.png", images / "bad" / "again.png")
    keys = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))]
    rows = [(key, key.split("/")[0], "test" if "again" in key else "train") for key in keys]
    raw = make_raw(write_labels(images, rows, "path,label,split"), tmp_path / "raw")
    opened = RawDataset.open(raw)
    assert len(opened.images) == 12
    with tarfile.open(raw / "images-00000.tar") as shard:
        assert len(shard.getnames()) == 12
    kept = next(one for one in opened.images if one.split == "test")
    assert kept.key == "bad/again.png"
    assert read_csv(raw / "duplicates.csv") == [
        {
            "key": "bad/00000.png",
            "sha256": kept.sha256,
            "kind": "bytes",
            "of": "bad/again.png",
            "of_sha256": kept.sha256,
            "label": "bad",
        }
    ]


def reencode(path):
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        return encode(image, "PNG", compress_level=0)


def test_the_same_pixels_in_another_file_are_listed(images, tmp_path):
    (images / "bad" / "copy.png").write_bytes(reencode(images / "bad" / "00000.png"))
    raw = make_raw(images, tmp_path / "raw")
    (row,) = read_csv(raw / "duplicates.csv")
    assert (row["key"], row["of"], row["kind"]) == ("bad/copy.png", "bad/00000.png", "pixels")
    assert len(RawDataset.open(raw).images) == 13


@pytest.mark.parametrize("same", ["bytes", "pixels"])
def test_the_same_content_under_both_labels_is_an_error_that_lists_the_pairs(images, tmp_path, same):
    for number in range(2):
        source = images / "bad" / f"{number:05d}.png"
        data = source.read_bytes() if same == "bytes" else reencode(source)
        (images / "good" / f"wrong{number}.png").write_bytes(data)
    with pytest.raises(DataError) as caught:
        make_raw(images, tmp_path / "raw")
    assert str(caught.value).splitlines()[1:] == [
        "  Conflicting labels of exact duplicates: 2 found, and ingest.audit.both_labels is fail",
        "    bad/00000.png: bad/00000.png (bad) = good/wrong0.png (good)",
        "    bad/00001.png: bad/00001.png (bad) = good/wrong1.png (good)",
    ]
    # Only the audit is written.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "raw.audit"]
    assert str(tmp_path / "raw.audit" / "audit.html") in str(caught.value)
    assert "good/wrong0.png" in (tmp_path / "raw.audit" / "audit.html").read_text()


def test_slices_and_groups_are_kept(images, tmp_path):
    rows = [
        (f"{label}/{n:05d}.png", label, f"g{n}", "mono" if n else "") for label in ("bad", "good") for n in range(6)
    ]
    raw = RawDataset.open(make_raw(write_labels(images, rows, "path,label,group,type"), tmp_path / "raw"))
    assert raw.meta["slices"] == ["type"]
    assert {(one.key[-9:-4], one.group, one.slices) for one in raw.images} == {
        (f"{n:05d}", f"g{n}", ("mono" if n else None,)) for n in range(6)
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_bytes", 0),
        ("max_pixels", 90_000_000),
        ("min_per_class", 1),
        ("max_refused_fraction", 1.5),
        ("positive", ""),
        ("min_side", "4"),
        ("unknown", 1),
    ],
)
def test_wrong_parameters_are_named(tmp_path, key, value):
    with pytest.raises(ParameterError, match=f"ingest.{key}"):
        make_raw(tmp_path, tmp_path / "raw", **{key: value})
