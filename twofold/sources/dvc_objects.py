"""Objects of DVC, read by their MD5: from a cache on this machine, else from a remote.

In: where cache and remote are, as DVC's configuration has it, and an MD5. Out: bytes that have it, whatever the kind of
the remote (S3, SSH, HTTP, a folder…). What does not arrive whole is fetched again a few times; then the step fails.
"""

import hashlib
import io
import os
from typing import Any, NamedTuple

from twofold.core.errors import SourceError, first_line
from twofold.sources.base import CorruptionError, FetchedFile, retry_corrupted

CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30  # seconds, of remotes in S3


class DvcObjectStore(NamedTuple):
    """Where the objects of one hash lie.

    Attributes:
        cache: folder of DVC's cache.
        remote: name of the remote; empty if the repository names none.
        config: what of DVC's configuration describes it.
        root: where in the remote the objects begin.
        hash_name: md5, or md5-dos2unix, which was DVC 2's.
    """

    cache: str
    remote: str
    config: dict[str, Any]
    root: str
    hash_name: str

    def read(self, what: str, md5: str, limit: int) -> FetchedFile:
        """The bytes of an object, or the reason why it is refused if it has more than `limit`.

        Args:
            what: names the file in an error.

        Raises:
            SourceError: it is neither in the cache nor in the remote, or does not arrive whole.
        """
        return retry_corrupted(what, lambda: self._once(what, md5, limit))

    def open(self) -> None:
        """Connect to the remote; before threads read, as connecting is not safe in several at once.

        Raises:
            SourceError: its configuration is wrong.
        """
        self._files()

    def _path(self, root: str, md5: str) -> str:
        # DVC 2 had no folder of its own for a kind of hash.
        return "/".join([root, *(["files", "md5"] if self.hash_name == "md5" else []), md5[:2], md5[2:]])

    def _once(self, what: str, md5: str, limit: int) -> FetchedFile:
        try:
            with open(self._path(self.cache, md5), "rb") as stream:  # noqa: PTH123
                data = stream.read(limit + 1)
        except OSError:
            return self._remotely(what, md5, limit)
        # Damaged in the cache is not lost.
        whole = len(data) > limit or self._right(data, md5)
        return FetchedFile(data) if whole else self._remotely(what, md5, limit)

    def _remotely(self, what: str, md5: str, limit: int) -> FetchedFile:
        if not self.remote:
            raise SourceError(
                f"{what} (md5 {md5}) is not in the cache, and the repository names no remote; add one, push"
            )
        files, path = self._files(), self._path(self.root.rstrip("/"), md5)
        try:
            size = files.info(path).get("size")
            if size is not None and size > limit:
                return FetchedFile(b"", f"{size} bytes, allowed are at most {limit}")
            data = files.fs.cat_file(path)
        except FileNotFoundError:
            raise SourceError(f"{what} (md5 {md5}) is not in the DVC remote {self.remote}; dvc push it") from None
        except PermissionError as error:
            raise SourceError(f"{what}: the DVC remote {self.remote} denies access: {first_line(error)}") from None
        except Exception as error:  # every kind of remote raises its own
            raise CorruptionError(f"the DVC remote {self.remote}: {first_line(error)}") from None
        if not self._right(data, md5):
            raise CorruptionError(f"the DVC remote {self.remote} gave other bytes than those of md5 {md5}")
        return FetchedFile(data)

    def _right(self, data: bytes, md5: str) -> bool:
        wanted = md5.removesuffix(".dir")
        if self.hash_name == "md5":
            return hashlib.md5(data, usedforsecurity=False).hexdigest() == wanted
        from dvc_data.hashfile.hash import fobj_md5

        return bool(fobj_md5(io.BytesIO(data), name=self.hash_name) == wanted)

    def _files(self) -> Any:
        # One a process: a connection that two processes share mixes up their answers.
        key = (os.getpid(), self.remote, self.root)
        if self.remote and key not in _OPEN:
            _OPEN[key] = self._connected()
        return _OPEN.get(key)

    def _connected(self) -> Any:
        from dvc.exceptions import DvcException
        from dvc.fs import get_cloud_fs

        try:
            kind, config, _ = get_cloud_fs(self.config, name=self.remote)
            if kind.protocol == "s3":
                config = {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT} | config
            return kind(**config)
        except DvcException as error:
            raise SourceError(f"the DVC remote {self.remote}: {first_line(error)}") from None


_OPEN: dict[tuple[int, str, str], Any] = {}
