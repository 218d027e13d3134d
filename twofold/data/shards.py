"""Writes and reads the tar shards of `data/raw`.

Takes the bytes of image files and writes `images-00000.tar`…, which `tar` and WebDataset read; mtime and uid are 0. A
file is read by shard and offset.
"""

import hashlib
import tarfile
from functools import cache
from io import FileIO
from pathlib import Path

from twofold.core.artifacts import write_all
from twofold.core.errors import ArtifactError

SHARD_BYTES = 256 * 1024 * 1024
_WRITE_BYTES = 256 * 1024  # collected before a write
_BLOCK, _RECORD, _NAME = 512, 10240, 100  # bytes of a tar file's blocks and records, and of a member's name


class ShardWriter:
    """Writes the shards of a folder, member by member; members can be read after `close`."""

    def __init__(self, directory: Path, limit: int = SHARD_BYTES) -> None:
        self._directory = directory
        self._limit = limit
        self._number = -1
        self._size = self._written = 0
        self._buffer: list[bytes] = []
        self._stream: FileIO | None = None

    def add(self, name: str, data: bytes) -> tuple[int, int]:
        """Append a file; returns (shard, offset of its bytes)."""
        padded = -len(data) % _BLOCK
        stream = self._stream
        if stream is None or (self._size and self._size + _BLOCK + len(data) + padded > self._limit):
            self.close()
            self._number += 1
            self._size = self._written = 0
            path = self._directory / shard_name(self._number)
            self._stream = stream = path.open("wb", buffering=0)
        offset = self._size + _BLOCK
        self._buffer += [_header(name, len(data)), data, bytes(padded)]
        self._size = offset + len(data) + padded
        if self._size - self._written >= _WRITE_BYTES:
            self._write(stream)
        return self._number, offset

    def close(self) -> None:
        """Finish the last shard."""
        if self._stream is not None:
            end = self._size + 2 * _BLOCK
            self._buffer.append(bytes(2 * _BLOCK + -end % _RECORD))
            self._write(self._stream)
            self._stream.close()
            self._stream = None

    def _write(self, stream: FileIO) -> None:
        # In one piece: another system call, and waiting for the interpreter lock after it, costs more than a copy.
        write_all(stream, b"".join(self._buffer))
        self._buffer.clear()
        self._written = self._size


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"images-{number:05d}.tar"


def read_member(directory: Path, shard: int, offset: int, size: int, sha256: str) -> bytes:
    """The bytes of one image, read from its shard and verified.

    Raises:
        ArtifactError: the shard is missing or its bytes have changed.
    """
    path = directory / shard_name(shard)
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            data = stream.read(size)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; run ingest again") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ArtifactError(f"{path}: the bytes at {offset} do not have the SHA-256 {sha256}; run ingest again")
    return data


def _header(name: str, size: int) -> bytes:
    """The header that tarfile would write for a file of this name and size, with mtime 0, uid 0, mode 0644.

    It is assembled from a template, because tarfile needs longer for one header than it takes to write a photograph.
    """
    encoded, digits = name.encode("ascii"), b"%011o" % size
    if len(encoded) > _NAME or len(digits) > 11:
        raise ArtifactError(f"{name}: {size} bytes; a tar file takes names of {_NAME} letters and less than 8 GiB")
    mode, time, kind, total = _header_template()
    checksum = b"%06o\0 " % (total + sum(encoded) + sum(digits))
    return b"".join((encoded.ljust(_NAME, b"\0"), mode, digits, time, checksum, kind))


@cache
def _header_template() -> tuple[bytes, bytes, bytes, int]:
    """The bytes of a tar header between name, size, checksum and end, and their sum for the checksum."""
    header = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
    mode, time, kind = header[_NAME:124], header[135:148], header[156:]
    # The checksum's own field counts as eight spaces.
    return mode, time, kind, sum(mode) + sum(time) + sum(kind) + 8 * ord(" ")
