"""Objects of a DVC repository, read by their MD5 from the local cache, otherwise from a remote of any kind.

The bytes are verified against the MD5. A corrupted transfer is tried again a few times; then the step fails.
"""

import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import NoCredentialsError, PartialCredentialsError

from twofold.core.errors import DataError, SourceError, first_line
from twofold.sources.base import CorruptionError, FetchedFile, retry_corrupted

_OBJECT = r"(/files/md5)?/[0-9a-f]{2}/[0-9a-f]{30}"  # below a cache; DVC 2 had no folder for each kind of hash
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30  # seconds, of remotes in S3
_connections: dict[tuple[int, str, str], Any] = {}


def cached_objects(source: Path) -> re.Pattern[str]:
    """Return the pattern of an object's path in a DVC cache of the user or of the project in the working directory.

    A configuration inside the source is not read: hostile images could bring one that names any folder.

    Raises:
        DataError: a configuration cannot be read.
    """
    from dvc.config import Config
    from dvc.exceptions import DvcException

    here = Path.cwd()
    folders = [folder / ".dvc" for folder in (here, *here.parents)]
    projects = [path for path in folders if path.is_dir() and not path.resolve().is_relative_to(source)][:1]
    try:
        caches = [Config(path).get("cache", {}).get("dir") or path / "cache" for path in projects]
        caches.append(Config().get("cache", {}).get("dir"))
    except DvcException as error:
        raise DataError(f"a symbolic link that leaves the folder; DVC: {first_line(error)}") from None
    return re.compile("|".join(re.escape(Path(cache).resolve().as_posix()) + _OBJECT for cache in caches if cache))


class DvcObjectStore(NamedTuple):
    """The location of all objects with one kind of hash.

    Attributes:
        cache: folder of DVC's cache.
        remote: name of the remote; empty if the repository has none.
        config: the part of DVC's configuration that describes the remote.
        root: path of the objects in the remote.
        hash_name: md5, or md5-dos2unix, which DVC 2 used.
    """

    cache: str
    remote: str
    config: dict[str, Any]
    root: str
    hash_name: str

    def read(self, what: str, md5: str, limit: int) -> FetchedFile:
        """Return an object's bytes; if there are more than `limit`, a reason to refuse it or the first `limit` + 1.

        Raises:
            SourceError: it is neither in the cache nor in the remote, or arrives corrupted; the message begins with
                `what`.
        """
        return retry_corrupted(what, lambda: self._read(what, md5, limit))

    def open(self) -> None:
        """Connect to the remote, which is not safe in several threads; a wrong configuration raises SourceError."""
        self._connection()

    def _path(self, root: str, md5: str) -> str:
        # DVC 2 had no separate folder for each kind of hash.
        return "/".join([root, *(["files", "md5"] if self.hash_name == "md5" else []), md5[:2], md5[2:]])

    def _read(self, what: str, md5: str, limit: int) -> FetchedFile:
        try:
            with open(self._path(self.cache, md5), "rb") as stream:  # noqa: PTH123
                data = stream.read(limit + 1)
        except OSError:
            return self._read_remote(what, md5, limit)
        # An object that is corrupted in the cache may be intact in the remote.
        intact = len(data) > limit or self._matches(data, md5)
        return FetchedFile(data) if intact else self._read_remote(what, md5, limit)

    def _read_remote(self, what: str, md5: str, limit: int) -> FetchedFile:
        if not self.remote:
            raise SourceError(
                f"{what} (md5 {md5}) is not in the cache, and the repository has no remote; add one, push"
            )
        connection, path = self._connection(), self._path(self.root.rstrip("/"), md5)
        try:
            size = connection.info(path).get("size")
            if size is not None and size > limit:
                return FetchedFile(b"", f"{size} bytes, allowed are at most {limit}")
            data = connection.fs.cat_file(path)
        except FileNotFoundError:
            raise SourceError(f"{what} (md5 {md5}) is not in the DVC remote {self.remote}; dvc push it") from None
        except (PermissionError, NoCredentialsError, PartialCredentialsError) as error:
            raise SourceError(f"{what}: the DVC remote {self.remote} denies access: {first_line(error)}") from None
        except Exception as error:  # each kind of remote raises its own errors
            raise CorruptionError(f"the DVC remote {self.remote}: {first_line(error)}") from None
        if not self._matches(data, md5):
            raise CorruptionError(f"the DVC remote {self.remote} gave other bytes than those of md5 {md5}")
        return FetchedFile(data)

    def _matches(self, data: bytes, md5: str) -> bool:
        expected = md5.removesuffix(".dir")
        if self.hash_name == "md5":
            return hashlib.md5(data, usedforsecurity=False).hexdigest() == expected
        from dvc_data.hashfile.hash import fobj_md5

        return bool(fobj_md5(io.BytesIO(data), name=self.hash_name) == expected)

    def _connection(self) -> Any:
        # One per process: processes that share a connection would mix up their responses.
        key = (os.getpid(), self.remote, self.root)
        if self.remote and key not in _connections:
            _connections[key] = self._connect()
        return _connections.get(key)

    def _connect(self) -> Any:
        from dvc.exceptions import DvcException
        from dvc.fs import get_cloud_fs

        try:
            kind, config, _ = get_cloud_fs(self.config, name=self.remote)
            if kind.protocol == "s3":
                config = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT} | config
            return kind(**config)
        except DvcException as error:
            raise SourceError(f"the DVC remote {self.remote}: {first_line(error)}") from None
