"""DVC with S3: push and pull, a revision read from the remote, and `dvc repro` on a growing bucket."""

import hashlib
import json
import os
import shutil
import subprocess

import pytest

from tests.pipeline.conftest import ROOT, Project
from tests.support.dvc_case import DVC, command, make_repository, manifest
from tests.support.makers import make_folder, make_raw
from tests.support.s3_case import fill, png
from tests.support.tools.servers import SECRET
from twofold.core.errors import SourceError
from twofold.orchestration.params_file import set_values

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory, store, address):
    root = tmp_path_factory.mktemp("template") / "repository"
    store.create_bucket(Bucket="dvc")
    before = dict(os.environ)
    os.environ |= {"AWS_ACCESS_KEY_ID": "key-of-the-tests", "AWS_SECRET_ACCESS_KEY": SECRET}
    try:
        return make_repository(root, "s3://dvc/store", {"endpointurl": address})
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def clone(template, tmp_path, monkeypatch):
    """A clone without a cache, so that it reads from the remote."""
    monkeypatch.setattr("twofold.sources.base.PAUSE", 0.01)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    command(tmp_path, "git", "clone", "-q", str(template), "clone")
    return tmp_path / "clone"


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def object_of(clone, template, number=3):
    _, rows = manifest(template)
    md5 = rows[number]["md5"]
    return rows[number]["relpath"], md5, {"Bucket": "dvc", "Key": f"store/files/md5/{md5[:2]}/{md5[2:]}"}


def test_pull_returns_the_pushed_bytes_and_detects_corruption(clone, template, store):
    command(clone, "dvc", "pull", "-q")
    assert files(clone / "data" / "images") == files(template / "data" / "images")
    shutil.rmtree(clone / ".dvc" / "cache")
    shutil.rmtree(clone / "data" / "images")
    _, _, place = object_of(clone, template)
    whole = store.get_object(**place)["Body"].read()
    store.put_object(**place, Body=bytes([whole[0] ^ 1]) + whole[1:])
    try:
        done = subprocess.run([DVC, "pull"], cwd=clone, capture_output=True, text=True)
    finally:
        store.put_object(**place, Body=whole)
    assert done.returncode != 0


def test_a_version_is_read_from_the_remote(clone, template, tmp_path, store, monkeypatch):
    folder = make_folder(tmp_path / "images", per_class=12, size=24)
    expected = files(make_raw(folder, tmp_path / "a"))
    monkeypatch.setenv("TWOFOLD_WORKERS", "2")
    assert files(make_raw(f"dvc+{clone}@v1:data/images", tmp_path / "b")) == expected
    # By the repository's address, as a cluster does.
    assert files(make_raw(f"dvc+file://{template}@v1:data/images", tmp_path / "c")) == expected
    assert not (clone / ".dvc" / "cache").exists()


def test_corrupt_and_missing_objects_are_named(clone, template, tmp_path, store):
    key, md5, place = object_of(clone, template)
    whole = store.get_object(**place)["Body"].read()
    try:
        store.put_object(**place, Body=bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(SourceError, match=rf"{key}: the DVC remote store gave other bytes.*{md5} \(tried 4"):
            make_raw(f"dvc+{clone}@v2:data/images", tmp_path / "raw")
        store.delete_object(**place)
        with pytest.raises(SourceError, match=rf"{key} \(md5 {md5}\) is not in the DVC remote store; dvc push it"):
            make_raw(f"dvc+{clone}@v2:data/images", tmp_path / "raw")
    finally:
        store.put_object(**place, Body=whole)
    assert not (tmp_path / "raw").exists()


def test_wrong_credentials_are_named_and_not_shown(clone, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(SourceError, match="the DVC remote store denies access") as caught:
        make_raw(f"dvc+{clone}@v1:data/images", tmp_path / "raw")
    assert "another-secret" not in str(caught.value)


def test_repro_notices_a_new_object_and_runs_nothing_without_one(store, tmp_path):
    images = make_folder(tmp_path / "images", per_class=12, size=24)
    fill(store, "growing", images, "parts/")
    project = Project(tmp_path / "project")
    project.root.mkdir()
    for name in ("dvc.yaml", "twofold", ".dvcignore"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, project.root / name)
    shutil.copy(ROOT / "tests" / "params.yaml", project.root / "params.yaml")
    set_values(project.root / "params.yaml", ["ingest.source=s3://growing/parts", "ingest.positive=bad"])
    project.run("dvc", "init", "--no-scm", "-q")
    project.run("dvc", "repro", "ingest")
    first = json.loads((project.root / "reports" / "ingest.json").read_text())
    assert "Running stage" not in project.run("dvc", "repro", "ingest").stdout
    store.put_object(Bucket="growing", Key="parts/good/new.png", Body=png(99))
    project.run("dvc", "repro", "ingest")
    assert json.loads((project.root / "reports" / "ingest.json").read_text())["images"] == first["images"] + 1 == 25
    assert hashlib.sha256(png(99)).hexdigest().encode() in (project.root / "data/raw/images-00000.tar").read_bytes()
