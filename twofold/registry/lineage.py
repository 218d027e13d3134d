"""The lineage of a version: everything that it takes to know where it comes from, and to make it again.

In: a judgement, the parameters of all steps. Out: a JSON object that is a tag of the version, `twofold.lineage`: `git`
(commit, changed files), `data` (fingerprint, source and DVC revision where they are known: from dvc.lock, or in a
Kubeflow run from its ingest), `params` with their
SHA-256, `base_sha256`, `digests`, `libraries`, `hardware`, and `image` and `pipeline_run` where there is one.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from twofold.core.artifacts import file_sha256
from twofold.core.errors import ArtifactError
from twofold.evaluation.predictions import PREDICTIONS
from twofold.promotion.judgement import Judgement
from twofold.tracking import urls
from twofold.tracking.registry_client import ModelVersion

LINEAGE = "twofold.lineage"  # of a version
LOCK = "dvc.lock"
UNKNOWN = "unknown"
LONGEST = 10_000  # characters of the list of changed files; a tag holds ten times as many


def collect_lineage(judgement: Judgement, params: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is known here; what is not known is `unknown`, or absent where there need be none.

    Args:
        judgement: of the candidate.
        params: every step's section, `register` among them.
    """
    candidate, origin = judgement.candidate, judgement.provenance

    def starting(prefix: str) -> dict[str, str]:
        return {key.removeprefix(prefix): value for key, value in origin.items() if key.startswith(prefix)}

    found = {
        "git": {"commit": origin.get("git.commit", UNKNOWN), "changed": _fitting(origin.get("git.changed", UNKNOWN))},
        "data": {
            "fingerprint": candidate.decision["fingerprint"],
            "test_fingerprint": candidate.test_fingerprint,
            **(_of_run(origin) if "pipeline_run" in origin else dvc_data(Path.cwd(), candidate.raw)),
        },
        "params": dict(params),
        "params_sha256": sha256_of(params),
        "base_sha256": candidate.about["finetune_all"]["base_sha256"],
        "digests": {
            **candidate.digests,
            "predictions": file_sha256(candidate.evaluation / PREDICTIONS),
            "metrics": sha256_of(candidate.metrics),
        },
        "libraries": starting("library."),
        "hardware": starting("hardware."),
    }
    return found | {key: origin[key] for key in ("image", "pipeline_run") if key in origin}


def _of_run(origin: Mapping[str, str]) -> dict[str, str]:
    """What ingest has read in the Kubeflow run, as it named it; a dvc.lock that lies in an image says nothing of it."""
    return _named(origin["source"]) if "source" in origin else {}


def _named(source: str) -> dict[str, str]:
    """`source`, and `dvc_revision` if it is one of a DVC repository."""
    found = {"source": urls.recorded_address(source)}
    if source.startswith("dvc+"):
        # dvc+<git url or path>@<revision>:<path>, in which an address may hold an @ of its own.
        found["dvc_revision"] = source.rpartition("@")[2].partition(":")[0]
    return found


def _fitting(names: str) -> str:
    """The first of a list of files that is longer than LONGEST, and how many more there are."""
    if len(names) <= LONGEST:
        return names
    kept = names[:LONGEST].rpartition(", ")[0]
    return f"{kept}, and {names.count(', ') - kept.count(', ')} more"


def recorded_lineage(version: ModelVersion) -> dict[str, Any]:
    """A version's lineage; empty if there is none that can be read, as on a version that Twofold did not make."""
    try:
        found = json.loads(version.tags.get(LINEAGE, "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def sha256_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of values as JSON with sorted keys: of all sections of parameters, of metrics.json."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON of which there is one for each value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def dvc_data(root: Path, raw: Path) -> dict[str, str]:
    """What dvc.lock says of the images that ingest has read: `source`, and `dvc_revision` or `dvc_md5`.

    Args:
        root: the project's folder.
        raw: ingest's artifact; where it is not the one that dvc.lock speaks of, nothing is known.

    Raises:
        ArtifactError: dvc.lock is not YAML.
    """
    path = root / LOCK
    if not path.is_file():
        return {}
    try:
        stage = (YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}).get("stages", {}).get("ingest", {})
    except (YAMLError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a lock file of DVC: {error}") from None
    outs = [root / out["path"] for out in stage.get("outs", [])]
    source = stage.get("params", {}).get("params.yaml", {}).get("ingest", {}).get("source")
    if source is None or raw.resolve() not in [out.resolve() for out in outs]:
        return {}
    found = _named(source)
    if "dvc_revision" in found:
        return found
    md5 = next((dep["md5"] for dep in stage["deps"] if dep["path"] == source and "md5" in dep), None)
    return found | ({"dvc_md5": md5} if md5 else {})
