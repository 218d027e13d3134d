"""Access to S3 for everything that reads or writes there: a client with every setting said, and errors in words.

In: boto3's own environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL…), and addresses `s3://bucket/prefix`.
Out: a client; bucket and prefix; what an error means and what to do. No credential is ever part of a message.
"""

import os
import re
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from twofold.core.errors import DataError, SourceError

THREADS = 8  # requests at once in each process: an answer takes far longer than its bytes
CONNECT_TIMEOUT, READ_TIMEOUT = 10, 30  # seconds
ATTEMPTS = 5  # of one request, botocore's own
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_REMEDIES = {
    "NoSuchBucket": "no such bucket",
    "NoSuchKey": "no such object any more; it was there when the bucket was listed",
    "404": "no such bucket or object",
    "AccessDenied": "access denied; the credentials need s3:ListBucket on the bucket and s3:GetObject on its objects",
    "403": "access denied; the credentials need s3:ListBucket on the bucket and s3:GetObject on its objects",
    "ExpiredToken": "the credentials have expired; get new ones",
    "TokenRefreshRequired": "the credentials have expired; get new ones",
    "InvalidToken": "the session token is not valid; get new credentials",
    "InvalidAccessKeyId": "the access key is not known there; check AWS_ACCESS_KEY_ID and the endpoint",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "PermanentRedirect": "the bucket lies in another region; set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket lies in another region; set AWS_DEFAULT_REGION",
    "InvalidObjectState": "the object is archived; restore it first",
}


def parse(address: str, name: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`; the prefix is empty or ends with a slash.

    Args:
        address: as it was given.
        name: of the setting that it comes from, for the error.

    Raises:
        DataError: it is no such address, or one with credentials in it.
    """
    # The address is shown, logged and kept; credentials in it would be too.
    if "@" in address.removeprefix("s3://").partition("/")[0]:
        raise DataError(f"{name}: an s3:// address holds no credentials; boto3 takes them from AWS_…")
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket) or not prefix.isprintable():
        raise DataError(f"{name}: found {address!r}; must be s3://bucket or s3://bucket/prefix")
    # With the slash, s3://bucket/cells does not take in the objects of s3://bucket/cells-old.
    return bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""


def endpoint() -> str | None:
    """The S3 server's address, None for AWS: of boto3's own variables, or MLflow's where those are not set."""
    given = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
    return next((os.environ[name] for name in given if os.environ.get(name)), None)


def client(attempts: int | None = None) -> Any:
    """boto3's client for S3, with everything said that its versions have as changing defaults.

    Args:
        attempts: of one request; ATTEMPTS if None.

    Raises:
        SourceError: the environment's settings for S3 make no client.
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
        # Other stores than AWS seldom have a name in DNS for each bucket.
        s3={"addressing_style": "path"} if address else None,
    )
    try:
        return boto3.Session().client("s3", endpoint_url=address, config=settings)
    except (BotoCoreError, ValueError) as error:
        raise SourceError(f"S3: {error}") from None


def reason(error: ClientError) -> str:
    """What a server's refusal means, and what to do about it."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if status == 412 or code in ("PreconditionFailed", "412"):
        return "replaced while it was read; run again when nobody writes there"
    return f"{_REMEDIES.get(code, 'refused by the server')} ({code or 'no code'}, HTTP {status})"
