"""Objects in an S3 bucket as the source of labelled images.

In: `s3://bucket/prefix`, laid out as a folder would be (see `twofold/sources/labels.py`), and the credentials, region
and endpoint of boto3's own environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL…), which are in no parameter.
Out: what lies below the prefix, and its bytes.

- The listing is asked for twice, and again until two in a row agree: a page that is lost or repeated on the way, or a
  bucket that is being filled, shows itself in no other way.
- An object is fetched in the version that was listed (`If-Match`); one that was replaced meanwhile ends the step.
- Its bytes are held to the length listed, to the checksum if the store keeps one that botocore knows how to compare,
  else to an ETag that is an MD5. Where there is neither, they count as unverified.
- What does not arrive whole is fetched again a few times; then the step fails. No object is left out because the
  network was bad.
- Keys are names and never paths: nothing is ever written under them.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
from botocore.httpchecksum import StreamingChecksumBody
from urllib3.exceptions import HTTPError

from twofold.core.errors import SourceError, first_line
from twofold.sources.base import CorruptionError, FetchedFile, FileRequest, IgnoredFile, Listing, retry_corrupted
from twofold.sources.labels import LABELS, LARGEST_TABLE, is_hidden, list_labelled, printable
from twofold.storage.s3_client import THREADS, client, parse, reason

T = TypeVar("T")
PAGE = 1000  # objects in a page of a listing; S3 gives no more
LISTINGS = 5  # at most, until two in a row agree
_MD5 = re.compile(r"[0-9a-f]{32}")


class S3Source:
    """The objects below a prefix.

    Raises:
        DataError: the address is not `s3://bucket/prefix`.
    """

    def __init__(self, address: str) -> None:
        bucket, self.prefix = parse(address, "ingest.source")
        self.bucket = bucket
        self.name = f"s3://{bucket}/{self.prefix}".rstrip("/")
        self._objects: dict[str, FileRequest] = {}
        self._clients: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # To a worker goes neither the listing, which may be long, nor the client, which cannot.
        return self.__dict__ | {"_objects": {}, "_clients": {}}

    def listing(self) -> Listing:
        """What lies below the prefix.

        Raises:
            SourceError: it cannot be listed, there is nothing, or it does not hold still.
        """
        found = self._settled()
        if not found:
            raise SourceError(f"{self.name}: no object lies there; a prefix ends at a slash")
        self._objects = {}
        ignored: list[IgnoredFile] = []
        for key, size, etag in found:
            parts = key.split("/")
            if size == 0 and (not key or key.endswith("/")):
                continue  # a console's picture of a folder
            if not key.isprintable() or any(part in ("", ".", "..") for part in parts):
                names = [printable(part) for part in parts]
                ignored.append(IgnoredFile("/".join(names), names[0] if len(names) > 1 else "", _WRONG_NAME, True))
            elif any(is_hidden(part) for part in parts):
                continue
            else:
                self._objects[key] = FileRequest(key, size, etag)
        return list_labelled(
            self.name,
            self._objects,
            ignored,
            lambda: self._fetched(self._objects[LABELS], LARGEST_TABLE),
            lambda key: None if key in self._objects else "no such object",
        )

    def wanted(self, key: str) -> FileRequest:
        """What `fetch` takes for a key of the listing."""
        return self._objects[key]

    def fetch(self, wanted: Sequence[FileRequest], limit: int) -> list[FetchedFile]:
        """The objects' bytes, in their order; one above `limit` bytes is not fetched.

        Raises:
            SourceError: an object is gone, was replaced, or does not arrive whole.
        """
        if len(wanted) < 2:
            return [self._fetched(one, limit) for one in wanted]
        self._client()  # made here: making one in several threads at once is not safe
        with ThreadPoolExecutor(min(THREADS, len(wanted))) as pool:
            return list(pool.map(lambda one: self._fetched(one, limit), wanted))

    def _settled(self) -> list[tuple[str, int, str]]:
        """(key below the prefix, bytes, ETag) of every object, as two listings in a row give them."""
        last: list[tuple[str, int, str]] | None = None
        for _ in range(LISTINGS):
            found = list(self._pages())
            if found == last:
                return found
            last = found
        raise SourceError(f"{self.name}: {LISTINGS} listings in a row differ; run again when nobody writes there")

    def _pages(self) -> Iterator[tuple[str, int, str]]:
        token: dict[str, str] = {}
        seen: set[str] = set()
        while True:
            page = self._tried(self.name, partial(self._page, token))
            for item in page.get("Contents", []):
                if item["Key"] in seen or not item["Key"].startswith(self.prefix):
                    raise SourceError(f"{self.name}: the listing holds {item['Key']!r} twice, or by mistake; run again")
                seen.add(item["Key"])
                yield item["Key"][len(self.prefix) :], int(item["Size"]), item.get("ETag", "")
            if not page.get("IsTruncated"):
                return
            following = page.get("NextContinuationToken")
            if not following or following == token.get("ContinuationToken"):
                raise SourceError(f"{self.name}: the listing breaks off after {len(seen)} objects; run again")
            token = {"ContinuationToken": following}

    def _page(self, token: dict[str, str]) -> dict[str, Any]:
        page: dict[str, Any] = self._client().list_objects_v2(
            Bucket=self.bucket, Prefix=self.prefix, MaxKeys=PAGE, **token
        )
        found, told = len(page.get("Contents", [])), page.get("KeyCount")
        if told is not None and told != found:
            raise CorruptionError(f"a page of the listing holds {found} objects and tells of {told}")
        return page

    def _fetched(self, wanted: FileRequest, limit: int) -> FetchedFile:
        if wanted.bytes > limit:
            return FetchedFile(b"", f"{wanted.bytes} bytes, allowed are at most {limit}")
        return self._tried(f"{self.name}/{wanted.key}", lambda: self._once(wanted))

    def _once(self, wanted: FileRequest) -> FetchedFile:
        same = {"IfMatch": wanted.etag} if wanted.etag else {}
        answer = self._client().get_object(
            Bucket=self.bucket, Key=self.prefix + wanted.key, ChecksumMode="ENABLED", **same
        )
        try:
            # Not `with answer["Body"] as body`: that is the stream underneath, of which nobody takes the checksum.
            with closing(answer["Body"]) as body:
                data = body.read()
        except (BotoCoreError, HTTPError, OSError) as error:
            raise CorruptionError(first_line(error)) from None
        if len(data) != wanted.bytes:
            raise CorruptionError(f"{len(data)} bytes came of {wanted.bytes}")
        # A checksum in the answer is not enough: one over the sums of parts, or of a kind that botocore lacks
        # (CRC-64), is passed by without a word.
        verified = isinstance(body, StreamingChecksumBody)
        etag = wanted.etag.strip('"')
        # An object that came in parts, or is encrypted by a key of its owner's, has another ETag.
        own_key = "SSECustomerAlgorithm" in answer or "kms" in answer.get("ServerSideEncryption", "")
        if not verified and _MD5.fullmatch(etag) and not own_key:
            if hashlib.md5(data, usedforsecurity=False).hexdigest() != etag:
                raise CorruptionError("the bytes are not those of its ETag")
            verified = True
        version = answer.get("VersionId", "")
        return FetchedFile(data, version="" if version == "null" else version, verified=verified)

    def _tried(self, what: str, work: Callable[[], T]) -> T:
        try:
            return retry_corrupted(what, work)
        except ClientError as error:
            raise SourceError(f"{what}: {reason(error)}") from None
        except (NoCredentialsError, PartialCredentialsError):
            keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            raise SourceError(f"{what}: no credentials for S3 in the environment; set {keys}") from None
        except (BotoCoreError, HTTPError, OSError, ValueError) as error:
            # botocore has tried again already, where that could help.
            raise SourceError(f"{what}: {first_line(error)}") from None

    def _client(self) -> Any:
        # One a process: a connection that two processes share mixes up their answers.
        process = os.getpid()
        if process not in self._clients:
            self._clients = {process: client()}
        return self._clients[process]


_WRONG_NAME = "the key is no relative path of printable UTF-8 (.., an empty part, a control character); rename it"
