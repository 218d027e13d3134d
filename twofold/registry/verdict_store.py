"""The grounds of a decision: a verdict gate by gate, kept with the version and known by its SHA-256.

In: a verdict, a version. Out: the SHA-256 that goes into the ledger, and the gates that belong to one. They are a tag
of the version, each verdict under its own; one that is too long for a tag is a file of the version's run.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from twofold.core.errors import RegistryError
from twofold.promotion.verdict import Verdict
from twofold.registry.lineage import canonical
from twofold.tracking import registry_client
from twofold.tracking.registry_client import ModelVersion
from twofold.tracking.runs import fetch_file
from twofold.tracking.store import MlflowStore

GATES = "twofold.gates"  # of a version, with the beginning of the SHA-256: a verdict, gate by gate, as JSON
FOLDER = "gates"  # of a run


def store_verdict(store: MlflowStore, run_id: str, verdict: Verdict) -> tuple[str, dict[str, str]]:
    """The SHA-256 of a verdict's gates, and the tag that the version is to get; what is too long goes into the run."""
    text = canonical(verdict.as_json())
    digest = hashlib.sha256(text.encode()).hexdigest()
    if len(text) <= registry_client.LONGEST_TAG:
        return digest, {_tag(digest): text}
    store.client.log_text(run_id, text, _file(digest))
    return digest, {}


def load_verdict(store: MlflowStore, version: ModelVersion, digest: str) -> list[dict[str, Any]]:
    """The gates of a verdict, each with its figure and limit.

    Raises:
        RegistryError: they are gone, or were changed.
    """
    text = version.tags.get(_tag(digest))
    if text is None:
        with tempfile.TemporaryDirectory() as scratch:
            text = fetch_file(store, version.run_id or "", _file(digest), Path(scratch)).read_text(encoding="utf-8")
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != digest:
        raise RegistryError(f"the gates' SHA-256 is {found}, the ledger says {digest}: they were changed")
    return list(json.loads(text))


def _tag(digest: str) -> str:
    return f"{GATES}.{digest[:12]}"


def _file(digest: str) -> str:
    return f"{FOLDER}/{digest}.json"
