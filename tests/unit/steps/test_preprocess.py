"""preprocess: pixels, splits, statistics, and that the bytes depend on the data only."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.support.makers import (
    UNAUDITED,
    encode,
    file_bytes,
    make_folder,
    make_prepared,
    make_raw,
    pixels,
    scaled,
    write_labels,
)
from tests.test_contract import ROOT
from tests.unit.audit.test_near_duplicates import part as picture
from twofold.core.artifacts import read_csv
from twofold.core.errors import ArtifactError, DataError, ParameterError
from twofold.data import preprocessing
from twofold.data.decoding import Limits, decode
from twofold.data.prepared import PreparedDataset
from twofold.data.raw import RawDataset


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("preprocess")
    return make_raw(make_folder(folder / "images", per_class=20, size=48), folder / "raw")


def test_serving_makes_the_same_pixels_from_the_same_bytes(raw, tmp_path):
    prepared = PreparedDataset.open(make_prepared(raw, tmp_path / "data", fit="crop"))
    recipe = prepared.meta["pixels"]
    opened = RawDataset.open(raw)
    assert len(prepared) == 40
    for row, one in enumerate(opened.images):
        assert prepared.sha256[row] == one.sha256
        decoded = decode(opened.read(one), Limits(**recipe["limits"]))
        expected = scaled(decoded.pixels, recipe["image_size"], recipe["fit"])
        np.testing.assert_array_equal(prepared.pixels([row])[0], expected)
        assert prepared.target[row] == (one.label == "bad")


def test_the_number_of_workers_changes_no_byte(raw, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(preprocessing, "_TASK_IMAGES", 3)  # enough tasks for another order
    for workers in ("1", "3"):
        monkeypatch.setenv("TWOFOLD_WORKERS", workers)
        monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path / f"cache{workers}"))  # each run computes everything
        made.append(file_bytes(make_prepared(raw, tmp_path / workers)))
    assert made[0] == made[1]
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "3.json").read_bytes()


def test_tasks_that_run_at_the_same_time_are_far_apart():
    assert preprocessing._apart(7, 1) == list(range(7))
    assert preprocessing._apart(7, 2) == [0, 4, 1, 5, 2, 6, 3]
    assert preprocessing._apart(2, 5) == [0, 1]
    assert preprocessing._apart(0, 2) == []
    assert sorted(preprocessing._apart(1000, 7)) == list(range(1000))


def test_statistics_are_those_of_train_alone(raw, tmp_path):
    prepared = PreparedDataset.open(make_prepared(raw, tmp_path / "data"))
    train = prepared.pixels(prepared.rows("train")) / 255
    assert prepared.meta["statistics"]["mean"] == pytest.approx([train.mean()], abs=1e-12)
    assert prepared.meta["statistics"]["std"] == pytest.approx([train.std()], abs=1e-9)


def test_grey_stays_one_channel_and_is_repeated_beside_colour(tmp_path):
    images = make_folder(tmp_path / "images", per_class=10, size=16)
    for number in range(10):
        rng = np.random.default_rng([9, number])
        (images / "bad" / f"colour{number}.png").write_bytes(encode(pixels(rng, 16, True, channels=3)))
    prepared = PreparedDataset.open(make_prepared(make_raw(images, tmp_path / "raw"), tmp_path / "data"))
    channels = prepared.column("channels")
    assert sorted(channels) == [1] * 20 + [3] * 10
    assert [np.load(path).shape for path in sorted((tmp_path / "data").glob("part-*.npy"))] == [
        (20, 32, 32, 1),
        (10, 32, 32, 3),
    ]
    every = prepared.pixels(range(30))
    assert every.shape == (30, 32, 32, 3)
    same = (every == every[..., :1]).all((1, 2, 3))
    np.testing.assert_array_equal(same, channels == 1)
    train = prepared.pixels(prepared.rows("train")) / 255
    assert prepared.meta["statistics"]["mean"] == pytest.approx(train.mean((0, 1, 2)), abs=1e-12)
    assert prepared.meta["statistics"]["std"] == pytest.approx(train.std((0, 1, 2)), abs=1e-9)


def test_growing_the_data_in_three_steps_gives_the_same_splits_as_all_at_once(tmp_path):
    found = []
    for count in (14, 22, 40):
        images = make_folder(tmp_path / "images", per_class=count, size=16)
        raw = make_raw(images, tmp_path / f"raw{count}")
        prepared = PreparedDataset.open(make_prepared(raw, tmp_path / f"data{count}"))
        found.append(dict(zip(prepared.sha256, prepared.split, strict=True)))
    assert len(found[2]) == 80
    for part in found[:2]:
        assert part == {sha256: found[2][sha256] for sha256 in part}


def test_another_validation_share_leaves_test_alone(raw, tmp_path):
    tests = []
    for share in (0.2, 0.4):
        prepared = PreparedDataset.open(make_prepared(raw, tmp_path / str(share), validation_fraction=share))
        tests.append(list(prepared.sha256[prepared.rows("test")]))
    assert tests[0] == tests[1]


def test_a_duplicate_of_a_test_image_is_left_out_of_train_and_listed(tmp_path):
    images = make_folder(tmp_path / "images", per_class=6, size=16)
    from PIL import Image

    with Image.open(images / "bad" / "00000.png") as image:
        (images / "bad" / "copy.png").write_bytes(encode(image, compress_level=0))
    splits = ["test", "validation", "train"] * 4
    rows = [(f"{label}/{n:05d}.png", label, splits[n], f"g{n % 2}") for label in ("bad", "good") for n in range(6)]
    write_labels(images, [*rows, ("bad/copy.png", "bad", "train", "")], "path,label,split,group")
    raw = make_raw(images, tmp_path / "raw")
    prepared = PreparedDataset.open(make_prepared(raw, tmp_path / "data"))
    (row,) = read_csv(tmp_path / "data" / "left_out.csv")
    original = next(one.sha256 for one in RawDataset.open(raw).images if one.key == "bad/00000.png")
    assert (row["key"], row["split"], row["of"]) == ("bad/copy.png", "train", original)
    assert row["reason"] == "same pixels as an image of test"
    assert row["sha256"] not in prepared.sha256
    assert prepared.split[list(prepared.sha256).index(original)] == "test"
    assert len(prepared) == 12
    figures = json.loads((tmp_path / "data.json").read_text())
    assert (figures["left_out"], figures["groups_in_several_splits"], figures["test"]) == (1, 2, 4)


def test_every_split_needs_both_classes(raw, tmp_path):
    with pytest.raises(DataError, match=r"every split needs both classes.*test: 0 good, 0 bad"):
        make_prepared(raw, tmp_path / "data", test_fraction=0.0)
    assert not (tmp_path / "data").exists()


def test_index_and_meta(tmp_path):
    images = make_folder(tmp_path / "images", per_class=6, size=16)
    splits = ["test", "validation", "train"] * 2
    rows = [(f"{label}/{n:05d}.png", label, splits[n], "mono") for label in ("bad", "good") for n in range(6)]
    raw = make_raw(write_labels(images, rows, "path,label,split,type"), tmp_path / "raw")
    prepared = PreparedDataset.open(make_prepared(raw, tmp_path / "data"))
    given = {one.sha256: one.split for one in RawDataset.open(raw).images}
    assert dict(zip(prepared.sha256, prepared.split, strict=True)) == given
    assert set(prepared.column("slice.type")) == {"mono"}
    assert set(prepared.column("width")) == {16}
    assert prepared.meta["counts"]["test"] == {"good": 2, "bad": 2}
    assert prepared.meta["fingerprint"] == RawDataset.open(raw).meta["fingerprint"]


def test_near_duplicates_that_stay_within_the_test_share_a_unit(tmp_path):
    (tmp_path / "images").mkdir()
    rows = []
    for number in range(15):
        split, label = ("train", "validation", "test")[number % 3], ("good", "bad")[number % 2]
        for name, image in (("", picture(number)), ("-again", picture(number)[::-1])):
            if not name or number in (5, 6):  # of the test, and of train
                rows.append((f"{number}{name}.png", label, split, "a" if number in (8, 11) else ""))
                (tmp_path / "images" / rows[-1][0]).write_bytes(encode(image))
    raw = make_raw(write_labels(tmp_path / "images", rows, "path,label,split,group"), tmp_path / "raw")
    prepared = PreparedDataset.open(make_prepared(raw, tmp_path / "data", audit=UNAUDITED | {"leaks": "warn"}))
    key = {image.sha256: image.key for image in RawDataset.open(raw).images}
    shared = {}
    for sha256, unit in zip(prepared.sha256, prepared.column("unit"), strict=True):
        shared.setdefault(unit, set()).add(key[sha256])
    assert len(shared.pop(None)) == 15 + 2 - 6
    assert shared.pop("a") == {"8.png", "11.png"}
    assert sorted(map(sorted, shared.values())) == [["5-again.png", "5.png"], ["6-again.png", "6.png"]]


def test_the_command_warns_of_gates_that_the_test_cannot_prove(raw, tmp_path):
    outputs = [f"--{name}={tmp_path / name}" for name in ("data", "metrics", "audit")]
    command = [sys.executable, "-m", "twofold.steps.preprocess", "--params=tests/params.yaml", f"--raw={raw}", *outputs]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    said = done.stderr[done.stderr.index("preprocess: train ") :].splitlines()
    assert said[1].startswith("preprocess: warning: roc_auc, lower bound, at least 0.85: even a perfect model fails")
    assert "would be enough: add images, raise preprocess.test_fraction" in said[1]


def test_parameters_that_leave_nothing_to_train_are_refused(raw, tmp_path):
    with pytest.raises(ParameterError, match="below 1"):
        make_prepared(raw, tmp_path / "data", test_fraction=0.5, validation_fraction=0.5)
    with pytest.raises(ParameterError, match=r"preprocess\.fit"):
        make_prepared(raw, tmp_path / "data", fit="stretch")


def test_bytes_that_changed_since_ingest_fail_the_step(tmp_path):
    raw = make_raw(make_folder(tmp_path / "images", per_class=8, size=16), tmp_path / "raw")
    shard = raw / "images-00000.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="run ingest again"):
        make_prepared(raw, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the patch reaches workers only if they are forked, as on Linux")
def test_the_file_that_ends_a_worker_is_named(raw, tmp_path, monkeypatch):
    from twofold.data import preprocessing

    fatal = RawDataset.open(raw).images[7]
    content = RawDataset.open(raw).read(fatal)
    prepare = preprocessing.prepare
    monkeypatch.setenv("TWOFOLD_WORKERS", "2")
    monkeypatch.setattr(
        preprocessing, "prepare", lambda data, *_: os._exit(3) if data == content else prepare(data, *_)
    )
    with pytest.raises(DataError, match=rf"files end a process that reads them alone.*\n  {fatal.key}: .*status 3$"):
        make_prepared(raw, tmp_path / "data")
    assert not (tmp_path / "data").exists()
