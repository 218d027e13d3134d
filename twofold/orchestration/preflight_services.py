"""Checks that S3 and MLflow answer and accept this process's credentials.

Reads the addresses and credentials from the environment, as boto3 and the MLflow client do, and returns findings.
Nothing is written to either service. No credential is ever part of a finding, or sent to where a server redirects.
"""

import base64
import json
import os
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from twofold.core.errors import first_line
from twofold.orchestration.preflight_findings import Finding, failure, not_checked, ok, warning
from twofold.tracking.store import without_credentials
from twofold.tracking.urls import NoRedirects

TIMEOUT = 10.0  # seconds for an answer
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"  # the cheapest call that requires a login
S3_ERRORS = {  # by HTTP status: what it means, what to do
    301: ("the bucket is in another region", "set AWS_DEFAULT_REGION to the bucket's region"),
    400: (
        "the request was rejected as malformed, usually for an expired token or another region",
        "renew the credentials in the secret, set AWS_DEFAULT_REGION",
    ),
    403: (
        "the credentials are refused, or do not give access to this bucket",
        "correct the keys in the secret, or allow s3:ListBucket on the bucket",
    ),
    404: ("no such bucket", "create the bucket, or correct its name"),
}


class Response(NamedTuple):
    status: int
    text: str


def s3(bucket: str | None) -> Finding:
    """Check that the bucket exists for this process's credentials, with a HEAD request; nothing is read."""
    if not bucket:
        return not_checked("S3", "ingest.source names no bucket", "name one to check: --bucket NAME")
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    from twofold.storage.s3_client import endpoint

    check, address = f"S3 bucket {bucket}", endpoint()
    server = without_credentials(address) if address else "AWS"
    config = Config(connect_timeout=TIMEOUT / 2, read_timeout=TIMEOUT, retries={"total_max_attempts": 2})
    try:
        boto3.Session().client("s3", endpoint_url=address, config=config).head_bucket(Bucket=bucket)
    except (NoCredentialsError, PartialCredentialsError):
        keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return failure(check, "no credentials in this process's environment", f"set {keys} in the secret for S3")
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        reason, remedy = S3_ERRORS.get(status, ("refused", "see the S3 server's log"))
        return failure(check, f"{server}: {reason} (HTTP {status})", remedy)
    except (BotoCoreError, ValueError) as error:
        return failure(check, f"{server}: {first_line(error)}", "correct AWS_ENDPOINT_URL, or open the network to it")
    return ok(check, f"{server}: the bucket exists, the credentials are accepted")


def mlflow() -> list[Finding]:
    """Check that the tracking server is up, has a compatible version, and answers a call that requires a login."""
    url = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    address = without_credentials(url)
    if not url.startswith(("http://", "https://")):
        seen = f"MLFLOW_TRACKING_URI is {address!r}, not an http address" if url else "MLFLOW_TRACKING_URI is not set"
        return [failure("MLflow", seen, "set it to the server's http address in the secret for MLflow")]
    try:
        health, server_version, search = (_get(url + path) for path in ("/health", "/version", SEARCH))
    except (OSError, HTTPException, ValueError) as error:
        remedy = "correct MLFLOW_TRACKING_URI, start the server, or open the network policy to it"
        return [failure("MLflow", f"{address}: {without_credentials(first_line(error))}", remedy)]
    if health.status != 200:
        remedy = "correct the address if it is not an MLflow server; otherwise see the server's log"
        return [failure("MLflow", f"{address}/health: HTTP {health.status}", remedy)]
    return [_check_version(server_version), _check_login(search, address)]


def _check_version(response: Response) -> Finding:
    check, server = "MLflow version", response.text.strip()
    if response.status != 200:
        return warning(check, f"/version: HTTP {response.status}", "update the server: it is older than MLflow 2")
    try:
        client = version("mlflow")
    except PackageNotFoundError:
        return warning(check, f"server {server}; MLflow is not installed here", "run this on the image `train`")
    both = f"server {server}, client {client}"
    if server.split(".")[:1] != client.split(".")[:1]:
        return failure(check, both, "run a server of the client's major version")
    if server.split(".")[:2] != client.split(".")[:2]:
        return warning(check, both, "bring both to the same minor version")
    return ok(check, both)


def _check_login(response: Response, address: str) -> Finding:
    check, answer = "MLflow", f"{address}: HTTP {response.status}"
    if response.status == 200:
        return ok(check, f"{address}: answers, the credentials are accepted")
    if "host" in response.text.lower() and response.status == 403:
        # Except at /health and /version, MLflow answers only to the host names that it was started with.
        return failure(check, f"{answer}, the server does not accept this host name", "add it to --allowed-hosts")
    if response.status in (401, 403):
        remedy = "put MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN, into the secret for MLflow"
        return failure(check, f"{answer}, the credentials are missing or refused", remedy)
    if 300 <= response.status < 400:
        return failure(check, f"{answer}, a redirect, usually to a login page", "name the address of the server itself")
    return failure(check, f"{answer} to a search", "see the server's log; usually its database is the cause")


def _get(url: str) -> Response:
    request = urllib.request.Request(url, headers=_authorization())  # noqa: S310  (checked to be http or https)
    opener = urllib.request.build_opener(NoRedirects(), urllib.request.HTTPSHandler(context=_tls()))
    try:
        with opener.open(request, timeout=TIMEOUT) as response:
            return Response(response.status, response.read(4096).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        with error:
            return Response(error.code, error.read(4096).decode("utf-8", "replace"))


def _authorization() -> dict[str, str]:
    # As in the MLflow client, user and password take precedence over a token.
    user, token = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user:
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {"Authorization": f"Bearer {token}"} if token else {}


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))
    if json.loads(os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "false").lower()):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
