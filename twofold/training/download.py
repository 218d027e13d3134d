"""Downloads, also from S3, that are verified by SHA-256 and time out: a firewall may silently drop all packets."""

import hashlib
import http.client
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from twofold.core.errors import WeightsError, is_transient
from twofold.core.progress import EVERY, say

FIRST_BYTE = 8.0  # seconds, including name lookup and handshakes
STALL = 15.0  # seconds without a byte
TOTAL = 900.0  # seconds
CHUNK = 1 << 20  # bytes
LARGEST = 1 << 31  # bytes
S3 = "s3://"


def download(url: str, sha256: str) -> bytes:
    """The bytes at an address, whose SHA-256 must begin with `sha256`.

    Raises:
        WeightsError: the download timed out or was refused, or has another digest.
        DataError, SourceError: it is no address of S3, or the settings of S3 are not valid.
    """
    try:
        content = _read_s3(url) if url.startswith(S3) else b"".join(_chunks(url))
        found = hashlib.sha256(content).hexdigest()
        if not found.startswith(sha256):
            raise OSError(f"received {len(content):,} bytes with SHA-256 {found}, expected {sha256}; not kept")
    except (OSError, http.client.HTTPException) as error:
        reason = f"could not be downloaded: {error or type(error).__name__}"
        raise WeightsError(f"{url}: {reason}", transient=is_transient(error)) from None
    return content


def _read_s3(address: str) -> bytes:
    from botocore.exceptions import BotoCoreError, ClientError

    from twofold.storage.s3_client import create_client, explain_error, parse_address

    bucket, key = parse_address(address, "TWOFOLD_WEIGHTS")
    try:
        return bytes(create_client().get_object(Bucket=bucket, Key=key.rstrip("/"))["Body"].read())
    except (BotoCoreError, ClientError) as error:
        raise OSError(explain_error(error) if isinstance(error, ClientError) else str(error)) from error


def _chunks(url: str) -> Iterator[bytes]:
    # In a separate thread, because the system's name lookup takes no timeout.
    chunks: queue.Queue[bytes | Exception] = queue.Queue(maxsize=8)
    threading.Thread(target=_read, args=(url, chunks), daemon=True).start()
    begin = logged = time.monotonic()
    timeout, received = FIRST_BYTE, 0
    while True:
        try:
            chunk = chunks.get(timeout=max(0.0, min(timeout, begin + TOTAL - time.monotonic())))
        except queue.Empty:
            raise TimeoutError(f"received nothing for {timeout:.0f} seconds, or not all in {TOTAL:.0f}") from None
        if isinstance(chunk, Exception):
            raise chunk
        if not chunk:
            return
        yield chunk
        timeout, received = STALL, received + len(chunk)
        if time.monotonic() - logged >= EVERY:
            logged = time.monotonic()
            say(f"{url}: {received / 1e6:.0f} MB, {received / 1e6 / (logged - begin):.1f} MB/s")


def _read(url: str, chunks: "queue.Queue[bytes | Exception]") -> None:
    try:
        with urllib.request.urlopen(url, timeout=STALL) as response:  # noqa: S310  (the addresses are constants)
            received = 0
            while chunk := response.read(CHUNK):
                received += len(chunk)
                if received > LARGEST:
                    raise OSError(f"more than {LARGEST:,} bytes")
                chunks.put(chunk)
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
        chunks.put(b"")
    except urllib.error.HTTPError as error:
        error.close()
        refused = OSError(f"the server answered {error.code} {error.reason}")
        refused.__cause__ = error
        chunks.put(refused)
    except (OSError, http.client.HTTPException) as error:
        chunks.put(error)
    except ValueError as error:
        chunks.put(OSError(f"not a valid address: {error}"))
