"""A folder in a revision of a DVC repository as a source of labelled images.

The address is `dvc+<git url or path>@<rev>:<path>`: a Git repository, a revision of it (commit, tag, branch) and a
folder in that revision, laid out like any other folder of images (see `twofold/sources/labels.py`). The source offers
the files that DVC tracks and those that Git tracks, so that a run in a cluster trains on exactly the data of a laptop.

- Nothing is checked out: an object is read by its MD5 from the repository's own DVC cache, otherwise from its DVC
  remote, and verified against that MD5, as with `verify = true` (see `twofold/sources/dvc_objects.py`).
- The manifest of a folder (`.dir`) is verified against its MD5 too. Its paths are names, nothing is ever written to
  them, and a path that leaves the folder makes the step fail.
- Git and the remote take credentials from the environment (AWS_ACCESS_KEY_ID, an SSH agent…) or from DVC's own
  configuration; they are in no parameter.
"""

import atexit
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath
from typing import Any

from twofold.core.drafts import scratch_folder
from twofold.core.errors import DataError, SourceError, first_line, is_transient
from twofold.core.progress import say
from twofold.sources.base import FetchedFile, FileRequest, Listing
from twofold.sources.dvc_objects import DvcObjectStore
from twofold.sources.labels import LABELS, LARGEST_TABLE, list_labelled, refuse_name
from twofold.storage.s3_client import map_in_threads

_GIT = "git"  # the store of the files that Git tracks; the others are numbered
_FORM = "dvc+<git url or path>@<revision>:<path in it>"
_UPSTREAM_CACHE = "auto-generated-upstream"  # DVC's name for the cache of a local repository without a remote
_WRONG_NAME = "the name is not printable UTF-8; rename it"


