"""The KFP component of preprocess."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def preprocess(
    params: dict, force: str,
    raw: Input[Dataset], raw_digest: str,
    data: Output[Dataset], metrics: Output[Metrics], audit: Output[Artifact], audit_page: Output[HTML],
) -> NamedTuple("Outputs", [("digest", str), ("audit_digest", str)]):  # fmt: skip
    """Decoded and resized images in splits, as arrays."""
    from twofold.orchestration.kfp_display import read_metrics
    from twofold.orchestration.task import copy_output, digest_of, run_step
    from twofold.steps.preprocess import preprocess

    paths = {"raw": raw.path, "data": data.path, "metrics": metrics.path, "audit": audit.path}
    digest = run_step(preprocess, params, {"raw": raw_digest}, {}, **paths)
    for key, value in read_metrics(metrics.path).items():
        metrics.log_metric(key, value)
    copy_output(f"{audit.path}/audit.html", audit_page.path)
    return digest, digest_of(audit.path)
