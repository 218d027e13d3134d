"""Planted data issues: what the audits of ingest and preprocess find of them."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.support.makers import encode, make_prepared, make_raw, write_labels
from tests.unit.audit.test_near_duplicates import CHANGES, part
from twofold.core.artifacts import read_csv
from twofold.data.prepared import PreparedDataset
from twofold.data.raw import RawDataset

SPLITS = ("train", "validation", "test")
COUNT = 450
PARAMS = yaml.safe_load(Path("tests/params.yaml").read_text(encoding="utf-8"))


class Source:
    """A folder with a labels.csv, written by `run`."""

    def __init__(self, root, darker):
        self.root, self.darker, self.rows, self.place = root / "images", darker, {}, root
        self.root.mkdir(parents=True)
        for seed in range(COUNT):
            self.add(f"{seed:04}.png", self.picture(seed), seed, group=f"g{seed}")

    def picture(self, seed):
        """A picture of its own; if `darker`, the bad ones are darker: a spurious correlation."""
        return (part(seed, 1) * (0.8 if self.darker and label_of(seed) == "bad" else 1)).astype(np.uint8)

    def add(self, name, picture, like, *, split="", label="", group=""):
        (self.root / name).write_bytes(picture if isinstance(picture, bytes) else encode(picture))
        self.rows[name] = (name, label or label_of(like), split or SPLITS[like % 3], group or f"of {name}")

    def run(self):
        """Ingest and preprocess with the default policies, but with label conflicts quarantined."""
        write_labels(self.root, self.rows.values(), "path,label,split,group")
        policies = PARAMS["ingest"]["audit"] | {"both_labels": "quarantine"}
        raw = make_raw(self.root, self.place / "raw", audit=policies)
        make_prepared(raw, self.place / "data", image_size=64, audit=PARAMS["preprocess"]["audit"])
        self.found = defaultdict(list)
        for step in ("raw", "data"):
            for row in read_csv(self.place / f"{step}.audit" / "findings.csv"):
                self.found[row["check"]].append(row)
        self.left_out = {row["key"] for row in read_csv(self.place / "data" / "left_out.csv")}
        self.prepared = PreparedDataset.open(self.place / "data")
        return self


def label_of(seed):
    return "bad" if seed // 3 % 2 else "good"


def other(seed):
    return "good" if label_of(seed) == "bad" else "bad"


def of_test(number):
    """The seed of a test image."""
    return 3 * number + 2


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return Source(tmp_path_factory.mktemp("clean"), darker=False).run()


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    source = Source(tmp_path_factory.mktemp("dirty"), darker=True)
    for number in range(20):  # the same file, or another file of the same pixels, in train or validation
        seed = of_test(number)
        file = encode(source.picture(seed), compress_level=1) if number % 2 else source.picture(seed)
        source.add(f"exact{number:02}.png", file, seed, split=SPLITS[number // 2 % 2])
    for number in range(20):
        seed = of_test(20 + number)
        copy = list(CHANGES.values())[number % len(CHANGES)](source.picture(seed))
        source.add(f"near{number:02}.png", np.ascontiguousarray(copy), seed, split=SPLITS[number % 2])
    for number in range(10):  # another image of a group of test
        group = f"g{of_test(50 + number)}"
        source.add(f"group{number}.png", source.picture(1000 + number), 1000, split="train", group=group)
    for number in range(10):  # the same file under the other label
        seed = 3 * (10 + number)
        source.add(f"torn{number}.png", source.picture(seed), seed, label=other(seed))
    for number in range(10):  # nearly the same picture under the other label
        seed = 3 * (30 + number)
        mirrored = np.ascontiguousarray(source.picture(seed)[:, ::-1])
        source.add(f"conflict{number}.png", mirrored, seed, label=other(seed))
    return source.run()


def keys_of(source):
    """The keys of the images in a split."""
    kept = set(source.prepared.sha256)
    return {image.key for image in RawDataset.open(source.place / "raw").images if image.sha256 in kept}


def keys(rows):
    return {row["key"] for row in rows}


def test_of_clean_data_at_most_one_percent_is_flagged(clean):
    flagged = {row["key"] for rows in clean.found.values() for row in rows}
    assert len(flagged) <= COUNT // 100, {check: len(rows) for check, rows in clean.found.items()}
    assert not clean.found["readable_label"]
    assert len(clean.prepared) >= 0.99 * COUNT


def test_all_exact_duplicates_are_found_and_none_is_in_a_split_beside_its_original(dirty):
    repeated = keys(dirty.found["exact_duplicates"]) | keys(dirty.found["leaks"])
    assert {f"exact{number:02}.png" for number in range(20)} <= repeated
    kept = dict(zip(dirty.prepared.sha256, dirty.prepared.split, strict=True))
    rows = {row["key"]: row for row in dirty.found["leaks"]}
    for number in range(20):
        assert f"exact{number:02}.png" not in keys_of(dirty)
    for number in range(1, 20, 2):
        row = rows[f"exact{number:02}.png"]
        assert row["sha256"] not in kept
        assert kept[row["of"]] == "test"
        assert row["detail"].startswith("same pixels as an image of test")


def test_nineteen_of_twenty_near_duplicates_are_found_and_left_out(dirty):
    planted = {f"near{number:02}.png" for number in range(20)}
    assert len(planted & keys(dirty.found["leaks"])) >= 19
    assert len(planted & dirty.left_out) >= 19
    assert not [key for key in dirty.left_out if key[0].isdigit()], "the image of the test split stays"


def test_all_groups_in_two_splits_are_found(dirty):
    planted = {f"group{number}.png" for number in range(10)}
    assert keys(dirty.found["groups"]) == planted
    assert planted <= dirty.left_out


def test_all_label_conflicts_are_found(dirty):
    details = " ".join(row["detail"] for row in dirty.found["both_labels"])
    assert len(dirty.found["both_labels"]) == 10
    assert all(f"torn{number}.png" in details for number in range(10))
    conflicts = dirty.found["label_conflicts"]
    assert len(conflicts) == 10
    details = " ".join(row["key"] + row["detail"] for row in conflicts)
    assert all(f"conflict{number}.png" in details for number in range(10))


def test_a_spurious_correlation_with_brightness_is_reported(dirty):
    assert [row for row in dirty.found["readable_label"] if "brightness" in row["detail"]]


def test_at_most_one_percent_of_the_other_images_is_flagged(dirty):
    # The original image of each planted label conflict.
    expected = {f"{seed:04}.png" for number in range(10) for seed in (3 * (10 + number), 3 * (30 + number))}
    flagged = {row["key"] for rows in dirty.found.values() for row in rows if row["key"]}
    assert len([key for key in flagged - expected if key[0].isdigit()]) <= COUNT // 100
    figures = json.loads((dirty.place / "data.json").read_text())
    assert figures["left_out"] == len(dirty.left_out)
