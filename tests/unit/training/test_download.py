"""Downloads from local servers: one that answers, one that never does, one that stops half-way."""

import hashlib
import http.server
import io
import socket
import threading
import time

import pytest
from botocore.exceptions import ClientError

from twofold.core.errors import DataError, WeightsError
from twofold.storage import s3_client
from twofold.training import download

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self):
        type(self).asked += 1
        if self.path in ("/missing", "/busy"):
            self.send_error(404 if self.path == "/missing" else 503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[:100_000])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    Handler.asked = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


@pytest.fixture
def silent(monkeypatch):
    """An address that accepts connections and never answers, as behind some firewalls."""
    monkeypatch.setattr(download, "FIRST_BYTE", 0.5)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/weights.pth"


def test_the_bytes_are_returned(alone, server):
    assert download.download(f"{server}/whole", SHA256) == CONTENT
    assert download.download(f"{server}/whole", SHA256[:8]) == CONTENT


def test_a_silent_server_times_out_in_seconds(alone, silent):
    begin = time.monotonic()
    with pytest.raises(WeightsError, match="received nothing") as caught:
        download.download(silent, SHA256)
    assert caught.value.transient
    assert 0.5 <= time.monotonic() - begin < 3


def test_the_real_timeouts_are_short():
    assert download.FIRST_BYTE <= 10
    assert download.STALL <= 30
    assert download.TOTAL <= 1800


@pytest.mark.parametrize(
    ("path", "sha256", "said", "transient"),
    [
        ("/missing", SHA256, "404", False),
        ("/busy", SHA256, "the server answered 503", True),
        ("/half", SHA256, "Incomplete", True),
        ("/whole", "0" * 64, "expected 0000", False),
    ],
)
def test_a_wrong_file_is_rejected_and_downloaded_again(alone, server, path, sha256, said, transient):
    for _ in range(2):
        with pytest.raises(WeightsError, match=said) as caught:
            download.download(server + path, sha256)
        assert caught.value.transient == transient
    assert Handler.asked == 2


def test_a_file_that_is_too_large_is_not_read_to_its_end(alone, server, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 1000)
    with pytest.raises(WeightsError, match="more than 1,000 bytes"):
        download.download(f"{server}/whole", SHA256)


class Bucket:
    """An S3 client of one object."""

    def get_object(self, **place):
        if place != {"Bucket": "bucket", "Key": "folder/weights"}:
            answer = {"Error": {"Code": "NoSuchKey"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
            raise ClientError(answer, "GetObject")
        return {"Body": io.BytesIO(CONTENT)}


def test_an_object_of_s3_is_read_and_verified(monkeypatch):
    monkeypatch.setattr(s3_client, "create_client", Bucket)
    assert download.download("s3://bucket/folder/weights", SHA256) == CONTENT
    with pytest.raises(WeightsError, match=f"with SHA-256 {SHA256}, expected 00; not kept"):
        download.download("s3://bucket/folder/weights", "00")
    with pytest.raises(WeightsError, match="s3://bucket/other: could not be downloaded: no such object") as caught:
        download.download("s3://bucket/other", SHA256)
    assert not caught.value.transient
    with pytest.raises(DataError, match="TWOFOLD_WEIGHTS: found 's3://'"):
        download.download("s3://", SHA256)
