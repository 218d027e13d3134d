"""Access to S3: a client with explicit settings, addresses, and error messages with a remedy.

Credentials, region and endpoint come from boto3's own environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL…).
No message contains a credential.
"""

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from twofold.core.errors import DataError, SourceError, is_transient
from twofold.core.redaction import REFUSAL, has_credentials

T = TypeVar("T")
R = TypeVar("R")
THREADS = 8  # concurrent requests in each process: waiting for a response takes far longer than its bytes
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30  # seconds
ATTEMPTS = 5  # of one request, by botocore
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_DENIED = "access denied; the credentials need s3:ListBucket on the bucket and s3:GetObject on its objects"
_EXPIRED = "the credentials have expired; get new ones"
_OTHER_REGION = "the bucket is in another region; set AWS_DEFAULT_REGION"
_EXPLANATIONS = {
    "NoSuchBucket": "no such bucket",
    "NoSuchKey": "no such object any more; it was there when the bucket was listed",
    "404": "no such bucket or object",
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": "the session token is not valid; get new credentials",
    "InvalidAccessKeyId": "the server does not know the access key; check AWS_ACCESS_KEY_ID and the endpoint",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "PermanentRedirect": _OTHER_REGION,
    "AuthorizationHeaderMalformed": _OTHER_REGION,
    "InvalidObjectState": "the object is archived; restore it first",
}


def parse_address(address: str, name: str) -> tuple[str, str]:
    """Return bucket and prefix of `s3://bucket/prefix`; the prefix is empty or ends with a slash.

    Raises:
        DataError: the address has another form or contains credentials; the message begins with `name`.
    """
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if has_credentials(address):
        raise DataError(f"{name}: {REFUSAL}")
    if not _BUCKET.fullmatch(bucket) or not prefix.isprintable():
        raise DataError(f"{name}: found {address!r}; must be s3://bucket or s3://bucket/prefix")
    # The slash keeps s3://bucket/cells from matching the objects of s3://bucket/cells-old.
    return bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""


def endpoint() -> str | None:
    """Return the S3 server's address from boto3's variables, otherwise from MLflow's; None for AWS."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def create_client(attempts: int | None = None) -> Any:
    """Return boto3's S3 client, with explicit values for settings whose defaults change between versions.

    Raises:
        SourceError: the environment's S3 settings are not valid.
    """
    address = endpoint()
    settings = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": attempts or ATTEMPTS},
        max_pool_connections=THREADS,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_supported",
        # Stores other than AWS seldom have a DNS name for each bucket.
        s3={"addressing_style": "path"} if address else None,
    )
    try:
        return boto3.Session().client("s3", endpoint_url=address, config=settings)
    except (BotoCoreError, ValueError) as error:
        raise SourceError(f"S3: {error}") from None


def map_in_threads(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return the result of `work` for each item, in order, computed by THREADS threads."""
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(work, items))


def explain_error(error: ClientError) -> str:
    """Return what a server's error means and what to do about it."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if status == 412 or code in ("PreconditionFailed", "412"):
        return "replaced while it was read; run again when nobody writes there"
    unknown = "the server failed or is overloaded" if is_transient(error) else "refused by the server"
    return f"{_EXPLANATIONS.get(code, unknown)} ({code or 'no code'}, HTTP {status})"
