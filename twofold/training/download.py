"""Downloads that give up in seconds where nothing answers.

In: an address and a SHA-256. Out: the bytes, or a WeightsError that says what happened. A firewall that swallows
packets would otherwise cost minutes at every start.
"""

import hashlib
import http.client
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from twofold.core.errors import WeightsError
from twofold.core.progress import EVERY, say

FIRST_BYTE = 8.0  # seconds, name look-up and handshakes included
STALL = 15.0  # seconds without a byte
TOTAL = 900.0  # seconds
CHUNK = 1 << 20  # bytes
LARGEST = 1 << 28  # bytes


def download(url: str, sha256: str) -> bytes:
    """The bytes at an address.

    Args:
        sha256: that they must have, or its first digits.

    Raises:
        WeightsError: nothing came in time, the server refused, or the bytes are others.
    """
    try:
        received = b"".join(_chunks(url))
        found = hashlib.sha256(received).hexdigest()
        if not found.startswith(sha256):
            raise OSError(f"{len(received):,} bytes came with SHA-256 {found}, expected {sha256}; not kept")
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(f"{url}: could not be fetched: {error or type(error).__name__}") from None
    return received


def _chunks(url: str) -> Iterator[bytes]:
    # In a thread of its own: the system's name look-up takes no timeout.
    arrived: queue.Queue[bytes | Exception] = queue.Queue(maxsize=8)
    threading.Thread(target=_read, args=(url, arrived), daemon=True).start()
    begin = shown = time.monotonic()
    patience, received = FIRST_BYTE, 0
    while True:
        try:
            chunk = arrived.get(timeout=max(0.0, min(patience, begin + TOTAL - time.monotonic())))
        except queue.Empty:
            raise TimeoutError(f"nothing came for {patience:.0f} seconds, or not all in {TOTAL:.0f}") from None
        if isinstance(chunk, Exception):
            raise chunk
        if not chunk:
            return
        yield chunk
        patience, received = STALL, received + len(chunk)
        if time.monotonic() - shown >= EVERY:
            shown = time.monotonic()
            say(f"{url}: {received / 1e6:.0f} MB, {received / 1e6 / (shown - begin):.1f} MB/s")


def _read(url: str, arrived: "queue.Queue[bytes | Exception]") -> None:
    try:
        with urllib.request.urlopen(url, timeout=STALL) as response:  # noqa: S310  (addresses are our own table's)
            left = LARGEST
            while chunk := response.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise OSError(f"more than {LARGEST:,} bytes")
                arrived.put(chunk)
        arrived.put(b"")
    except urllib.error.HTTPError as error:
        error.close()
        arrived.put(OSError(f"the server answered {error.code} {error.reason}"))
    except (OSError, http.client.HTTPException) as error:
        arrived.put(error)
    except ValueError as error:
        arrived.put(OSError(f"not an address: {error}"))
