"""An S3 bucket of a real server as the source."""

import hashlib
import json
import threading

import numpy as np
import pytest

from tests.support.makers import file_bytes, make_folder
from tests.support.s3_case import LIMIT, fill, png, run
from tests.support.tools.faulty_proxy import between
from tests.support.tools.servers import LISTER, SECRET
from twofold.core.artifacts import read_csv
from twofold.core.errors import DataError, SourceError, TwofoldError
from twofold.sources.factory import open_source
from twofold.sources.s3 import S3Source
from twofold.sources.version import read_source_version

pytestmark = pytest.mark.slow


def test_a_bucket_has_the_same_bytes_as_a_folder(store, tmp_path):
    folder = make_folder(tmp_path / "images", per_class=12, size=24)
    fill(store, "same", folder, "cells/v1/")
    fill_sibling = {"cells/v1-old/bad/x.png": png(1), "cells/v1": b"an object with the folder's name"}
    for key, data in fill_sibling.items():
        store.put_object(Bucket="same", Key=key, Body=data)
    for name, source in (("a", str(folder)), ("b", "s3://same/cells/v1"), ("c", "s3://same/cells/v1/")):
        (tmp_path / name).mkdir()
        run(source, tmp_path / name)
    files = {p.name: p.read_bytes() for p in (tmp_path / "a" / "raw").iterdir()}
    for name in "bc":
        assert {p.name: p.read_bytes() for p in (tmp_path / name / "raw").iterdir()} == files
    assert json.loads((tmp_path / "b" / "raw.json").read_text())["unverified"] == 0


def test_the_version_of_a_bucket_changes_with_its_objects(store, tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "images", per_class=12, size=24)
    fill(store, "looked", folder)

    def version():
        return read_source_version(open_source("s3://looked"), LIMIT)

    first = version()
    with (
        pytest.MonkeyPatch.context() as patch,
        between(store.meta.endpoint_url, lambda handler, *answer: answer[1:], patch) as proxy,
    ):
        assert version() == first
        assert proxy.calls == 2  # two listings, and no object
    path = folder / "bad" / "00000.png"
    monkeypatch.setenv("TWOFOLD_SOURCE_VERSION", first)
    run("s3://looked", tmp_path)
    store.put_object(Bucket="looked", Key="bad/00000.png", Body=png(1))
    assert version() != first
    (tmp_path / "later").mkdir()
    with pytest.raises(DataError, match=r"s3://looked: changed after this run had started"):
        run("s3://looked", tmp_path / "later")
    store.put_object(Bucket="looked", Key="bad/00000.png", Body=path.read_bytes())
    assert version() == first


def test_labels_in_a_table_and_versions(store, tmp_path):
    store.create_bucket(Bucket="table")
    store.put_bucket_versioning(Bucket="table", VersioningConfiguration={"Status": "Enabled"})
    rows = ["path,label,group,line"]
    for number in range(24):
        store.put_object(Bucket="table", Key=f"p/{number}.png", Body=png(number))
        rows.append(f"{number}.png,{'bad' if number % 2 else 'good'},g{number // 3},l{number % 4}")
    store.put_object(Bucket="table", Key="p/0.png", Body=png(0, 40))
    store.put_object(Bucket="table", Key="p/labels.csv", Body="\n".join(rows).encode())
    raw = run("s3://table/p", tmp_path)
    assert len(raw.images) == 24
    assert raw.meta["slices"] == ["line"]
    assert {image.width for image in raw.images if image.key == "0.png"} == {40}
    versions = {row["key"]: row["version"] for row in read_csv(tmp_path / "raw" / "versions.csv")}
    heads = {f"{n}.png": store.head_object(Bucket="table", Key=f"p/{n}.png")["VersionId"] for n in range(24)}
    assert versions == heads
    store.put_object(Bucket="table", Key="p/labels.csv", Body=b"path,label\nnone.png,good\n")
    with pytest.raises(DataError, match=r"s3://table/p/labels\.csv: 1 problems\n  line 2: .*none\.png.*no such object"):
        run("s3://table/p", tmp_path)


