"""Keeps the audit page of a step that failed in a pod, because Kubeflow keeps no artifacts of a failed task.

If TWOFOLD_CACHE is a bucket, the page is written beside the cache: `s3://bucket/prefix/audits/<run>/<step>.html`.
"""

import os
import re
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from twofold.audit.checks import PAGE
from twofold.core.errors import DataError, first_line
from twofold.core.progress import say
from twofold.storage.s3_client import create_client, parse_address

AUDITED = ("ingest", "preprocess", "train_head")
# Kubeflow's path of an output holds the run's id. As a parameter, the id would be part of the cache key.
_RUN = re.compile(r"/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/")


def keep_audit(audit: str, step: str) -> None:
    """Write the page of a failed step into the bucket, and its address into the log; a failure is only logged.

    Args:
        audit: the step's output of that name, a folder. Outside a run of Kubeflow it stays where it is.
        step: name of the step.
    """
    page, run = Path(audit) / PAGE, _RUN.search(audit)
    if run is None or not page.is_file():
        return
    try:
        if (place := _place(run[1], step)) is None:
            say(f"{step}: its audit page is deleted with this pod; to keep it, set TWOFOLD_CACHE to s3://bucket/prefix")
            return
        create_client().put_object(**place, Body=page.read_bytes(), ContentType="text/html; charset=utf-8")
        say(f"{step}: its audit page is {_address(place)}")
    except (DataError, BotoCoreError, ClientError, OSError) as error:
        say(f"{step}: its audit page cannot be kept in TWOFOLD_CACHE: {first_line(error)}")


def find_audit(run: str) -> str:
    """Return the address of the page that a step of a run has kept; empty if there is none, or S3 does not answer."""
    for step in AUDITED:
        try:
            if place := _place(run, step):
                create_client(attempts=1).head_object(**place)
                return _address(place)
        except (DataError, BotoCoreError, ClientError):
            continue
    return ""


def _place(run: str, step: str) -> dict[str, str] | None:
    address = os.environ.get("TWOFOLD_CACHE", "")
    if not address.startswith("s3://"):
        return None
    bucket, prefix = parse_address(address, "TWOFOLD_CACHE")
    return {"Bucket": bucket, "Key": f"{prefix}audits/{run}/{step}.html"}


def _address(place: dict[str, str]) -> str:
    return f"s3://{place['Bucket']}/{place['Key']}"
