"""Split leakage is found, listed, and repaired by excluding images, never by moving them; clean data stays."""

import json

import numpy as np
import pytest

from tests.support.makers import UNAUDITED, encode, file_bytes, image_record, make_prepared, make_raw, write_labels
from tests.unit.audit.test_near_duplicates import CHANGES, part
from twofold.audit.near_duplicates import NearDuplicate
from twofold.audit.split_leakage import near_duplicate_issues, sample_names, split_statistics
from twofold.core.artifacts import read_csv
from twofold.core.errors import DataError
from twofold.data.decode_cache import pixel_digest
from twofold.data.prepared import PreparedDataset

DEFAULT = {"leaks": "quarantine", "groups": "quarantine", "label_conflicts": "warn", "near_duplicates": "warn"}
SPLITS = ("train", "validation", "test")


class Folder:
    """A folder of images with a labels.csv."""

    def __init__(self, root):
        self.root, self.rows = root, []
        root.mkdir()

    def add(self, name, picture, split, label=None, group=""):
        (self.root / name).write_bytes(picture if isinstance(picture, bytes) else encode(picture))
        label = label or ("bad" if len(self.rows) % 2 else "good")
        self.rows.append((name, label, split, group))

    def prepared(self, place, **policies):
        write_labels(self.root, self.rows, "path,label,split,group")
        place.mkdir(exist_ok=True)
        raw = make_raw(self.root, place / "raw")
        return make_prepared(raw, place / "data", audit=DEFAULT | policies)


def clean(root, count=90):
    folder = Folder(root)
    for seed in range(count):
        folder.add(f"{seed:03}.png", part(seed, 1), SPLITS[seed % 3], group=f"g{seed}")
    return folder


def dirty(root):
    """One issue of each check: a leak, a conflict of labels, a near duplicate in train, and a group in two splits."""
    folder = clean(root)
    folder.add("copy.png", part(2, 1)[:, ::-1], "train", _label(2))
    folder.add("torn.png", part(3, 1)[::-1], "train", "good" if _label(3) == "bad" else "bad")
    folder.add("twice.png", part(6, 1)[::-1], "train", _label(6))
    folder.add("group.png", part(500, 1), "train", group="g1")
    return folder


def found(place, check):
    return [row for row in read_csv(place / "data.audit" / "findings.csv") if row["check"] == check]


def left_out(place):
    return {row["key"]: row["reason"] for row in read_csv(place / "data" / "left_out.csv")}


def test_clean_data_stays_as_it_is(tmp_path):
    data = clean(tmp_path / "images", 300).prepared(tmp_path / "a")
    assert len(PreparedDataset.open(data)) == 300
    assert left_out(tmp_path / "a") == {}
    assert read_csv(tmp_path / "a" / "data.audit" / "findings.csv") == []
    assert "No findings." in (tmp_path / "a" / "data.audit" / "audit.html").read_text()


def test_planted_leaks_are_found_and_left_out(tmp_path):
    folder = clean(tmp_path / "images", 240)
    kinds = list(CHANGES.values())
    for number in range(20):  # exact, as another file of the same pixels
        seed = 3 * number + 2  # of test
        folder.add(f"exact{number}.png", encode(part(seed, 1), compress_level=1), SPLITS[number % 2], _label(seed))
    for number in range(20):
        seed = 3 * (number + 20) + 2
        copy = np.ascontiguousarray(kinds[number % len(kinds)](part(seed, 1)))
        folder.add(f"near{number:02}.png", copy, SPLITS[number % 2], _label(seed))
    for number in range(10):
        folder.add(f"group{number}.png", part(1000 + number, 1), "train", group=f"g{3 * number + 1}")  # validation's
    for number in range(10):
        seed = 3 * (number + 60)  # of train, under the other label
        other = "good" if _label(seed) == "bad" else "bad"
        folder.add(f"pair{number}.png", part(seed, 1)[:, ::-1], "train", other)
    data = folder.prepared(tmp_path / "a")
    out = left_out(tmp_path / "a")
    assert {f"exact{n}.png" for n in range(20)} <= set(out)
    assert len([name for name in out if name.startswith("near")]) >= 19
    assert {f"group{n}.png" for n in range(10)} <= set(out)
    assert not [name for name in out if name[0].isdigit()], "the image furthest from training stays"
    assert len(found(tmp_path / "a", "label_conflicts")) == 10
    assert len(found(tmp_path / "a", "groups")) == 10
    listed = found(tmp_path / "a", "leaks")
    assert len(listed) >= 39
    similarity = [float(row["value"]) for row in listed]
    assert similarity == sorted(similarity, reverse=True), "the highest correlation comes first"
    images = PreparedDataset.open(data)
    assert len(images) == 300 - len(out)
    assert list(images.column("pixels")) == [pixel_digest(images.stored(row)) for row in range(len(images))]
    kept = set(images.sha256)
    assert not kept & {row["sha256"] for row in read_csv(data / "left_out.csv")}
    figures = json.loads((tmp_path / "a" / "data.json").read_text())
    assert figures["left_out"] == len(out)
    assert figures["found_groups"] == 10


