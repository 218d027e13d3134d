"""The KFP component of train_head."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def train_head(
    params: dict, experiment: str, force: str,
    data: Input[Dataset], data_digest: str,
    preprocess_audit: Input[Artifact], preprocess_audit_digest: str,
    model: Output[Model], metrics: Output[Metrics], audit: Output[Artifact], audit_page: Output[HTML],
) -> NamedTuple("Outputs", [("digest", str), ("audit_digest", str)]):  # fmt: skip
    """A head trained on features of the frozen base."""
    from twofold.orchestration.kfp_display import read_metrics
    from twofold.orchestration.task import copy_output, digest_of, run_step
    from twofold.steps.train_head import train_head

    paths = {"data": data.path, "preprocess_audit": preprocess_audit.path}
    paths |= {"model": model.path, "metrics": metrics.path, "audit": audit.path}
    digests = {"data": data_digest, "preprocess_audit": preprocess_audit_digest}
    digest = run_step(train_head, params, digests, {"MLFLOW_EXPERIMENT_NAME": experiment}, **paths)
    for key, value in read_metrics(metrics.path).items():
        metrics.log_metric(key, value)
    copy_output(f"{audit.path}/audit.html", audit_page.path)
    return digest, digest_of(audit.path)
