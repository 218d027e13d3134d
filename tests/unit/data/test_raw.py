"""Manifest, fingerprint and shards of data/raw."""

import hashlib
import subprocess
import tarfile

import pytest

from tests.support.makers import image_record
from twofold.core.artifacts import read_csv
from twofold.core.errors import ArtifactError
from twofold.data.raw import Duplicate, QuarantinedFile, RawDataset, fingerprint, write_tables
from twofold.data.shards import ShardWriter

FILES = [bytes([number]) * size for number, size in enumerate((700, 512, 1, 5000, 1023))]


def image(data, place):
    shard, offset = place
    values = {"sha256": hashlib.sha256(data).hexdigest(), "key": f"k{data[0]}", "bytes": len(data), "slices": ("x",)}
    return image_record(data[0], **values, shard=shard, offset=offset)


@pytest.fixture
def raw(tmp_path):
    shards = ShardWriter(tmp_path, limit=4096)
    images = [image(data, shards.add(f"{data[0]}.png", data)) for data in FILES]
    shards.close()
    images[0] = images[0]._replace(label="good", group="g", split=None)
    write_tables(tmp_path, images, [], [], labels=("good", "bad"), slices=["type"], params={"min_side": 1})
    return tmp_path


def test_written_images_are_read_back(raw):
    opened = RawDataset.open(raw)
    assert [i.sha256 for i in opened.images] == sorted(hashlib.sha256(data).hexdigest() for data in FILES)
    by_key = {i.key: i for i in opened.images}
    assert [opened.read(by_key[f"k{data[0]}"]) for data in FILES] == FILES
    assert (by_key["k0"].label, by_key["k0"].group, by_key["k0"].slices) == ("good", "g", ("x",))
    assert opened.meta["counts"] == {"good": 1, "bad": 4}
    assert opened.meta["positive"] == "bad"


def test_shards_are_tar_files_of_a_bounded_size(raw):
    paths = sorted(raw.glob("images-*.tar"))
    assert [path.name for path in paths] == ["images-00000.tar", "images-00001.tar", "images-00002.tar"]
    members = []
    for path in paths:
        listed = subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True)
        assert listed.stderr == ""
        members += listed.stdout.split()
        assert path.stat().st_size % 10240 == 0
        with tarfile.open(path) as tar:
            assert all((m.mtime, m.uid, m.gid, m.mode) == (0, 0, 0, 0o644) for m in tar)
    assert members == [f"{number}.png" for number in range(5)]


def test_more_data_leaves_full_shards_as_they_were(raw, tmp_path):
    more = tmp_path / "more"
    more.mkdir()
    shards = ShardWriter(more, limit=4096)
    for data in [*FILES, b"\x09" * 900]:
        shards.add(f"{data[0]}.png", data)
    shards.close()
    for name in ("images-00000.tar", "images-00001.tar"):
        assert (more / name).read_bytes() == (raw / name).read_bytes()


def test_a_changed_byte_is_detected_when_it_is_read(raw):
    opened = RawDataset.open(raw)
    path = raw / "images-00000.tar"
    data = bytearray(path.read_bytes())
    data[opened.images[0].offset if opened.images[0].shard == 0 else 600] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="do not have the SHA-256"):
        for one in opened.images:
            opened.read(one)
    path.unlink()
    with pytest.raises(ArtifactError, match="No such file"):
        opened.read(next(one for one in opened.images if one.shard == 0))


def test_a_manifest_that_does_not_match_meta_json_is_refused(raw):
    opened = RawDataset.open(raw)
    images = [one._replace(label="bad") for one in opened.images]
    meta = (raw / "meta.json").read_bytes()
    write_tables(raw, images, [], [], labels=("good", "bad"), slices=["type"], params={})
    (raw / "meta.json").write_bytes(meta)
    with pytest.raises(ArtifactError, match="fingerprint"):
        RawDataset.open(raw)
    (raw / "manifest.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"does not match meta\.json"):
        RawDataset.open(raw)
    (raw / "meta.json").unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        RawDataset.open(raw)


BASE = [image(data, (0, 0)) for data in FILES]


def test_the_fingerprint_ignores_order_keys_and_shards():
    moved = [one._replace(key="z" + one.key, shard=7, offset=9, bytes=1, mode="P") for one in reversed(BASE)]
    assert fingerprint(moved, ["type"]) == fingerprint(BASE, ["type"])


@pytest.mark.parametrize(
    "change", [{"label": "good"}, {"group": "g"}, {"split": "test"}, {"slices": ("y",)}, {"sha256": "0" * 64}]
)
def test_the_fingerprint_covers_content_labels_groups_splits_and_slices(change):
    changed = [BASE[0]._replace(**change), *BASE[1:]]
    assert fingerprint(changed, ["type"]) != fingerprint(BASE, ["type"])
    assert fingerprint(BASE, ["kind"]) != fingerprint(BASE, ["type"])


def test_lists_are_sorted_and_read_back(tmp_path):
    duplicates = [Duplicate("b", "1", "bytes", "a", "1", "x"), Duplicate('a,"c', "2", "pixels", "a", "1", "x")]
    quarantined = [QuarantinedFile("k", "bad", "refused", "two\nlines", "")]
    write_tables(tmp_path, BASE, duplicates, quarantined, labels=("a", "b"), slices=["type"], params={})
    assert [Duplicate(**row) for row in read_csv(tmp_path / "duplicates.csv")] == sorted(duplicates)
    assert [QuarantinedFile(**row) for row in read_csv(tmp_path / "quarantine.csv")] == quarantined
    with pytest.raises(ArtifactError, match="No such file"):
        read_csv(tmp_path / "none.csv")