class DvcSource:
    """A folder in a revision; an address that has another form raises a DataError."""

    def __init__(self, address: str) -> None:
        match = re.fullmatch(r"dvc\+(.+)@([^@:]+):([^:@]*)", address)
        if match is None or not address.isprintable():
            raise DataError(f"ingest.source: found {address!r}; must be {_FORM}")
        self.url, self.rev, path = match.groups()
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise DataError(
                f"ingest.source: found the path {path!r}; it must be relative to the repository and stay in it"
            )
        self.path = PurePosixPath(path).as_posix()
        self.name = address
        self._objects: dict[str, FileRequest] = {}
        self._stores: list[DvcObjectStore] = []
        self._git_root, self._commit = "", ""
        self._git_trees: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A worker process needs neither the listing, which may be long, nor open file systems, which cannot be sent.
        return self.__dict__ | {"_objects": {}, "_git_trees": {}}

    def listing(self) -> Listing:
        """List the folder's images in that revision.

        Raises:
            SourceError: the repository, revision or path does not exist, or a manifest cannot be read.
            DataError: a path in a manifest leaves its folder, or `labels.csv` is too large or has wrong rows.
        """
        found = self._list_files()
        self._objects = {request.key: request for request in found if request.key.isprintable()}
        ignored = [refuse_name(request.key, _WRONG_NAME) for request in found if not request.key.isprintable()]
        if not found:
            raise SourceError(f"{self.name}: no file found there, neither in Git nor in DVC")
        return list_labelled(
            self.name,
            self._objects,
            ignored,
            lambda limit: self._fetch_file(self._objects[LABELS], limit),
            lambda key: None if key in self._objects else "no such file in that revision",
        )

    def request(self, key: str) -> FileRequest:
        """Return the request for a key of the listing; its `etag` is store and MD5, or Git's commit and path."""
        return self._objects[key]

    def fetch(self, requests: Sequence[FileRequest], limit: int) -> list[FetchedFile]:
        """Return the files, in order; of one above `limit` bytes, nothing or its beginning.

        Raises:
            SourceError: an object is neither in the cache nor in the remote, or arrives corrupted.
        """
        if len(requests) > 1:  # opened here, since opening in several threads at once is not safe
            for store in {one.etag.partition(":")[0] for one in requests}:
                if store == _GIT:
                    self._git_tree()
                else:
                    self._stores[int(store)].open()
        return map_in_threads(lambda one: self._fetch_file(one, limit), requests)

    def _list_files(self) -> list[FileRequest]:
        """Return the requests of all files below the path: those that Git tracks, then those that DVC tracks."""
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            with _temporary_clone(), Repo.open(self.url, rev=self.rev, uninitialized=True) as repo:
                self._git_root, self._commit = str(repo.scm.root_dir), str(repo.get_rev())
                say(f"ingest: {self.rev} of {self.url} is commit {self._commit[:12]}")
                self._stores = []
                requests = []
                for path in map(_relative_path, repo.fs.find("/")):
                    requests += self._request(path, f"{_GIT}:{self._commit}:{path}")
                for out in repo.index.outs:
                    if out.is_in_repo:
                        requests += self._list_output(repo, out)
                return requests
        except DvcException as error:
            reason = f"{first_line(error)}{_format_causes(error)}"
            raise SourceError(f"{self.name}: {reason}", transient=is_transient(error)) from None

    def _request(self, path: str, etag: str) -> list[FileRequest]:
        """Return the request for a path of the repository; nothing if it is not below the source's path."""
        folder = "" if self.path == "." else f"{self.path}/"
        return [FileRequest(path.removeprefix(folder), 0, etag)] if path.startswith(folder) else []

    def _list_output(self, repo: Any, out: Any) -> Iterator[FileRequest]:
        """Yield the requests for one DVC output: a file, or a folder with its manifest."""
        path = _relative_path(out.fs_path)
        is_above = path == self.path or self.path.startswith(f"{path}/")
        if not out.use_cache or not (is_above or self._request(path, "")):
            return
        md5 = out.hash_info.value if out.hash_info else None
        if out.files or not md5 or out.hash_info.name not in ("md5", "md5-dos2unix"):
            raise SourceError(f"{self.name}: {path} has no MD5 in that revision (a cloud-versioned or frozen output?)")
        store = self._store_number(repo, out)
        if not md5.endswith(".dir"):
            yield from self._request(path, f"{store}:{md5}")
            return
        for relative, file_md5 in self._read_manifest(FileRequest(path, 0, f"{store}:{md5}")):
            yield from self._request(f"{path}/{relative}", f"{store}:{file_md5}")

    def _read_manifest(self, manifest: FileRequest) -> list[tuple[str, str]]:
        """Return (path below the folder, MD5) of every file of a folder."""
        what = f"{self.name}: the manifest of {manifest.key}"
        content = self._fetch_file(manifest, LARGEST_TABLE)
        try:
            rows = [(str(row["relpath"]), str(row["md5"])) for row in json.loads(content.data)]
        except (ValueError, KeyError, TypeError):
            raise SourceError(f"{what} is not valid: {content.reason or 'not a list of relpath and md5'}") from None
        for relative, md5 in rows:
            if any(part in ("", ".", "..") for part in relative.split("/")) or not re.fullmatch(r"[0-9a-f]{32}", md5):
                raise DataError(f"{what} holds {relative!r} (md5 {md5!r}), which DVC would not write; nothing was read")
        return rows

    def _store_number(self, repo: Any, out: Any) -> int:
        """Return the index in `_stores` of the store that holds an output."""
        from dvc.fs import get_cloud_fs

        name, config, root = out.remote or repo.config["core"].get("remote") or "", {}, ""
        if name == _UPSTREAM_CACHE:
            name = ""
        if name:
            _, settings, root = get_cloud_fs(repo.config, name=name)
            if settings.get("worktree") or settings.get("version_aware"):
                raise SourceError(
                    f"{self.name}: the remote {name} is cloud-versioned; only content-addressed remotes can be read"
                )
            config = {"remote": {name: dict(repo.config["remote"][name])}, "core": {}}
        cache = str(repo.cache.local.path).removesuffix("/files/md5")
        store = DvcObjectStore(cache, name, config, root, out.hash_info.name)
        if store not in self._stores:
            self._stores.append(store)
        return self._stores.index(store)

    def _fetch_file(self, request: FileRequest, limit: int) -> FetchedFile:
        store, _, name = request.etag.partition(":")
        if store != _GIT:
            return self._stores[int(store)].read(f"{self.name}: {request.key}", name, limit)
        with self._git_tree().open(f"/{name.partition(':')[2]}", "rb") as stream:
            return FetchedFile(stream.read(limit + 1))

    def _git_tree(self) -> Any:
        # One per process, because it holds file handles.
        process = os.getpid()
        if process not in self._git_trees:
            from dvc.fs.git import GitFileSystem
            from dvc.scm import SCM

            self._git_trees = {process: GitFileSystem(scm=SCM(self._git_root), rev=self._commit)}
        return self._git_trees[process]


def _relative_path(path: str) -> str:
    return PurePosixPath(path).as_posix().lstrip("/")


@contextmanager
def _temporary_clone() -> Iterator[None]:
    """Let DVC clone a remote repository into a folder of its own, which is removed when the process ends.

    DVC removes finished clones, but leaves the folder of a clone that failed.
    """
    from dvc.repo.open_repo import clean_repos

    clones = ExitStack()
    before, folder = tempfile.tempdir, clones.enter_context(scratch_folder())
    atexit.register(clones.close)
    atexit.register(clean_repos)  # runs first: atexit calls in reverse order of registration
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _format_causes(error: BaseException) -> str:
    """Return the causes of a DVC error, whose own message seldom names them."""
    message, causes = first_line(error), ""
    while error.__cause__ is not None:
        error = error.__cause__
        if first_line(error) not in message + causes:
            causes += f": {first_line(error)}"
    return causes