def _label(seed):
    return "bad" if seed % 2 else "good"


def test_the_result_is_as_if_excluded_images_had_never_existed(tmp_path, monkeypatch):
    folder = clean(tmp_path / "images")
    expected = folder.prepared(tmp_path / "a")
    # Sorted before all others, so that the rows of those change.
    folder.add("00-copy.png", part(2, 1)[:, ::-1], "train", _label(2))
    folder.add("colour.png", np.stack([part(5, 1)] * 3, axis=2), "validation", _label(5))
    for workers in ("1", "2"):
        monkeypatch.setenv("TWOFOLD_WORKERS", workers)
        monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path / f"cache{workers}"))  # a fresh cache
        data = folder.prepared(tmp_path / workers)
        assert set(left_out(tmp_path / workers)) == {"00-copy.png", "colour.png"}
        one, other = PreparedDataset.open(expected), PreparedDataset.open(data)
        assert list(one.sha256) == list(other.sha256)
        assert one.meta["statistics"] == other.meta["statistics"]
        assert np.array_equal(one.pixels(np.arange(90)), other.pixels(np.arange(90)))
        assert sorted(p.name for p in expected.iterdir()) == sorted(p.name for p in data.iterdir())
    for folder_name in ("data", "data.audit"):
        assert file_bytes(tmp_path / "1" / folder_name) == file_bytes(tmp_path / "2" / folder_name)


def test_new_data_moves_no_image_and_a_new_test_image_excludes_its_duplicates(tmp_path):
    folder = clean(tmp_path / "images")
    before = PreparedDataset.open(folder.prepared(tmp_path / "a"))
    assert len(before) == 90
    for seed in range(200, 230):
        folder.add(f"{seed}.png", part(seed, 1), SPLITS[seed % 3], _label(seed))
    folder.add("late.png", part(3, 1)[:, ::-1], "test", _label(3))
    after = PreparedDataset.open(folder.prepared(tmp_path / "b"))
    assert left_out(tmp_path / "b") == {"003.png": "nearly the same picture as an image of test"}
    old, new = (dict(zip(one.sha256, one.split, strict=True)) for one in (before, after))
    assert len(new) == 90 - 1 + 30 + 1
    assert all(new.get(sha256, split) == split for sha256, split in old.items())


def test_policies(tmp_path):
    folder = dirty(tmp_path / "images")

    def of(name, **policies):
        folder.prepared(tmp_path / name, **policies)
        return set(left_out(tmp_path / name))

    assert of("default") == {"copy.png", "group.png"}
    assert of("warn", leaks="warn", groups="warn") == set()
    assert len(found(tmp_path / "warn", "leaks")) == 1
    everything = dict.fromkeys(DEFAULT, "quarantine")
    assert of("all", **everything) - {"006.png", "twice.png"} == {"copy.png", "group.png", "torn.png", "003.png"}
    assert len(of("all", **everything) & {"006.png", "twice.png"}) == 1
    assert of("ignore", **UNAUDITED) == set()
    assert "Checks that are turned off" in (tmp_path / "ignore" / "data.audit" / "audit.html").read_text()


@pytest.mark.parametrize("name", DEFAULT)
def test_the_policy_fail_writes_the_audit_and_no_data(name, tmp_path):
    folder = dirty(tmp_path / "images")
    with pytest.raises(DataError, match=rf"preprocess\.audit\.{name} is fail"):
        folder.prepared(tmp_path / "a", **{name: "fail"})
    assert found(tmp_path / "a", name)
    assert not (tmp_path / "a" / "data").exists()


