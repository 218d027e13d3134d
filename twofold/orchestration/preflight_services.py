"""Whether S3 and MLflow answer, and take the credentials that this process has.

In: the environment that boto3 and MLflow's client read (addresses, credentials). Out: findings. Nothing is written in
either place, no credential is ever part of a finding, and none is sent on to where a server redirects.
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

PATIENCE = 10.0  # seconds for an answer
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"  # the cheapest call that asks for a login


class Answer(NamedTuple):
    status: int
    text: str


def s3(bucket: str | None) -> Finding:
    """Whether the bucket is there for this process's credentials (HEAD, nothing is read)."""
    if not bucket:
        return not_checked("S3", "no bucket is named by ingest.source", "name one to look at: --bucket NAME")
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    from twofold.storage.s3_client import endpoint

    check, address = f"S3 bucket {bucket}", endpoint()
    where = without_credentials(address) if address else "AWS"
    patience = Config(connect_timeout=PATIENCE / 2, read_timeout=PATIENCE, retries={"total_max_attempts": 2})
    try:
        boto3.Session().client("s3", endpoint_url=address, config=patience).head_bucket(Bucket=bucket)
    except (NoCredentialsError, PartialCredentialsError):
        keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return failure(check, "no credentials in this process's environment", f"set {keys} by the secret for S3")
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        reasons = {
            400: "the request was refused as malformed: mostly an expired token or another region",
            301: "the bucket lies in another region",
            403: "the credentials are refused, or do not reach this bucket",
            404: "no such bucket",
        }
        remedy = {
            400: "renew the credentials in the secret, set AWS_DEFAULT_REGION",
            301: "set AWS_DEFAULT_REGION to the bucket's",
            403: "correct the keys in the secret, or allow s3:ListBucket on the bucket",
            404: "make the bucket, or correct its name",
        }
        reason = f"{where}: {reasons.get(status, 'refused')} (HTTP {status})"
        return failure(check, reason, remedy.get(status, "see the S3 server's log"))
    except (BotoCoreError, ValueError) as error:
        return failure(check, f"{where}: {first_line(error)}", "correct AWS_ENDPOINT_URL, or open the network to it")
    return ok(check, f"{where}: there, the credentials are taken")


def mlflow() -> list[Finding]:
    """Whether the tracking server is up, of a fitting version, and answers a call that needs a login."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    if not address.startswith(("http://", "https://")):
        said = (
            f"MLFLOW_TRACKING_URI is {without_credentials(address)!r}" if address else "MLFLOW_TRACKING_URI is not set"
        )
        return [failure("MLflow", f"{said}, not an http address", "set it by the secret for MLflow to the server's")]
    try:
        health = _get(f"{address}/health")
        answer = _get(f"{address}/version")
        search = _get(f"{address}{SEARCH}")
    except (OSError, HTTPException, ValueError) as error:
        remedy = "correct MLFLOW_TRACKING_URI, start the server, or open the network policy to it"
        return [failure("MLflow", f"{without_credentials(address)}: {without_credentials(first_line(error))}", remedy)]
    if health.status != 200:
        seen = f"{without_credentials(address)}/health: HTTP {health.status}"
        return [failure("MLflow", seen, "this is not an MLflow server, or it is not well: see its log")]
    return [_version(answer), _login(search, without_credentials(address))]


def _version(answer: Answer) -> Finding:
    check, theirs = "MLflow version", answer.text.strip()
    if answer.status != 200:
        return warning(check, f"/version: HTTP {answer.status}", "the server is older than MLflow 2: update it")
    try:
        ours = version("mlflow")
    except PackageNotFoundError:
        return warning(check, f"server {theirs}; MLflow is not installed here", "run this on the image `train`")
    here, there = ours.split("."), theirs.split(".")
    both = f"server {theirs}, client {ours}"
    if here[:1] != there[:1]:
        return failure(check, both, "run a server of the client's major version")
    if here[:2] != there[:2]:
        return warning(check, both, "bring both to the same minor version")
    return ok(check, both)


def _login(answer: Answer, address: str) -> Finding:
    check = "MLflow"
    if answer.status == 200:
        return ok(check, f"{address}: answers, the credentials are taken")
    if "host" in answer.text.lower() and answer.status == 403:
        # MLflow answers to names that it was told only, except at /health and /version.
        return failure(
            check, f"{address}: HTTP 403, the server does not take this host name", "add it to --allowed-hosts"
        )
    if answer.status in (401, 403):
        remedy = "put MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN, into the secret for MLflow"
        return failure(check, f"{address}: HTTP {answer.status}, the credentials are missing or refused", remedy)
    if 300 <= answer.status < 400:
        remedy = "give the pods an address of the server itself"
        return failure(
            check, f"{address}: HTTP {answer.status}, a redirect: mostly to a page for people to log in", remedy
        )
    return failure(check, f"{address}: HTTP {answer.status} to a search", "see the server's log: its database, mostly")


def _get(url: str) -> Answer:
    request = urllib.request.Request(url, headers=_authorization())  # noqa: S310  (checked to be http or https)
    opener = urllib.request.build_opener(NoRedirects(), urllib.request.HTTPSHandler(context=_tls()))
    try:
        with opener.open(request, timeout=PATIENCE) as response:
            return Answer(response.status, response.read(4096).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(4096).decode("utf-8", "replace"))


def _authorization() -> dict[str, str]:
    # As MLflow's client does it: user and password, else a token.
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