def test_five_thousand_objects_and_a_large_one(store):
    store.create_bucket(Bucket="many")
    bodies = {f"good/{n:05d}.png": b"%d" % n for n in range(5000)}

    def put(keys):
        for key in keys:
            store.put_object(Bucket="many", Key=key, Body=bodies[key])

    threads = [threading.Thread(target=put, args=(sorted(bodies)[k::8],)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    large = np.random.default_rng(0).bytes(200_000_000)
    store.put_object(Bucket="many", Key="good/large.png", Body=large)
    source = open_source("s3://many")
    entries = source.listing().entries
    assert [entry.key for entry in entries] == sorted([*bodies, "good/large.png"])
    requests = [source.request(entry.key) for entry in entries]
    found = source.fetch(requests, LIMIT)
    assert {one.key: got.data for one, got in zip(requests[:-1], found[:-1], strict=True)} == bodies
    assert hashlib.sha256(found[-1].data).digest() == hashlib.sha256(large).digest()
    assert "200000000 bytes, allowed are at most 1000" in source.fetch(requests[-1:], 1000)[0].reason


def test_wrong_bucket_prefix_and_credentials(store, tmp_path, monkeypatch):
    store.create_bucket(Bucket="plain")
    store.put_object(Bucket="plain", Key="good/a.png", Body=png(0))

    def failure(source):
        with pytest.raises(SourceError) as caught:
            run(source, tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert SECRET not in str(caught.value)
        return str(caught.value)

    assert "no such bucket" in failure("s3://nowhere/x")
    assert "no object found there" in failure("s3://plain/none")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        assert "Could not connect" in failure("s3://plain")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert "secret key is wrong" in failure("s3://plain")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "does not know the access key" in failure("s3://plain")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert "no credentials for S3" in failure("s3://plain")


@pytest.mark.parametrize("source", ["s3://", "s3://a", "s3://key:s3cr3t@bucket/x", "s3:///x", "gs://bucket/x"])
def test_wrong_addresses(source, tmp_path):
    with pytest.raises(TwofoldError, match=r"ingest\.source") as caught:
        run(source, tmp_path)
    assert "s3cr3t" not in str(caught.value)


def test_hostile_keys(store, tmp_path):
    store.create_bucket(Bucket="names")
    fine = ["good/%2e%2e.png", "good/\u00e9.png", "good/e\u0301.png", "good/A.png", "good/a.png"]
    # SeaweedFS turns a backslash into a slash and rejects `..`.
    refused = ["good/a\u200fb.png", "good/new\nline.png"]
    for number, key in enumerate([*fine, *refused, "good/" + 200 * "x" + ".png", "good/.hidden.png"]):
        store.put_object(Bucket="names", Key=key, Body=png(number))
    store.put_object(Bucket="names", Key="good/deep/", Body=b"")
    listing = open_source("s3://names").listing()
    assert [entry.key for entry in listing.entries] == sorted([*fine, "good/" + 200 * "x" + ".png"])
    assert [item.key for item in listing.ignored] == ["good/a\\u200fb.png", "good/new\\nline.png"]
    assert all(item.counts and "rename" in item.reason for item in listing.ignored)


def test_a_user_who_may_list_and_not_read(store, tmp_path, monkeypatch):
    fill(store, "closed", make_folder(tmp_path / "images", per_class=2, size=24))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", LISTER)
    assert len(S3Source("s3://closed").listing().entries) == 4
    with pytest.raises(SourceError, match=r"s3://closed/(bad|good)/.*\.png: access denied.*s3:GetObject"):
        run("s3://closed", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def put_in_parts(store, bucket, key, data):
    """Upload in parts, as for large files: the ETag is not an MD5 of the bytes, and no checksum is stored."""
    upload = store.create_multipart_upload(Bucket=bucket, Key=key)
    place = {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"]}
    part = store.upload_part(**place, PartNumber=1, Body=data)
    store.complete_multipart_upload(**place, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})


def test_without_checksum_and_md5_a_file_counts_as_unverified_or_is_refused(store, tmp_path):
    folder = make_folder(tmp_path / "images", per_class=12, size=24)
    store.create_bucket(Bucket="pieces")
    for path in sorted(folder.glob("*/*.png")):
        put_in_parts(store, "pieces", path.relative_to(folder).as_posix(), path.read_bytes())
    run("s3://pieces", tmp_path)
    assert json.loads((tmp_path / "raw.json").read_text())["unverified"] == 24
    with pytest.raises(DataError, match=r"24 of 24 files are refused.*\n.*ingest\.require_checksum"):
        run("s3://pieces", tmp_path, require_checksum=True)


def test_a_second_run_fetches_only_new_objects(store, address, tmp_path, monkeypatch):
    store.create_bucket(Bucket="again")
    store.put_bucket_versioning(Bucket="again", VersioningConfiguration={"Status": "Enabled"})
    folder = make_folder(tmp_path / "images", per_class=12, size=24)
    for path in sorted(folder.glob("*/*.png")):
        store.put_object(Bucket="again", Key=path.relative_to(folder).as_posix(), Body=path.read_bytes())
    fetched = []

    def note(handler, listing, status, headers, body):
        fetched.extend([] if listing else [handler.path])
        return status, headers, body

    def ingested(name):
        fetched.clear()
        (tmp_path / name).mkdir()
        run("s3://again", tmp_path / name)
        return file_bytes(tmp_path / name)

    # One port for all runs, because the server's address is part of the cache key.
    with between(address, note, monkeypatch):
        first = ingested("a")
        assert len(fetched) == 24
        assert "raw/versions.csv" in first
        assert ingested("b") == first
        assert fetched == []
        store.put_object(Bucket="again", Key="good/00003.png", Body=png(77))
        store.put_object(Bucket="again", Key="good/new.png", Body=png(78))
        grown = ingested("c")
        assert sorted(path.split("?")[0] for path in fetched) == ["/again/good/00003.png", "/again/good/new.png"]
        monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path / "another"))
        assert ingested("d") == grown
        assert len(fetched) == 25