def test_along_a_chain_only_images_that_stay_count():
    images = [image_record(split) for split in SPLITS]
    chain = [NearDuplicate(1, 2, 0.99, "as it is"), NearDuplicate(0, 1, 0.99, "as it is")]
    assert set(near_duplicate_issues(images, SPLITS, chain, DEFAULT).left_out) == {1}
    left_out = near_duplicate_issues(images, SPLITS, [*chain, NearDuplicate(0, 2, 0.98, "mirrored")], DEFAULT).left_out
    assert set(left_out) == {0, 1}
    assert left_out[0].of == images[2].sha256


def test_images_without_contrast_are_no_duplicates(tmp_path):
    folder = clean(tmp_path / "images")
    for number, level in enumerate((0, 90, 200)):
        folder.add(f"flat{number}.png", np.full((64, 64 + number), level, np.uint8), SPLITS[number])
    folder.prepared(tmp_path / "a")
    assert left_out(tmp_path / "a") == {}


def test_exact_duplicates_are_excluded_whatever_the_policy_and_not_reported_when_ignored(tmp_path):
    folder = clean(tmp_path / "images")
    folder.add("same.png", encode(part(2, 1), compress_level=1), "train", _label(2))
    folder.prepared(tmp_path / "a", **UNAUDITED)
    assert set(left_out(tmp_path / "a")) == {"same.png"}
    assert read_csv(tmp_path / "a" / "data.audit" / "findings.csv") == []
    folder.prepared(tmp_path / "b")
    assert [row["key"] for row in found(tmp_path / "b", "leaks")] == ["same.png"]


def test_statistics_of_the_splits():
    image = image_record("a", group="g", slices=("mono",))
    other = image_record("b", label="good", group="g", slices=(None,))
    tables = split_statistics([image, image, other], ["train", "test", "train"], ["good", "bad"], ["type"])
    split, by_type = tables.values()
    assert split["train"] == {"good": 1, "bad": 1, "images": 2, "share of bad": "50.0%", "groups": 1}
    assert split["validation"]["share of bad"] == "0.0%"
    assert by_type == {
        "mono": {"train": 1, "validation": 0, "test": 1},
        "none": {"train": 1, "validation": 0, "test": 0},
    }


def test_a_policy_that_changes_no_image_changes_no_byte_of_the_data(tmp_path):
    folder = clean(tmp_path / "images", 30)
    expected = file_bytes(folder.prepared(tmp_path / "a"))
    assert file_bytes(folder.prepared(tmp_path / "b", near_duplicates="ignore", leaks="fail")) == expected
    assert file_bytes(folder.prepared(tmp_path / "c", **UNAUDITED)) == expected


def units(images, splits, pairs=(), left_out=()):
    return sample_names(images, splits, [NearDuplicate(*pair, 0.99, "as it is") for pair in pairs], left_out)


def test_images_of_one_group_and_near_duplicates_within_a_split_are_one_sample():
    groups = ("p", None, "p", "q", None, None, None)
    images = [image_record(number, group=group) for number, group in enumerate(groups)]
    found = units(images, ["test"] * 7, [(4, 5)])
    assert found[0] == found[2] == "p"
    assert (found[1], found[3], found[6]) == (None, None, None)  # q has one image
    # The name does not depend on the order of the images.
    first = min((images[4], images[5]), key=lambda image: image.sha256)
    assert found[4] == found[5] == f"near duplicates of {first.sha256}"
    assert units(images[::-1], ["test"] * 7, [(1, 2)]) == found[::-1]
    assert units([], []) == []
    assert units(images[3:], ["test"] * 4) == [None] * 4


def test_chains_of_near_duplicates_join_groups():
    groups = ("p", None, None, "q", "q", "p", "r", "r")
    images = [image_record(number, group=group) for number, group in enumerate(groups)]
    found = units(images, ["test"] * 8, [(0, 1), (1, 2), (2, 3)])
    assert len(set(found[:6])) == 1
    assert found[0] is not None
    assert found[6] == found[7] == "r"


def test_pairs_across_splits_and_left_out_images_join_nothing():
    images = [image_record(number) for number in range(3)]
    assert units(images, ["test", "train", "test"], [(0, 1), (1, 2)]) == [None] * 3
    # Without the image in the middle its neighbours are samples of their own.
    assert units(images, ["test"] * 3, [(0, 1), (1, 2)], [1]) == [None] * 3
    images = [image_record(number, group="p") for number in range(3)]
    assert units(images, ["test"] * 3, left_out=[0]) == [None, "p", "p"]
    assert units(images, ["test"] * 3, left_out=[0, 1]) == [None] * 3
    # A group is one sample wherever its images are.
    assert units(images, ["test", "train", "test"]) == ["p"] * 3
