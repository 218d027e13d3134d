"""The KFP component of ingest.

Components have no `from __future__ import annotations`, because kfp reads the annotations.
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Metrics, Output


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def ingest(
    params: dict, version: str, force: str,
    raw: Output[Dataset], metrics: Output[Metrics], audit: Output[Artifact], audit_page: Output[HTML],
) -> NamedTuple("Outputs", [("digest", str), ("audit_digest", str)]):  # fmt: skip
    """Source images, decoded once and stored unchanged in shards with a manifest."""
    from twofold.orchestration.kfp_display import read_metrics
    from twofold.orchestration.task import copy_output, digest_of, run_step
    from twofold.steps.ingest import ingest

    paths = {"raw": raw.path, "metrics": metrics.path, "audit": audit.path}
    digest = run_step(ingest, params, {}, {"TWOFOLD_SOURCE_VERSION": version}, **paths)
    for key, value in read_metrics(metrics.path).items():
        metrics.log_metric(key, value)
    copy_output(f"{audit.path}/audit.html", audit_page.path)
    return digest, digest_of(audit.path)
