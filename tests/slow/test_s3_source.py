"""An S3 bucket as the source: a real server, and faults put between boto3 and it."""

import hashlib
import io
import json
import re
import threading

import boto3
import numpy as np
import pytest
from botocore.config import Config
from PIL import Image

from tests.makers import make_folder, make_raw
from tests.tools.s3_faults import Faults, between
from tests.tools.servers import KEY, SECRET, s3
from twofold.errors import DataError, SourceError
from twofold.raw import Raw, read_csv
from twofold.sources import s3 as module
from twofold.sources.opening import open_source
from twofold.sources.s3 import Bucket

pytestmark = pytest.mark.slow
LIMIT = 1 << 28


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with s3(tmp_path_factory.mktemp("server") / "s3") as found:
        yield found


@pytest.fixture(autouse=True)
def environment(address, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(module, "PAUSE", 0.01)


@pytest.fixture(scope="module")
def store(address):
    plain = Config(request_checksum_calculation="when_required", max_pool_connections=16)
    return boto3.client(
        "s3",
        endpoint_url=address,
        config=plain,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )


def fill(store, bucket, folder, prefix=""):
    store.create_bucket(Bucket=bucket)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.put_object(Bucket=bucket, Key=prefix + path.relative_to(folder).as_posix(), Body=path.read_bytes())


def png(seed, size=32):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def run(source, tmp_path, **values):
    return Raw.open(make_raw(source, tmp_path / "raw", **values))


def test_a_bucket_gives_the_bytes_that_a_folder_gives(store, tmp_path):
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
    wanted = [source.wanted(entry.key) for entry in entries]
    found = source.fetch(wanted, LIMIT)
    assert {one.key: got.data for one, got in zip(wanted[:-1], found[:-1], strict=True)} == bodies
    assert hashlib.sha256(found[-1].data).digest() == hashlib.sha256(large).digest()
    assert "200000000 bytes, allowed are at most 1000" in source.fetch(wanted[-1:], 1000)[0].reason


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
    assert "no object lies there" in failure("s3://plain/none")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        assert "Could not connect" in failure("s3://plain")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    assert "secret key is wrong" in failure("s3://plain")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "access key is not known" in failure("s3://plain")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert "no credentials for S3" in failure("s3://plain")


@pytest.mark.parametrize("source", ["s3://", "s3://a", "s3://key:secret@bucket/x", "s3:///x", "gs://bucket/x"])
def test_wrong_addresses(source, tmp_path):
    with pytest.raises(DataError, match=r"ingest\.source") as caught:
        run(source, tmp_path)
    assert "secret" not in str(caught.value)


def test_hostile_keys(store, tmp_path):
    store.create_bucket(Bucket="hostile")
    fine = ["good/%2e%2e.png", "good/\u00e9.png", "good/e\u0301.png", "good/A.png", "good/a.png"]
    # SeaweedFS itself makes a slash of a backslash and refuses `..`.
    refused = ["good/a\u200fb.png", "good/new\nline.png"]
    for number, key in enumerate([*fine, *refused, "good/" + 200 * "x" + ".png", "good/.hidden.png"]):
        store.put_object(Bucket="hostile", Key=key, Body=png(number))
    store.put_object(Bucket="hostile", Key="good/deep/", Body=b"")
    listing = open_source("s3://hostile").listing()
    assert [entry.key for entry in listing.entries] == sorted([*fine, "good/" + 200 * "x" + ".png"])
    assert [item.key for item in listing.aside] == ["good/a\\u200fb.png", "good/new\\nline.png"]
    assert all(item.counts and "rename" in item.reason for item in listing.aside)


SIZES = {"empty": 0, "small": 1_000_000, "large": 20_000_000}


@pytest.fixture(scope="module")
def sizes(store):
    store.create_bucket(Bucket="sizes")
    bodies = {f"good/{name}.png": np.random.default_rng(1).bytes(size) for name, size in SIZES.items()}
    for key, body in bodies.items():
        store.put_object(Bucket="sizes", Key=key, Body=body)
    return bodies


def tree(source):
    entries = source.listing().entries
    wanted = [source.wanted(entry.key) for entry in entries]
    return {one.key: got.data for one, got in zip(wanted, source.fetch(wanted, LIMIT), strict=True)}


@pytest.mark.parametrize(
    "kind",
    [
        *("InternalError", "SlowDown", "stall", "reset", "short", "flip", "flip without a sum"),
        *("list InternalError", "list SlowDown", "list stall", "list reset", "list drop"),
    ],
)
def test_a_fault_that_passes_leaves_no_trace(kind, address, sizes, monkeypatch):
    if "stall" in kind:  # for these alone: on a busy machine an honest answer may take seconds
        monkeypatch.setattr(module, "READ_TIMEOUT", 3)
    with between(address, Faults(kind), monkeypatch) as proxy:
        assert tree(Bucket("s3://sizes")) == sizes
        assert proxy.fault.left == 0


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("reset", "tried 4 times"),
        ("short", "tried 4 times"),
        ("flip", "tried 4 times"),
        ("flip without a sum", "not those of its ETag"),
        ("403", r"s3://sizes/good/.*access denied"),
        ("404", "no such object any more"),
        ("list 403", "s3://sizes: access denied"),
        ("list repeat", "tells of"),
        ("list repeat uncounted", "twice"),
        ("list ExpiredToken", "the credentials have expired"),
        ("ExpiredToken", "the credentials have expired"),
    ],
)
def test_a_fault_that_stays_is_named(kind, message, address, sizes, monkeypatch):
    with between(address, Faults(kind, times=-1), monkeypatch), pytest.raises(SourceError, match=message):
        tree(Bucket("s3://sizes"))


def test_an_object_replaced_between_listing_and_reading(store, sizes):
    store.create_bucket(Bucket="moving")
    store.put_object(Bucket="moving", Key="good/a.png", Body=png(1))
    source = Bucket("s3://moving")
    wanted = [source.wanted(entry.key) for entry in source.listing().entries]
    store.put_object(Bucket="moving", Key="good/a.png", Body=png(2))
    with pytest.raises(SourceError, match=r"s3://moving/good/a\.png: replaced while it was read"):
        source.fetch(wanted, LIMIT)
    store.delete_object(Bucket="moving", Key="good/a.png")
    with pytest.raises(SourceError, match=r"no such object any more"):
        source.fetch(wanted, LIMIT)


def test_without_checksum_and_md5_a_file_counts_as_unverified_or_is_refused(store, address, tmp_path, monkeypatch):
    fill(store, "parts", make_folder(tmp_path / "images", per_class=12, size=24))

    def parts(handler, listing, status, headers, body):
        if listing:
            return (
                status,
                {"content-type": "application/xml"},
                re.sub(rb"(&#34;|&quot;|\")</ETag>", rb"-2\1</ETag>", body),
            )
        return status, {k: v for k, v in headers.items() if "checksum" not in k}, body

    original = Bucket._once

    def once(self, wanted):  # the server knows the ETag without the mark of an object in parts
        plain = wanted._replace(version=wanted.version.replace("-2", ""))
        monkeypatch.setattr(module, "_MD5", re.compile("none"))
        return original(self, plain)

    monkeypatch.setattr(Bucket, "_once", once)
    monkeypatch.setenv("TWOFOLD_WORKERS", "1")
    with between(address, parts, monkeypatch):
        run("s3://parts", tmp_path)
        assert json.loads((tmp_path / "raw.json").read_text())["unverified"] == 24
        with pytest.raises(DataError, match=r"24 of 24 files are refused.*\n.*ingest\.require_checksum"):
            run("s3://parts", tmp_path, require_checksum=True)
