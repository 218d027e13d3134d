"""A revision of a DVC repository as the source: verified by MD5, and nothing is written outside data/raw."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.support.dvc_case import command, keep, make_repository, manifest
from tests.support.makers import encode, make_folder, make_raw, pixels
from twofold.core.artifacts import read_csv
from twofold.core.errors import DataError, SourceError
from twofold.data.raw import RawDataset
from twofold.sources.dvc_repo import DvcSource
from twofold.sources.factory import open_source
from twofold.sources.version import read_source_version


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("template")
    make_repository(root / "repository", "../remote")
    return root


@pytest.fixture
def repository(template, tmp_path, monkeypatch):
    monkeypatch.setattr("twofold.sources.base.PAUSE", 0.01)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    for name in ("repository", "remote"):
        shutil.copytree(template / name, tmp_path / name)
    return tmp_path / "repository"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def objects(place):
    """The files of a cache or a remote, by their MD5."""
    return {path.parent.name + path.name: path for path in (place / "files" / "md5").glob("??/*")}


def snapshot(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if "site" not in path.parts}


def test_a_revision_has_the_same_bytes_as_its_folder(repository, tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "images", per_class=12, size=24)
    address = f"dvc+{repository}@v1:data/images"
    expected = files(make_raw(folder, tmp_path / "a"))
    shutil.rmtree(repository / "data" / "images")  # nothing is read from the checkout
    monkeypatch.setenv("TWOFOLD_WORKERS", "2")
    assert files(make_raw(address, tmp_path / "b")) == expected
    shutil.rmtree(repository / ".dvc" / "cache")  # and the cache is not needed
    assert files(make_raw(address, tmp_path / "c")) == expected
    assert len(RawDataset.open(make_raw(f"dvc+{repository}@v2:data/images", tmp_path / "d")).images) == 23
    # A clone is in another folder, so the address of its remote must be absolute.
    command(repository, "dvc", "remote", "modify", "-q", "store", "url", str(tmp_path / "remote"))
    command(repository, "git", "checkout", "-q", "v1", "--", "data/images.dvc")
    command(repository, "git", "commit", "-qam", "the first images again")
    elsewhere = f"dvc+file://{repository}@main:data/images"
    assert files(make_raw(elsewhere, tmp_path / "e")) == expected


def test_a_path_below_or_above_an_output_is_allowed(repository):
    below = open_source(f"dvc+{repository}@v1:data/images/bad").listing()
    assert len(below.ignored) == 12
    above = open_source(f"dvc+{repository}@v1:.").listing()
    assert {entry.label for entry in above.entries} == {"data"}
    assert len(above.entries) == 24


def test_the_content_decides_and_not_the_name(repository, tmp_path):
    for number, name in enumerate(["a.jfif", "a", "a.jpe", "Thumbs.db", "notes.txt"]):
        data = b"a note" if number > 2 else encode(pixels(np.random.default_rng(number), 24, True), "JPEG")
        (repository / "data" / "images" / "bad" / name).write_bytes(data)
    keep(repository, "v3")
    raw = make_raw(f"dvc+{repository}@v3:data/images", tmp_path / "raw", max_refused_fraction=0.1)
    assert {"bad/a.jfif", "bad/a", "bad/a.jpe"} <= {image.key for image in RawDataset.open(raw).images}
    assert [row["key"] for row in read_csv(raw / "quarantine.csv")] == ["bad/notes.txt"]


def test_labels_tracked_by_git_and_images_tracked_by_dvc(repository, tmp_path):
    (repository / "set").mkdir()
    rows = ["path,label"]
    for number, label in enumerate(["bad", "good"] * 4):
        (repository / "set" / f"{number}.png").write_bytes(
            encode(pixels(np.random.default_rng(number), 24, label == "bad"))
        )
        rows.append(f"{number}.png,{label}")
        if number < 6:
            command(repository, "dvc", "add", "-q", f"set/{number}.png")
    (repository / "set" / "labels.csv").write_text("\n".join(rows))
    (repository / "set" / ".notes").write_text("hidden")
    keep(repository, "v3")
    listing = open_source(f"dvc+{repository}@v3:set").listing()
    assert [entry.key for entry in listing.entries] == [f"{n}.png" for n in range(8)]
    assert listing.ignored == []
    assert listing.hidden == [".gitignore", ".notes", *(f"{n}.png.dvc" for n in range(6))]
    assert len(RawDataset.open(make_raw(f"dvc+{repository}@v3:set", tmp_path / "raw")).images) == 8


@pytest.mark.parametrize(
    "hostile", ["../../evil.png", "/tmp/evil.png", "bad/../../evil.png", "bad//evil.png", "./a.png", ""]
)
def test_a_manifest_that_leaves_its_folder_writes_nothing(hostile, repository, tmp_path):
    path, rows = manifest(repository)
    rows[0]["relpath"] = hostile
    text = json.dumps(rows, sort_keys=True).encode()
    md5 = hashlib.md5(text, usedforsecurity=False).hexdigest()
    for place in (repository / ".dvc" / "cache", tmp_path / "remote"):
        new = place / "files" / "md5" / md5[:2] / f"{md5[2:]}.dir"
        new.parent.mkdir(exist_ok=True)
        new.write_bytes(text)
    kept = repository / "data" / "images.dvc"
    kept.write_text(kept.read_text().replace(path.parent.name + path.name, f"{md5}.dir"))
    command(repository, "git", "commit", "-qam", "hostile")
    command(repository, "git", "tag", "hostile")
    before = snapshot(tmp_path)
    with pytest.raises(DataError) as caught:
        make_raw(f"dvc+{repository}@hostile:data/images", tmp_path / "raw")
    assert repr(hostile) in str(caught.value)
    assert "nothing was read" in str(caught.value)
    assert snapshot(tmp_path) == before


def flip(path):
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def test_a_corrupt_object_is_read_from_the_remote_or_named(repository, tmp_path):
    address = f"dvc+{repository}@v2:data/images"
    expected = files(make_raw(address, tmp_path / "a"))
    _, rows = manifest(repository)
    md5, key = rows[3]["md5"], rows[3]["relpath"]
    flip(objects(repository / ".dvc" / "cache")[md5])
    assert files(make_raw(address, tmp_path / "b")) == expected
    flip(objects(tmp_path / "remote")[md5])
    with pytest.raises(SourceError, match=rf"{key}: the DVC remote store gave other bytes.*{md5} \(tried 4 times\)"):
        make_raw(address, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    objects(tmp_path / "remote")[md5].unlink()
    with pytest.raises(SourceError, match=rf"{key} \(md5 {md5}\) is not in the DVC remote store"):
        make_raw(address, tmp_path / "c")


def test_a_corrupt_manifest_is_an_error_that_names_it(repository, tmp_path):
    path, _ = manifest(repository)
    md5 = path.parent.name + path.name
    flip(path)
    flip(objects(tmp_path / "remote")[md5])
    with pytest.raises(SourceError, match=rf"data/images: the DVC remote store gave other bytes.*{md5}"):
        DvcSource(f"dvc+{repository}@v2:data/images").listing()


def test_a_file_above_the_limit_is_refused_from_cache_and_remote(repository):
    for place in ("cache", "remote"):
        source = DvcSource(f"dvc+{repository}@v1:data/images")
        wanted = [source.request(entry.key) for entry in source.listing().entries][:2]
        found = source.fetch(wanted, 100)
        if place == "cache":
            assert [len(one.data) for one in found] == [101, 101]
            shutil.rmtree(repository / ".dvc" / "cache")
        else:
            assert all("allowed are at most 100" in one.reason and not one.data for one in found)


def test_missing_things_are_errors_that_name_them(repository, tmp_path):
    def failure(address, kind=SourceError):
        with pytest.raises(kind) as caught:
            open_source(address).listing()
        return str(caught.value)

    assert "unknown Git revision 'v9'" in failure(f"dvc+{repository}@v9:data/images")
    assert "no file found there" in failure(f"dvc+{repository}@v1:data/none")
    assert "No git repository was found" in failure(f"dvc+{tmp_path}/nowhere@v1:data")
    command(repository, "dvc", "remote", "remove", "store")
    shutil.rmtree(repository / ".dvc" / "cache")
    command(repository, "git", "commit", "-qam", "no remote")
    assert "has no remote" in failure(f"dvc+{repository}@main:data/images")


@pytest.mark.parametrize(("repository_of", "status"), [("repository", 0), ("nowhere", 1)])
def test_temporary_clones_are_removed(repository, tmp_path, repository_of, status):
    (tmp_path / "tmp").mkdir()
    command(repository, "dvc", "remote", "modify", "-q", "store", "url", str(tmp_path / "remote"))
    command(repository, "git", "commit", "-qam", "an absolute remote")
    listing = f"open_source('dvc+file://{tmp_path}/{repository_of}@main:data/images').listing()"
    done = subprocess.run(
        [sys.executable, "-c", f"from twofold.sources.factory import open_source; {listing}"],
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "address",
    [
        "dvc+https://host/repo",
        "dvc+repo@v1",
        "dvc+@v1:data",
        "dvc+repo@:data",
        "dvc+repo@v1:/etc",
        "dvc+repo@v1:../data",
    ],
)
def test_wrong_addresses(address):
    with pytest.raises(DataError, match=r"ingest\.source"):
        open_source(address)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("dvc+git@host:team/repo.git@v1.2:data/a b", ("git@host:team/repo.git", "v1.2", "data/a b")),
        ("dvc+ssh://git@host:2222/repo.git@feature/x:.", ("ssh://git@host:2222/repo.git", "feature/x", ".")),
        ("dvc+.@HEAD:data/", (".", "HEAD", "data")),
    ],
)
def test_addresses(address, parts):
    source = open_source(address)
    assert (source.url, source.rev, source.path) == parts


def test_the_version_follows_a_branch_and_is_that_of_the_same_data_in_any_commit(repository):
    def version(revision):
        return read_source_version(DvcSource(f"dvc+{repository}@{revision}:data/images"), 10**6)

    first = version("main")
    (repository / "notes.txt").write_text("a commit without other data")
    command(repository, "git", "add", "notes.txt")
    command(repository, "git", "commit", "-q", "-m", "notes")
    assert version("main") == version("v2") == first
    assert version("v1") != first
    shutil.copy(next(repository.glob("data/images/bad/*.png")), repository / "data" / "images" / "good" / "new.png")
    keep(repository, "v3")
    assert version("main") == version("v3") != first
