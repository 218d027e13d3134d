"""A version of a DVC repository as the source of labelled images.

In: `dvc+<git url or path>@<rev>:<path>`: a Git repository, a revision of it (commit, tag, branch) and a folder in that
revision, laid out as any other folder of images (see `twofold/sources/labels.py`). Out: what the folder holds there,
files that DVC keeps and files that Git keeps alike, and their bytes. So a run in a cluster trains on exactly the data
that lay on a laptop.

- Nothing is checked out: an object is read by its MD5 from the repository's own DVC cache, else from its DVC remote,
  and is held to that MD5, as with `verify = true` (see `twofold/sources/dvc_objects.py`).
- The manifest of a folder (`.dir`) is held to its MD5 too. Its paths are names, nothing is ever written under them, and
  one that leaves the folder ends the step.
- Credentials are those that Git and the remote's kind take from the environment (AWS_ACCESS_KEY_ID, an SSH agent…) or
  from DVC's own configuration, and are in no parameter.
"""

import atexit
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from twofold.core.errors import DataError, SourceError, first_line
from twofold.core.progress import say
from twofold.sources.base import FetchedFile, FileRequest, IgnoredFile, Listing
from twofold.sources.dvc_objects import DvcObjectStore
from twofold.sources.labels import LABELS, LARGEST_TABLE, is_hidden, list_labelled, printable

THREADS = 8  # reads at once in each worker: an answer takes far longer than its bytes
_GIT = "git"  # the store of what Git keeps; the others are numbered
_FORM = "dvc+<git url or path>@<revision>:<path in it>"
_ITS_CACHE = "auto-generated-upstream"  # what DVC calls the cache of a local repository that names no remote
_DVCS_OWN = ("dvc.yaml", "dvc.lock")
_WRONG_NAME = "the name is not printable UTF-8; rename it"


