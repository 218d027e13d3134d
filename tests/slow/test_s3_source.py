"""An S3 bucket as the source: a real server, and faults put between boto3 and it."""

import contextlib
import hashlib
import io
import json
import re
import socket
import threading

import boto3
import numpy as np
import pytest
from botocore.config import Config
from PIL import Image

from tests.makers import make_folder, make_raw
from tests.tools.s3_faults import Faults, between
from tests.tools.servers import KEY, LISTER, SECRET, s3
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


def put_sizes(store, bucket, **how):
    store.create_bucket(Bucket=bucket)
    bodies = {f"good/{name}.png": np.random.default_rng(1).bytes(size) for name, size in SIZES.items()}
    for key, body in bodies.items():
        store.put_object(Bucket=bucket, Key=key, Body=body, **how)
    return bodies


@pytest.fixture(scope="module")
def sizes(store):
    """Objects without a checksum: what they are held to is the MD5 that is their ETag."""
    bodies = put_sizes(store, "sizes")
    answer = store.get_object(Bucket="sizes", Key="good/small.png", ChecksumMode="ENABLED")
    assert not [name for name in answer if name.startswith("Checksum")]
    return bodies


@pytest.fixture(scope="module")
def sums(store):
    """Objects with a checksum of the store's."""
    bodies = put_sizes(store, "sums", ChecksumAlgorithm="SHA256")
    answer = store.get_object(Bucket="sums", Key="good/small.png", ChecksumMode="ENABLED")
    assert answer["ChecksumSHA256"]
    return bodies


def tree(source):
    entries = source.listing().entries
    wanted = [source.wanted(entry.key) for entry in entries]
    return {one.key: got.data for one, got in zip(wanted, source.fetch(wanted, LIMIT), strict=True)}


@pytest.mark.parametrize(
    "kind",
    [
        *("InternalError", "SlowDown", "stall", "reset", "short", "flip"),
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
        ("flip", "not those of its ETag"),
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


def test_a_flipped_byte_is_known_by_the_stores_checksum(address, sums, monkeypatch):
    # Its ETag is an MD5 too, which is taken away here: the checksum alone must do.
    monkeypatch.setattr(module, "_MD5", re.compile("none"))
    with between(address, Faults("flip"), monkeypatch) as proxy:
        assert tree(Bucket("s3://sums")) == sums
        assert proxy.fault.left == 0
    with (
        between(address, Faults("flip", times=-1), monkeypatch),
        pytest.raises(SourceError, match=r"s3://sums/good/.*checksum.*tried 4 times"),
    ):
        tree(Bucket("s3://sums"))


@pytest.mark.parametrize("name", ["x-amz-checksum-crc64nvme", "x-amz-checksum-sha256"])
def test_a_checksum_that_nobody_compares_verifies_nothing(name, address, sizes, monkeypatch):
    # The first is of a kind that botocore lacks, the second stands for the sums of parts.
    def mark(handler, listing, status, headers, body):
        return status, headers if listing else headers | {name: "AAAAAAAAAAA=-3"}, body

    monkeypatch.setattr(module, "_MD5", re.compile("none"))
    with between(address, mark, monkeypatch):
        source = Bucket("s3://sizes")
        found = source.fetch([source.wanted(entry.key) for entry in source.listing().entries], LIMIT)
    assert [one.verified for one in found] == [False] * 3


@pytest.mark.parametrize("kind", ["list lost page", "list page again"])
def test_a_page_of_the_listing_that_is_lost_or_comes_again(kind, address, sizes, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 1)
    with between(address, Faults(kind, times=1), monkeypatch) as proxy:
        if kind == "list lost page":
            assert tree(Bucket("s3://sizes")) == sizes
        else:
            with pytest.raises(SourceError, match=r"s3://sizes: the listing holds .* twice"):
                Bucket("s3://sizes").listing()
        assert proxy.fault.left == 0


def test_a_server_that_takes_no_connection(monkeypatch):
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as held:
        port = full.getsockname()[1]
        for _ in range(3):  # the queue of those who wait is full, so that the next one hears nothing
            one = held.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(SourceError, match=r"s3://sizes: Connect timeout"):
            Bucket("s3://sizes").listing()


def test_a_user_who_may_list_and_not_read(store, tmp_path, monkeypatch):
    fill(store, "closed", make_folder(tmp_path / "images", per_class=2, size=24))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", LISTER)
    assert len(Bucket("s3://closed").listing().entries) == 4
    with pytest.raises(SourceError, match=r"s3://closed/(bad|good)/.*\.png: access denied.*s3:GetObject"):
        run("s3://closed", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


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


def put_in_parts(store, bucket, key, data):
    """As large uploads are: the ETag is no MD5 of the bytes then, and here no checksum is kept."""
    upload = store.create_multipart_upload(Bucket=bucket, Key=key)
    place = {"Bucket": bucket, "Key": key, "UploadId": upload["UploadId"]}
    part = store.upload_part(**place, PartNumber=1, Body=data)
    store.complete_multipart_upload(**place, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})


def test_without_checksum_and_md5_a_file_counts_as_unverified_or_is_refused(store, tmp_path):
    folder = make_folder(tmp_path / "images", per_class=12, size=24)
    store.create_bucket(Bucket="parts")
    for path in sorted(folder.glob("*/*.png")):
        put_in_parts(store, "parts", path.relative_to(folder).as_posix(), path.read_bytes())
    run("s3://parts", tmp_path)
    assert json.loads((tmp_path / "raw.json").read_text())["unverified"] == 24
    with pytest.raises(DataError, match=r"24 of 24 files are refused.*\n.*ingest\.require_checksum"):
        run("s3://parts", tmp_path, require_checksum=True)
