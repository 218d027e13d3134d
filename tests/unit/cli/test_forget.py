"""`twofold forget`: an image is removed for good."""

import base64
import hashlib
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.makers import UNAUDITED, encode, file_bytes, make_folder, make_prepared, make_raw, write_labels
from twofold.cli.forget import forget, holds
from twofold.core.artifacts import read_csv, write_csv
from twofold.core.errors import DataError
from twofold.data.prepared import PreparedDataset
from twofold.data.raw import RawDataset
from twofold.storage import cache, cache_sqlite

KEY = "bad/00003.png"
POLICIES = "preprocess:\n  audit:\n" + "".join(f"    {name}: {policy}\n" for name, policy in UNAUDITED.items())


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the source folder `images`."""
    monkeypatch.delenv("TWOFOLD_CACHE", raising=False)
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    make_folder(root / "images", per_class=15, size=16)
    (root / "params.yaml").write_text("ingest:\n  source: images\n" + POLICIES)
    (root / "reports").mkdir()
    make_prepared(make_raw(root / "images", root / "data" / "raw"), root / "data" / "prepared")
    shutil.copytree(root / "data" / "prepared.audit", root / "reports" / "audit" / "preprocess")
    shutil.rmtree(root / "data" / "prepared.audit")
    return root


def sha256_of(root, key=KEY):
    return hashlib.sha256((root / "images" / key).read_bytes()).hexdigest()


def files_with(folder, needles):
    return [name for name, data in file_bytes(folder).items() if any(needle in data for needle in needles)]


def test_raw_and_prepared_data_become_those_of_a_run_without_the_file(project, tmp_path):
    sha256 = sha256_of(project)
    prepared = PreparedDataset.open(project / "data" / "prepared")
    row = prepared.pixels([list(prepared.sha256).index(sha256)]).tobytes()
    file = (project / "images" / KEY).read_bytes()
    assert files_with(project / "data", [row])
    text = forget(sha256, project)
    assert files_with(project / "data", [row, file, sha256.encode(), KEY.encode()]) == []
    assert sha256 not in PreparedDataset.open(project / "data" / "prepared").sha256
    assert f"images/{KEY}" in text
    assert (project / "images" / KEY).exists()  # it is named and not deleted
    (project / "images" / KEY).unlink()
    raw = make_raw(project / "images", tmp_path / "raw")
    assert file_bytes(project / "data" / "raw") == file_bytes(raw)
    assert file_bytes(project / "data" / "prepared") == file_bytes(make_prepared(raw, tmp_path / "prepared"))


def test_every_other_image_stays_readable(project):
    forget(sha256_of(project), project)
    raw = RawDataset.open(project / "data" / "raw")
    assert {one.key for one in raw.images} == set(file_bytes(project / "images")) - {KEY}
    assert all(raw.read(one) for one in raw.images)


def test_its_row_in_the_versions_of_a_bucket_is_removed_and_the_object_is_named(project):
    keys = sorted(image.key for image in RawDataset.open(project / "data" / "raw").images)
    write_csv(project / "data" / "raw" / "versions.csv", ("key", "version"), [(key, "v1") for key in keys])
    sha256 = sha256_of(project)
    (project / "params.yaml").write_text("ingest:\n  source: s3://bucket/parts\n" + POLICIES)
    assert "if it is in s3://bucket/parts" in forget(sha256, project)
    left = read_csv(project / "data" / "raw" / "versions.csv")
    assert left == [{"key": key, "version": "v1"} for key in keys if key != KEY]


def test_cache_entries_are_removed(project):
    sha256 = sha256_of(project)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        cache.store([(cache.key("a"), sha256, b"secret features"), (cache.key("b"), "0" * 64, b"others")], "features")
    text = forget(sha256, project)
    assert "cache: 3 entries" in text  # with the decoded file of ingest and the pixels of preprocess
    left = (project / cache_sqlite.database()).read_bytes()
    assert b"secret features" not in left
    assert b"others" in left


def test_reports_that_list_or_show_it_are_deleted(project):
    sha256 = sha256_of(project)
    reports = project / "reports"
    for name in ("evaluation", "registration", "other"):
        (reports / name).mkdir()
    pq.write_table(pa.table({"sha256": ["0" * 64, sha256]}), reports / "evaluation" / "predictions.parquet")
    picture = base64.b64encode((project / "images" / KEY).read_bytes()).decode()
    (reports / "registration" / "decision.html").write_text(f"<img src='data:image/png;base64,{picture}'>")
    (reports / "page.html").write_text(f"the worst error: {sha256[:12]}")
    (reports / "other" / "metrics.json").write_text("{}")
    (reports / "metrics.json").write_text("{}")
    text = forget(sha256, project)
    audit = [
        f"audit/preprocess/{name}" for name in ("audit.html", "audit.json", "findings.csv", "meta.json", "names.csv")
    ]
    assert sorted(file_bytes(reports)) == [*audit, "metrics.json", "other/metrics.json", "preprocess.json"]
    for name in ("evaluation", "registration", "page.html"):
        assert f"reports/{name}: deleted; `twofold run` makes it again" in text


def test_other_reports_stay(project):
    evaluation = project / "reports" / "evaluation"
    evaluation.mkdir()
    pq.write_table(pa.table({"sha256": ["0" * 64]}), evaluation / "predictions.parquet")
    forget(sha256_of(project), project)
    assert evaluation.exists()


def test_files_that_it_cannot_delete_are_named(project):
    sha256 = sha256_of(project)
    cache = project / ".dvc" / "cache" / "files" / "md5" / "ab"
    cache.mkdir(parents=True)
    shutil.copy(project / "data" / "raw" / "images-00000.tar", cache / "shard")
    shutil.copy(project / "images" / KEY, cache / "image")
    shutil.copy(project / "images" / "bad" / "00004.png", cache / "other")
    recorded = project / "mlartifacts" / "1" / "run"
    recorded.mkdir(parents=True)
    (recorded / "evaluation.html").write_text(sha256[:12])
    text = forget(sha256, project)
    paths = [f".dvc/cache/files/md5/ab/{name}" for name in ("shard", "image")] + ["mlartifacts/1/run/evaluation.html"]
    for words in ("2 files in DVC's cache hold it", *paths, "dvc gc --workspace --force"):
        assert words in text
    assert "ab/other" not in text
    again = forget(sha256, project)
    assert again.startswith("Nothing left to remove here.")
    assert f"images/{KEY}" in again


def test_other_files_with_the_same_pixels_are_named(tmp_path):
    (tmp_path / "params.yaml").write_text(POLICIES)
    images = make_folder(tmp_path / "images", per_class=15, size=16)
    with Image.open(images / KEY) as image:
        (images / "bad" / "copy.png").write_bytes(encode(image, compress_level=0))
    raw = make_raw(images, tmp_path / "data" / "raw")
    make_prepared(raw, tmp_path / "data" / "prepared")
    duplicate = sha256_of(tmp_path, "bad/copy.png")
    assert f"forget them too: {duplicate}" in forget(sha256_of(tmp_path), tmp_path)
    assert (raw / "duplicates.csv").read_text().count("\n") == 1
    assert duplicate in PreparedDataset.open(tmp_path / "data" / "prepared").sha256


def test_prepared_data_that_cannot_be_made_again_are_deleted(tmp_path):
    (tmp_path / "params.yaml").write_text(POLICIES)
    images = make_folder(tmp_path / "images", per_class=3, size=16)
    splits = ["test", "validation", "train"]
    rows = [(f"{label}/{n:05d}.png", label, splits[n]) for label in ("bad", "good") for n in range(3)]
    raw = make_raw(write_labels(images, rows, "path,label,split"), tmp_path / "data" / "raw")
    make_prepared(raw, tmp_path / "data" / "prepared")
    text = forget(sha256_of(tmp_path, "bad/00002.png"), tmp_path)
    assert not (tmp_path / "data" / "prepared").exists()
    assert "data/prepared: deleted" in text


def test_a_refused_file_is_forgotten_too(project):
    data = b"private, but no image"
    (project / "images" / "bad" / "broken.png").write_bytes(data)
    raw = make_raw(project / "images", project / "data" / "raw", max_refused_fraction=0.5)
    assert b"broken" in (raw / "quarantine.csv").read_bytes()
    forget(hashlib.sha256(data).hexdigest(), project)
    assert b"broken" not in (raw / "quarantine.csv").read_bytes()
    assert len(RawDataset.open(raw).images) == 30


def test_an_unknown_image_and_a_text_that_is_no_sha256_are_errors(project):
    with pytest.raises(DataError, match="no image 000"):
        forget("0" * 64, project)
    for wrong in ("", "abc", "G" * 64, "0" * 63):
        with pytest.raises(DataError, match="is not a SHA-256"):
            forget(wrong, project)


def test_a_sha256_across_two_blocks_is_found(tmp_path):
    name = "0123456789ab" + "0" * 52
    (tmp_path / "file").write_bytes(b"x" * ((1 << 20) - 5) + name.encode())
    assert holds(tmp_path / "file", name)
    assert not holds(tmp_path / "file", "1" * 64)