class DvcSource:
    """A folder in a revision of a DVC repository.

    Raises:
        DataError: the address is not of the form above, or holds a password.
    """

    def __init__(self, address: str) -> None:
        found = re.fullmatch(r"dvc\+(.+)@([^@:]+):([^:@]*)", address)
        if found is None or not address.isprintable():
            raise DataError(f"ingest.source: found {address!r}; must be {_FORM}")
        self.url, self.rev, path = found.groups()
        # The address is shown, logged and kept; credentials in it would be too. `git@` is no secret.
        if "://" in self.url and urlsplit(self.url).password:
            raise DataError(f"ingest.source: {_FORM} holds no password; Git takes it from its credential helper")
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise DataError(
                f"ingest.source: found the path {path!r}; it must be relative to the repository and stay in it"
            )
        self.path = PurePosixPath(path).as_posix()
        self.name = address
        self._objects: dict[str, FileRequest] = {}
        self._stores: list[DvcObjectStore] = []
        self._place, self._commit = "", ""
        self._trees: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # To a worker goes neither the listing, which may be long, nor what is open, which cannot.
        return self.__dict__ | {"_objects": {}, "_trees": {}}

    def listing(self) -> Listing:
        """What the folder holds in that revision.

        Raises:
            SourceError: the repository, the revision or the path is not there, or a manifest does not arrive.
            DataError: a path in a manifest leaves its folder.
        """
        self._objects = {}
        ignored: list[IgnoredFile] = []
        for key, wanted in self._found():
            parts = key.split("/")
            if not key.isprintable():
                names = [printable(part) for part in parts]
                ignored.append(IgnoredFile("/".join(names), names[0] if len(names) > 1 else "", _WRONG_NAME, True))
            elif not any(is_hidden(part) for part in parts):
                self._objects[key] = wanted
        if not self._objects and not ignored:
            raise SourceError(f"{self.name}: no file lies there, neither in Git nor in DVC")
        return list_labelled(
            self.name,
            self._objects,
            ignored,
            lambda: self._fetched(self._objects[LABELS], LARGEST_TABLE),
            lambda key: None if key in self._objects else "no such file in that revision",
        )

    def wanted(self, key: str) -> FileRequest:
        """What `fetch` takes for a key of the listing; as `etag` the store and the MD5, or Git's commit and path."""
        return self._objects[key]

    def fetch(self, wanted: Sequence[FileRequest], limit: int) -> list[FetchedFile]:
        """The files' bytes, in their order; of one above `limit` bytes, nothing.

        Raises:
            SourceError: an object is neither in the cache nor in the remote, or does not arrive whole.
        """
        if len(wanted) < 2:
            return [self._fetched(one, limit) for one in wanted]
        for place in {one.etag.partition(":")[0] for one in wanted}:
            if place == _GIT:
                self._git()
            else:
                self._stores[int(place)].open()
        with ThreadPoolExecutor(min(THREADS, len(wanted))) as pool:
            return list(pool.map(lambda one: self._fetched(one, limit), wanted))

    def _found(self) -> Iterator[tuple[str, FileRequest]]:
        """Every file below the path, with its key below it: those of Git, then those of DVC."""
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            with _clones(), Repo.open(self.url, rev=self.rev, uninitialized=True) as repo:
                self._place, self._commit = str(repo.scm.root_dir), str(repo.get_rev())
                say(f"ingest: {self.rev} of {self.url} is commit {self._commit[:12]}")
                outs = [(self._key(out.fs_path), out) for out in repo.index.outs if out.is_in_repo]
                tracked = [self._key(path) for path in repo.fs.find("/")]
                self._stores = []
                found = [*self._in_git(tracked), *(file for key, out in outs for file in self._in_dvc(repo, key, out))]
        except DvcException as error:
            raise SourceError(f"{self.name}: {first_line(error)}{_cause(error)}") from None
        return iter(found)

    @staticmethod
    def _key(path: str) -> str:
        return PurePosixPath(path).as_posix().lstrip("/")

    def _below(self, path: str) -> str | None:
        """The key of a path of the repository; None if it does not lie below the source's path."""
        if self.path == ".":
            return path
        return path.removeprefix(f"{self.path}/") if path.startswith(f"{self.path}/") else None

    def _in_git(self, tracked: Sequence[str]) -> Iterator[tuple[str, FileRequest]]:
        for path in tracked:
            key, name = self._below(path), PurePosixPath(path).name
            if key is not None and name not in _DVCS_OWN and not name.endswith(".dvc"):
                yield key, FileRequest(key, 0, f"{_GIT}:{self._commit}:{path}")

    def _in_dvc(self, repo: Any, path: str, out: Any) -> Iterator[tuple[str, FileRequest]]:
        """The files of one output of DVC: a file, or a folder with its manifest."""
        around = path == self.path or self.path.startswith(f"{path}/")
        if not out.use_cache or not (around or self._below(path) is not None):
            return
        md5 = out.hash_info.value if out.hash_info else None
        if out.files or not md5 or out.hash_info.name not in ("md5", "md5-dos2unix"):
            raise SourceError(f"{self.name}: {path} has no MD5 in that revision (a cloud-versioned or frozen output?)")
        store = self._store(repo, out)
        if not md5.endswith(".dir"):
            key = self._below(path)
            if key is not None:
                yield key, FileRequest(key, 0, f"{store}:{md5}")
            return
        for relative, of_file in self._manifest(path, FileRequest(path, 0, f"{store}:{md5}")):
            key = self._below(f"{path}/{relative}")
            if key is not None:
                yield key, FileRequest(key, 0, f"{store}:{of_file}")

    def _manifest(self, path: str, wanted: FileRequest) -> Iterator[tuple[str, str]]:
        """(path below the folder, MD5) of every file of a folder."""
        what = f"{self.name}: the manifest of {path}"
        content = self._fetched(wanted, LARGEST_TABLE)
        try:
            rows = [(str(row["relpath"]), str(row["md5"])) for row in json.loads(content.data)]
        except (ValueError, KeyError, TypeError):
            raise SourceError(f"{what} is none: {content.reason or 'not a list of relpath and md5'}") from None
        for relative, md5 in rows:
            if any(part in ("", ".", "..") for part in relative.split("/")) or not re.fullmatch(r"[0-9a-f]{32}", md5):
                raise DataError(f"{what} holds {relative!r} (md5 {md5!r}), which DVC would not write; nothing was read")
        return iter(rows)

    def _store(self, repo: Any, out: Any) -> int:
        """The number of the store in which an output lies."""
        from dvc.fs import get_cloud_fs

        name, config, root = out.remote or repo.config["core"].get("remote") or "", {}, ""
        if name == _ITS_CACHE:
            name = ""
        if name:
            _, all_of_it, root = get_cloud_fs(repo.config, name=name)
            if all_of_it.get("worktree") or all_of_it.get("version_aware"):
                raise SourceError(
                    f"{self.name}: the remote {name} is cloud-versioned; only ones by content can be read"
                )
            config = {"remote": {name: dict(repo.config["remote"][name])}, "core": {}}
        cache = str(repo.cache.local.path).removesuffix("/files/md5")
        store = DvcObjectStore(cache, name, config, root, out.hash_info.name)
        if store not in self._stores:
            self._stores.append(store)
        return self._stores.index(store)

    def _fetched(self, wanted: FileRequest, limit: int) -> FetchedFile:
        place, _, name = wanted.etag.partition(":")
        if place != _GIT:
            return self._stores[int(place)].read(f"{self.name}: {wanted.key}", name, limit)
        with self._git().open(f"/{name.partition(':')[2]}", "rb") as stream:
            return FetchedFile(stream.read(limit + 1))

    def _git(self) -> Any:
        # One a process, for its file handles.
        process = os.getpid()
        if process not in self._trees:
            from dvc.fs.git import GitFileSystem
            from dvc.scm import SCM

            self._trees = {process: GitFileSystem(scm=SCM(self._place), rev=self._commit)}
        return self._trees[process]


@contextmanager
def _clones() -> Iterator[None]:
    """The clone of a repository that lies elsewhere goes to a folder of its own, which is removed with the process.

    DVC removes the clones that it finished, and leaves a folder behind of one that failed.
    """
    from dvc.repo.open_repo import clean_repos

    before, folder = tempfile.tempdir, tempfile.mkdtemp(prefix="twofold-dvc-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(clean_repos)  # the last registered is the first to run
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
        with suppress(OSError):
            Path(folder).rmdir()  # nothing was cloned


def _cause(error: BaseException) -> str:
    """What lies behind an error of DVC's, whose own words seldom tell."""
    said, words = first_line(error), ""
    while error.__cause__ is not None:
        error = error.__cause__
        if first_line(error) not in said + words:
            words += f": {first_line(error)}"
    return words
