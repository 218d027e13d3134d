"""Checks that S3 and MLflow answer, accept this process's credentials, and take files where a run writes them.

Reads the addresses and credentials from the environment, as boto3 and the MLflow client do, and returns findings. What
is written is one small object with a name of its own, and it is deleted. No credential is ever part of a finding, or
sent to where a server redirects.
"""

import json
import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from twofold.core.errors import DataError, RegistryError, first_line
from twofold.core.redaction import redact
from twofold.orchestration.preflight_findings import Finding, failure, not_checked, ok, warning
from twofold.tracking import store as tracking
from twofold.tracking.live_run import STEP

TIMEOUT = 10.0  # seconds for an answer
FILE_TIMEOUT = 60.0  # seconds for an answer about a file: MLflow's server first asks its own storage, several times
NEARLY_SPENT = 0.8  # of register.test_reuse.candidates
CONTENT = b"written by twofold kfp doctor; may be deleted"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"  # the cheapest call that requires a login
FILES = "/api/2.0/mlflow-artifacts/artifacts"
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
NO_ROOM = (
    "see the log of the storage server. SeaweedFS answers HTTP 500 if it has no volume left for this bucket: use a "
    "prefix of an existing bucket, or raise its -volume.max (docs/guides/cluster.md, step 6)"
)


def s3_buckets(source: str, bucket: str, cache: str) -> list[Finding]:
    """Check what is in S3: the source, which is only read, a bucket (NAME or NAME/PREFIX), and TWOFOLD_CACHE."""
    addresses = {source: False, f"s3://{bucket}" if bucket else "": True, cache: True}
    found = [s3(address, write=write) for address, write in addresses.items() if address.startswith("s3://")]
    return found or [not_checked("S3", "ingest.source names no bucket", "name one to check: --bucket NAME")]


