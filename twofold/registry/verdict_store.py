"""Store the verdict on every gate with the version, so that a decision can be explained later.

A verdict is identified by its SHA-256, which goes into the ledger. Each verdict is a tag of the version, or a file of
the version's run if it is too long for a tag.
"""

import hashlib
import json
from typing import TYPE_CHECKING, Any

from twofold.core.drafts import scratch_folder
from twofold.core.errors import RegistryError
from twofold.registry.lineage import canonical
from twofold.tracking.registry_reader import logged_file

if TYPE_CHECKING:
    from twofold.promotion.verdict import Verdict
    from twofold.tracking.store import MlflowStore

GATES = "twofold.gates"  # tag of a version, followed by the first digits of the SHA-256: a verdict as JSON
FOLDER = "gates"  # of a run


def store_verdict(store: "MlflowStore", run_id: str, verdict: "Verdict") -> tuple[str, dict[str, str]]:
    """Return a verdict's SHA-256 and the tag for its version; a verdict that is too long is logged to the run."""
    from twofold.tracking.registry_client import LONGEST_TAG

    text = canonical(verdict.as_json())
    digest = hashlib.sha256(text.encode()).hexdigest()
    if len(text.encode()) <= LONGEST_TAG:
        return digest, {tag(digest): text}
    store.client.log_text(run_id, text, f"{FOLDER}/{digest}.json")
    return digest, {}


def load_verdict(store: "MlflowStore | None", version: Any, digest: str) -> list[dict[str, Any]]:
    """Load the gates of a verdict, each with its value and limit; raise RegistryError if they are gone or changed."""
    text = version.tags.get(tag(digest))
    if text is None:
        with scratch_folder() as scratch:
            text = logged_file(store, version.run_id or "", f"{FOLDER}/{digest}.json", scratch).read_text(
                encoding="utf-8"
            )
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != digest:
        raise RegistryError(f"the gates' SHA-256 is {found}, the ledger says {digest}: they were changed")
    return list(json.loads(text))


def tag(digest: str) -> str:
    """Return the tag of the version that holds a verdict, unless it is too long."""
    return f"{GATES}.{digest[:12]}"
