"""Objects in an S3 bucket as a source of labelled images, laid out like a folder (see `twofold/sources/labels.py`).

The address is `s3://bucket/prefix`. Credentials, region and endpoint come from boto3's own environment
(AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL…) and are in no parameter.

- The bucket is listed until two listings in a row agree. Nothing else reveals a page that was lost or repeated on the
  way, or a bucket that is being filled.
- An object is fetched in the version that was listed (`If-Match`); if it was replaced meanwhile, the step fails.
- The bytes are verified against the listed length, and against the store's checksum if botocore can compute it,
  otherwise against an ETag that is an MD5. Without either, the file counts as unverified.
- A corrupted transfer is tried again a few times; then the step fails. No object is left out because of the network.
- Keys are names and not paths: nothing is ever written to a path made from one.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from botocore.httpchecksum import StreamingChecksumBody
from urllib3.exceptions import HTTPError

from twofold.core.errors import SourceError, first_line, is_transient
from twofold.sources.base import CorruptionError, FetchedFile, FileRequest, IgnoredFile, Listing, retry_corrupted
from twofold.sources.labels import LABELS, list_labelled, refuse_name
from twofold.storage.s3_client import create_client, explain_error, map_in_threads, parse_address

T = TypeVar("T")
PAGE = 1000  # objects in a page of a listing; S3's maximum
LISTINGS = 5  # at most, until two in a row agree
_MD5 = re.compile(r"[0-9a-f]{32}")
_WRONG_NAME = "the key is no relative path of printable UTF-8 (.., an empty part, a control character); rename it"


class S3Source:
    """The objects below a prefix; an address other than `s3://bucket/prefix` raises a DataError."""

    def __init__(self, address: str) -> None:
        self.bucket, self.prefix = parse_address(address, "ingest.source")
        self.name = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self._objects: dict[str, FileRequest] = {}
        self._clients: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A worker process needs neither the listing, which may be long, nor the client, which cannot be sent.
        return self.__dict__ | {"_objects": {}, "_clients": {}}

    def listing(self) -> Listing:
        """List the objects below the prefix.

        Raises:
            SourceError: the bucket cannot be listed, has no such object, or changes from listing to listing.
            DataError: `labels.csv` is too large or has wrong rows, each named by its line.
        """
        found = self._list_until_stable()
        if not found:
            raise SourceError(f"{self.name}: no object found there; a prefix ends at a slash")
        self._objects = {}
        ignored: list[IgnoredFile] = []
        for key, size, etag in found:
            if size == 0 and (not key or key.endswith("/")):
                continue  # a placeholder that consoles create for a folder
            if not key.isprintable() or any(part in ("", ".", "..") for part in key.split("/")):
                ignored.append(refuse_name(key, _WRONG_NAME))
            else:
                self._objects[key] = FileRequest(key, size, etag)
        return list_labelled(
            self.name,
            self._objects,
            ignored,
            lambda limit: self._fetch_object(self._objects[LABELS], limit),
            lambda key: None if key in self._objects else "no such object",
        )

    def request(self, key: str) -> FileRequest:
        """Return the request for a key of the listing."""
        return self._objects[key]

    def fetch(self, requests: Sequence[FileRequest], limit: int) -> list[FetchedFile]:
        """Return the objects, in order; one above `limit` bytes is not fetched.

        Raises:
            SourceError: an object is gone, was replaced, or arrives corrupted.
        """
        if requests:
            self._client()  # created here, since creating clients in several threads at once is not safe
        return map_in_threads(lambda one: self._fetch_object(one, limit), requests)

    def _list_until_stable(self) -> list[tuple[str, int, str]]:
        """Return (key below the prefix, bytes, ETag) of every object, once two listings in a row agree."""
        last: list[tuple[str, int, str]] | None = None
        for _ in range(LISTINGS):
            found = list(self._list_objects())
            if found == last:
                return found
            last = found
        raise SourceError(f"{self.name}: {LISTINGS} listings in a row differ; run again when nobody writes there")

    def _list_objects(self) -> Iterator[tuple[str, int, str]]:
        token: dict[str, str] = {}
        keys: set[str] = set()
        while True:
            page = self._with_retries(self.name, partial(self._list_page, token))
            for item in page.get("Contents", []):
                key = item["Key"]
                if key in keys or not key.startswith(self.prefix):
                    raise SourceError(f"{self.name}: the listing holds {key!r} twice, or outside the prefix; run again")
                keys.add(key)
                yield key[len(self.prefix) :], int(item["Size"]), item.get("ETag", "")
            if not page.get("IsTruncated"):
                return
            following = page.get("NextContinuationToken")
            if not following or following == token.get("ContinuationToken"):
                raise SourceError(f"{self.name}: the listing ends early, after {len(keys)} objects; run again")
            token = {"ContinuationToken": following}

    def _list_page(self, token: dict[str, str]) -> dict[str, Any]:
        client = self._client()
        page: dict[str, Any] = client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix, MaxKeys=PAGE, **token)
        found, stated = len(page.get("Contents", [])), page.get("KeyCount")
        if stated not in (None, found):
            raise CorruptionError(f"a page of the listing holds {found} objects but states {stated}")
        return page

    def _fetch_object(self, request: FileRequest, limit: int) -> FetchedFile:
        if request.bytes > limit:
            return FetchedFile(b"", f"{request.bytes} bytes, allowed are at most {limit}")
        return self._with_retries(f"{self.name}/{request.key}", lambda: self._download(request))

    def _download(self, request: FileRequest) -> FetchedFile:
        same = {"IfMatch": request.etag} if request.etag else {}
        answer = self._client().get_object(
            Bucket=self.bucket, Key=self.prefix + request.key, ChecksumMode="ENABLED", **same
        )
        try:
            # `with answer["Body"] as body` would yield the underlying stream, which does not compute the checksum.
            with closing(answer["Body"]) as body:
                data = body.read()
        except (BotoCoreError, HTTPError, OSError) as error:
            raise CorruptionError(first_line(error)) from None
        if len(data) != request.bytes:
            raise CorruptionError(f"received {len(data)} of {request.bytes} bytes")
        # A checksum in the response is not enough: botocore silently ignores one that is computed over the checksums of
        # parts, or is of a kind that it does not know (CRC-64).
        verified = isinstance(body, StreamingChecksumBody)
        etag = request.etag.strip('"')
        # The ETag of an object uploaded in parts, or encrypted with its owner's key, is not an MD5 of the bytes.
        own_key = "SSECustomerAlgorithm" in answer or "kms" in answer.get("ServerSideEncryption", "")
        if not verified and _MD5.fullmatch(etag) and not own_key:
            if hashlib.md5(data, usedforsecurity=False).hexdigest() != etag:
                raise CorruptionError("the bytes are not those of its ETag")
            verified = True
        version = answer.get("VersionId", "")
        return FetchedFile(data, version="" if version == "null" else version, verified=verified)

    def _with_retries(self, what: str, work: Callable[[], T]) -> T:
        try:
            return retry_corrupted(what, work)
        except ClientError as error:
            raise SourceError(f"{what}: {explain_error(error)}", transient=is_transient(error)) from None
        except (NoCredentialsError, PartialCredentialsError):
            keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            raise SourceError(f"{what}: no credentials for S3 in the environment; set {keys}") from None
        except (BotoCoreError, HTTPError, OSError, ValueError) as error:
            # botocore has already retried for some seconds where that could help.
            raise SourceError(f"{what}: {first_line(error)}", transient=is_transient(error)) from None

    def _client(self) -> Any:
        # One per process: processes that share a connection would mix up their responses.
        process = os.getpid()
        if process not in self._clients:
            self._clients = {process: create_client()}
        return self._clients[process]
