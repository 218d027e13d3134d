"""An S3 bucket as the source, with faults injected between boto3 and a real server."""

import contextlib
import re
import socket

import numpy as np
import pytest

from tests.support.s3_case import LIMIT, png, tree
from tests.support.tools.faulty_proxy import ERROR, Faults, between
from twofold.core.errors import SourceError
from twofold.sources import s3 as module
from twofold.sources.s3 import S3Source
from twofold.storage import s3_client

pytestmark = pytest.mark.slow
SIZES = {"empty": 0, "small": 1_000_000, "large": 20_000_000}


def put_sizes(store, bucket, **how):
    store.create_bucket(Bucket=bucket)
    bodies = {f"good/{name}.png": np.random.default_rng(1).bytes(size) for name, size in SIZES.items()}
    for key, body in bodies.items():
        store.put_object(Bucket=bucket, Key=key, Body=body, **how)
    return bodies


@pytest.fixture(scope="module")
def sizes(store):
    """Objects without a checksum, which are verified against the MD5 in their ETag."""
    bodies = put_sizes(store, "sizes")
    answer = store.get_object(Bucket="sizes", Key="good/small.png", ChecksumMode="ENABLED")
    assert not [name for name in answer if name.startswith("Checksum")]
    return bodies


@pytest.fixture(scope="module")
def sums(store):
    """Objects with the store's checksum."""
    bodies = put_sizes(store, "sums", ChecksumAlgorithm="SHA256")
    answer = store.get_object(Bucket="sums", Key="good/small.png", ChecksumMode="ENABLED")
    assert answer["ChecksumSHA256"]
    return bodies


@pytest.mark.parametrize(
    "kind",
    [
        *("InternalError", "SlowDown", "stall", "reset", "short", "flip"),
        *("list InternalError", "list SlowDown", "list stall", "list reset", "list drop"),
    ],
)
def test_a_temporary_fault_does_not_change_the_result(kind, address, sizes, monkeypatch):
    if "stall" in kind:  # only for these: on a busy machine a normal response may take seconds
        monkeypatch.setattr(s3_client, "READ_TIMEOUT", 3)
    with between(address, Faults(kind), monkeypatch) as proxy:
        assert tree(S3Source("s3://sizes")) == sizes
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
        ("list repeat", "states"),
        ("list repeat uncounted", "twice"),
        ("list ExpiredToken", "the credentials have expired"),
        ("ExpiredToken", "the credentials have expired"),
    ],
)
def test_a_permanent_fault_is_an_error_that_names_it(kind, message, address, sizes, monkeypatch):
    with between(address, Faults(kind, times=-1), monkeypatch), pytest.raises(SourceError, match=message):
        tree(S3Source("s3://sizes"))


def test_a_flipped_byte_is_detected_by_the_stores_checksum(address, sums, monkeypatch):
    # The ETag is an MD5 too; it is disabled here, so that only the checksum is tested.
    monkeypatch.setattr(module, "_MD5", re.compile("none"))
    with between(address, Faults("flip"), monkeypatch) as proxy:
        assert tree(S3Source("s3://sums")) == sums
        assert proxy.fault.left == 0
    with (
        between(address, Faults("flip", times=-1), monkeypatch),
        pytest.raises(SourceError, match=r"s3://sums/good/.*checksum.*tried 4 times"),
    ):
        tree(S3Source("s3://sums"))


@pytest.mark.parametrize("name", ["x-amz-checksum-crc64nvme", "x-amz-checksum-sha256"])
def test_a_checksum_that_botocore_ignores_verifies_nothing(name, address, sizes, monkeypatch):
    # botocore does not know the first kind; the second stands for a checksum over the checksums of parts.
    def mark(handler, listing, status, headers, body):
        return status, headers if listing else headers | {name: "AAAAAAAAAAA=-3"}, body

    monkeypatch.setattr(module, "_MD5", re.compile("none"))
    with between(address, mark, monkeypatch):
        source = S3Source("s3://sizes")
        found = source.fetch([source.request(entry.key) for entry in source.listing().entries], LIMIT)
    assert [one.verified for one in found] == [False] * 3


@pytest.mark.parametrize("kind", ["list lost page", "list page again"])
def test_a_listing_page_that_is_lost_or_repeated(kind, address, sizes, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 1)
    with between(address, Faults(kind, times=1), monkeypatch) as proxy:
        if kind == "list lost page":
            assert tree(S3Source("s3://sizes")) == sizes
        else:
            with pytest.raises(SourceError, match=r"s3://sizes: the listing holds .* twice"):
                S3Source("s3://sizes").listing()
        assert proxy.fault.left == 0


def test_a_server_that_accepts_no_connection(monkeypatch):
    monkeypatch.setattr(s3_client, "CONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr(s3_client, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as sockets:
        port = full.getsockname()[1]
        for _ in range(3):  # fill the queue of pending connections, so that the next one gets no response
            one = sockets.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(SourceError, match=r"s3://sizes: Connect timeout"):
            S3Source("s3://sizes").listing()


def test_access_that_is_revoked_during_a_listing(address, sizes, monkeypatch):
    def shut(handler, listing, status, headers, body):
        if listing and "continuation-token=" in handler.path:
            return 403, {"content-type": "application/xml"}, ERROR.format("AccessDenied").encode()
        return status, headers, body

    monkeypatch.setattr(module, "PAGE", 1)
    with (
        between(address, shut, monkeypatch) as proxy,
        pytest.raises(SourceError, match=r"s3://sizes: access denied.*s3:ListBucket"),
    ):
        S3Source("s3://sizes").listing()
    assert proxy.calls == 2


def test_an_object_replaced_while_it_is_read(store, address, monkeypatch):
    store.create_bucket(Bucket="midway")
    store.put_object(Bucket="midway", Key="good/a.png", Body=png(1, 300))

    def replace(handler, listing, status, headers, body):
        if listing or status != 200:
            return status, headers, body
        store.put_object(Bucket="midway", Key="good/a.png", Body=png(2, 300))
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body[: len(body) // 2])
        return None

    with (
        between(address, replace, monkeypatch),
        pytest.raises(SourceError, match=r"s3://midway/good/a\.png: replaced while it was read"),
    ):
        tree(S3Source("s3://midway"))


def test_an_object_replaced_between_listing_and_reading(store, sizes):
    store.create_bucket(Bucket="moving")
    store.put_object(Bucket="moving", Key="good/a.png", Body=png(1))
    source = S3Source("s3://moving")
    requests = [source.request(entry.key) for entry in source.listing().entries]
    store.put_object(Bucket="moving", Key="good/a.png", Body=png(2))
    with pytest.raises(SourceError, match=r"s3://moving/good/a\.png: replaced while it was read"):
        source.fetch(requests, LIMIT)
    store.delete_object(Bucket="moving", Key="good/a.png")
    with pytest.raises(SourceError, match=r"no such object any more"):
        source.fetch(requests, LIMIT)