def s3(address: str, *, write: bool = False) -> Finding:
    """Check that the bucket exists, with a HEAD request; with `write`, also write, read and delete an object."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    from twofold.storage.s3_client import create_client, endpoint, parse_address

    check, server = f"S3 {address}", endpoint() or "AWS"
    try:
        bucket, prefix = parse_address(address, "address")
        client = create_client(2)
        client.head_bucket(Bucket=bucket)
        if write:
            place = {"Bucket": bucket, "Key": f"{prefix}twofold-doctor-{uuid.uuid4().hex}"}
            _write_read_delete(
                lambda: client.put_object(**place, Body=CONTENT),
                lambda: client.get_object(**place)["Body"].read(),
                lambda: client.delete_object(**place),
            )
    except (NoCredentialsError, PartialCredentialsError):
        keys = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return failure(check, "no credentials in this process's environment", f"set {keys} in the secret for S3")
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if error.operation_name == "HeadBucket":
            reason, remedy = S3_ERRORS.get(status, ("refused", "see the S3 server's log"))
            return failure(check, f"{server}: {reason} (HTTP {status})", remedy)
        answer = f"{error.operation_name}: HTTP {status} {error.response['Error'].get('Message', '')}"
        remedy = f"allow s3:{error.operation_name} below this address" if status == 403 else NO_ROOM
        return failure(check, f"{server}: the bucket exists, an object in it is refused ({answer})", remedy)
    except (BotoCoreError, DataError, OSError, ValueError) as error:
        return failure(check, f"{server}: {first_line(error)}", "correct AWS_ENDPOINT_URL, or open the network to it")
    if write:
        return ok(check, f"{server}: an object was written, read and deleted")
    return ok(check, f"{server}: the bucket exists, the credentials are accepted")


def _write_read_delete(put: Callable[[], Any], get: Callable[[], bytes], delete: Callable[[], Any]) -> None:
    """Write, read and delete an object; the error of the first call that fails is raised, and nothing is left."""
    delete()  # first, so that nothing is written with credentials that may not delete it
    try:
        put()
        if get() != CONTENT:
            raise ValueError("what was read is not what was written")
    except Exception:
        with suppress(Exception):
            delete()
        raise
    delete()


def mlflow() -> list[Finding]:
    """Check that the tracking server is up, has a compatible version, and answers a call that requires a login."""
    url = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    if not url.startswith(("http://", "https://")):
        seen = f"MLFLOW_TRACKING_URI is {url!r}, not an http address" if url else "MLFLOW_TRACKING_URI is not set"
        return [failure("MLflow", seen, "set it to the server's http address in the secret for MLflow")]
    try:
        health, server_version, search = (_request(url + path) for path in ("/health", "/version", SEARCH))
    except (OSError, ValueError) as error:
        remedy = "correct MLFLOW_TRACKING_URI, start the server, or open the network policy to it"
        return [failure("MLflow", f"{url}: {first_line(error)}", remedy)]
    if health.status_code != 200:
        remedy = "correct the address if it is not an MLflow server; otherwise see the server's log"
        return [failure("MLflow", f"{url}/health: HTTP {health.status_code}", remedy)]
    return [_check_version(server_version), _check_login(search, url)]


def mlflow_files(experiment: str, *, create: bool) -> Finding:
    """Write, read and delete a file where those of the experiment go; with `create`, first create it as a run would."""
    check = "MLflow's file storage"
    try:
        store = tracking.connect(create=create)
        with tracking.readable_errors(store.uri):
            if not create and store.client.get_experiment_by_name(experiment) is None:
                seen = f"the experiment '{experiment}' does not exist yet: the first run creates it"
                return not_checked(check, seen, "use --in-cluster")
            place = store.client.get_experiment(tracking.experiment(store, experiment)).artifact_location
    except RegistryError as error:
        return failure(check, first_line(error), "see docs/guides/mlflow.md")
    where = urlsplit(place)
    if where.scheme == "s3":
        return replace(s3(place, write=True), check=check)
    if where.scheme in ("", "file"):
        seen = f"{place}: a folder, which each pod would have for itself"
        return failure(check, seen, "start MLflow's server with --artifacts-destination, and use a new experiment")
    if where.scheme not in ("mlflow-artifacts", "http", "https"):
        return not_checked(check, f"{place}: only S3 and MLflow's server are tried", "run once")
    folder = place if where.scheme != "mlflow-artifacts" else store.uri.rstrip("/") + FILES + quote(where.path)
    url = f"{folder}/twofold-doctor-{uuid.uuid4().hex}"

    def send(method: str, data: bytes | None = None) -> bytes:
        response = _request(url, method, data, FILE_TIMEOUT)
        if response.status_code != 200:
            text = " ".join(re.sub(r"<[^>]*>", " ", response.text).split())  # an error may come as a web page
            raise ValueError(f"HTTP {response.status_code} to {method}: {redact(text)[:200]}")
        return bytes(response.content)

    try:
        _write_read_delete(lambda: send("PUT", CONTENT), lambda: send("GET"), lambda: send("DELETE"))
    except (OSError, ValueError) as error:
        denied = "give the user EDIT on the experiment, and MANAGE for the deletion (docs/guides/mlflow.md)"
        remedy = denied if first_line(error).startswith("HTTP 403") else NO_ROOM
        return failure(check, f"{place}: {first_line(error)}", remedy)
    return ok(check, f"{place}: a file was written, read and deleted")


def test_reuse(experiment: str) -> list[Finding]:
    """Check how many of the candidates that the test images may judge are used up, by the last run of each model."""
    remedy = "add new labelled images: after the last one, none is compared with the champion (docs/guides/gates.md)"
    findings: dict[str, Finding] = {}
    try:
        store = tracking.connect()
        with tracking.readable_errors(store.uri):
            place = store.client.get_experiment_by_name(experiment)
            for run in tracking.runs_with(store, place.experiment_id, STEP, "register") if place else ():
                check = f"test images of '{run.data.params.get('register.model_name')}'"
                looks = json.loads(run.data.tags.get(tracking.LOOKS, "{}"))
                candidate, allowed = looks.get("candidate", 0), looks.get("allowed", 0)
                seen = f"candidate {candidate} of {allowed} was judged last" if allowed else ""
                few = candidate >= NEARLY_SPENT * allowed
                findings.setdefault(check, warning(check, seen, remedy) if few else ok(check, seen))
    except (RegistryError, ValueError) as error:
        return [not_checked("test images", first_line(error), "see docs/guides/mlflow.md")]
    return [finding for finding in findings.values() if finding.seen]


def _check_version(response: requests.Response) -> Finding:
    check, server = "MLflow version", response.text.strip()
    if response.status_code != 200:
        return warning(check, f"/version: HTTP {response.status_code}", "update the server: it is older than MLflow 2")
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


def _check_login(response: requests.Response, address: str) -> Finding:
    check, status = "MLflow", response.status_code
    answer = f"{address}: HTTP {status}"
    if status == 200:
        return ok(check, f"{address}: answers, the credentials are accepted")
    if "host" in response.text.lower() and status == 403:
        # Except at /health and /version, MLflow answers only to the host names that it was started with.
        return failure(check, f"{answer}, the server does not accept this host name", "add it to --allowed-hosts")
    if status in (401, 403):
        remedy = "put MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN, into the secret for MLflow"
        return failure(check, f"{answer}, the credentials are missing or refused", remedy)
    if 300 <= status < 400:
        return failure(check, f"{answer}, a redirect, usually to a login page", "name the address of the server itself")
    return failure(check, f"{answer} to a search", "see the server's log; usually its database is the cause")


def _request(url: str, method: str = "GET", data: bytes | None = None, timeout: float = TIMEOUT) -> requests.Response:
    """Send a request with the credentials and the certificate that the MLflow client would use."""
    names = ("USERNAME", "PASSWORD", "TOKEN", "SERVER_CERT_PATH")
    user, password, token, certificate = (os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in names)
    insecure = json.loads(os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "false").lower())
    return requests.request(
        method,
        url,
        data=data,
        headers={"Authorization": f"Bearer {token}"} if token else {},
        auth=(user.encode(), password.encode()) if user else None,  # replaces the token
        timeout=timeout,
        allow_redirects=False,
        verify=not insecure and (certificate or True),
    )
