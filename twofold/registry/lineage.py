"""The lineage of a version: everything needed to know where it comes from and to make it again.

Reads a judgement and the parameters of all steps. Returns a JSON object, which becomes the version's tag
`twofold.lineage`: `git` (commit, changed files), `data` (fingerprint; source and DVC revision if they are known, from
dvc.lock, or in a Kubeflow run from its ingest), `params` with their SHA-256, `base_sha256`, `digests`, `libraries`,
`hardware`, and `image` and `pipeline_run` if there is one.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from twofold.core.artifacts import file_sha256
from twofold.core.errors import ArtifactError
from twofold.core.redaction import without_credentials

if TYPE_CHECKING:
    from twofold.promotion.judgement import Judgement
    from twofold.tracking.registry_client import ModelVersion

LINEAGE = "twofold.lineage"  # tag of a version
UNKNOWN = "unknown"
GIT = ("commit", "changed")
LONGEST = 10_000  # characters of the list of changed files; a tag holds more


def collect_lineage(judgement: "Judgement", params: Mapping[str, Any]) -> dict[str, Any]:
    """Collect a candidate's lineage; a required value that is not known is `unknown`, an optional one is left out.

    Args:
        params: every step's section, including `register`.
    """
    from twofold.evaluation.predictions import PREDICTIONS

    candidate, provenance = judgement.candidate, judgement.provenance

    def section(prefix: str) -> dict[str, str]:
        return {key.removeprefix(prefix): value for key, value in provenance.items() if key.startswith(prefix)}

    return {
        "git": {
            "commit": provenance.get("git.commit", UNKNOWN),
            "changed": _limit_length(provenance.get("git.changed", UNKNOWN)),
        },
        "data": {
            "fingerprint": candidate.decision["fingerprint"],
            "test_fingerprint": candidate.test_fingerprint,
            **data_origin(judgement),
        },
        "params": dict(params),
        "params_sha256": sha256_of(params),
        "base_sha256": candidate.about["finetune_all"]["base_sha256"],
        "digests": {
            **candidate.digests,
            "predictions": file_sha256(candidate.evaluation / PREDICTIONS),
            "metrics": sha256_of(candidate.metrics),
        },
        "libraries": section("library."),
        "hardware": section("hardware."),
        **{key: provenance[key] for key in ("image", "pipeline_run") if key in provenance},
    }


def data_origin(judgement: "Judgement") -> dict[str, str]:
    """Return `source`, and the data's revision, as far as they are known."""
    if "pipeline_run" not in judgement.provenance:
        return dvc_data(Path.cwd(), judgement.candidate.raw)
    # A dvc.lock in the image says nothing about the data of a Kubeflow run.
    source = judgement.provenance.get("source")
    return {} if source is None else _describe_source(source)


def _describe_source(source: str) -> dict[str, str]:
    """`source`, and `dvc_revision` if it is the address of a DVC repository."""
    described = {"source": without_credentials(source)}
    if source.startswith("dvc+"):
        # dvc+<git url or path>@<revision>:<path>; the git url may contain another @.
        described["dvc_revision"] = source.rpartition("@")[2].partition(":")[0]
    return described


def _limit_length(names: str) -> str:
    """Cut a list of files that is longer than LONGEST, and say how many more there are."""
    if len(names) <= LONGEST:
        return names
    kept = names[:LONGEST].rpartition(", ")[0]
    return f"{kept}, and {names.count(', ') - kept.count(', ')} more"


def recorded_lineage(version: "ModelVersion") -> dict[str, Any]:
    """The lineage in a version's tag; empty if it cannot be read, as for a version that Twofold did not make."""
    lineage = json_tag(version, LINEAGE)
    git = lineage.get("git")
    return lineage if isinstance(git, dict) and all(isinstance(git.get(key), str) for key in GIT) else {}


def json_tag(version: "ModelVersion", tag: str) -> dict[str, Any]:
    """The JSON object in a version's tag; empty if there is none, or something else."""
    try:
        values = json.loads(version.tags.get(tag, "{}"))
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def sha256_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of values, such as parameters or metrics."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON in the one form that equal values share: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def dvc_data(root: Path, raw: Path) -> dict[str, str]:
    """Read from dvc.lock what ingest has read: `source`, and `dvc_revision` or `dvc_md5`.

    Args:
        root: the project's folder.
        raw: ingest's artifact; the result is empty if dvc.lock describes another one.

    Raises:
        ArtifactError: dvc.lock is not YAML.
    """
    path = root / "dvc.lock"
    if not path.is_file():
        return {}
    try:
        stage = (YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}).get("stages", {}).get("ingest", {})
    except (YAMLError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a lock file of DVC: {error}") from None
    outs = [(root / out["path"]).resolve() for out in stage.get("outs", [])]
    source = stage.get("params", {}).get("params.yaml", {}).get("ingest", {}).get("source")
    if source is None or raw.resolve() not in outs:
        return {}
    described = _describe_source(str(source))
    if "dvc_revision" in described:
        return described
    md5 = next((dep["md5"] for dep in stage["deps"] if dep["path"] == str(source) and "md5" in dep), None)
    return described | ({"dvc_md5": md5} if md5 else {})
