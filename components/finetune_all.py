"""The KFP component of finetune_all."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def finetune_all(
    params: dict, experiment: str, force: str,
    data: Input[Dataset], data_digest: str,
    head: Input[Model], head_digest: str,
    model: Output[Model], metrics: Output[Metrics],
) -> NamedTuple("Outputs", [("digest", str)]):  # fmt: skip
    """Fine-tuning of all weights, from the trained head."""
    from twofold.orchestration.kfp_display import read_metrics
    from twofold.orchestration.task import run_step
    from twofold.steps.finetune_all import finetune_all

    digests, environment = {"data": data_digest, "head": head_digest}, {"MLFLOW_EXPERIMENT_NAME": experiment}
    paths = {"data": data.path, "head": head.path, "model": model.path, "metrics": metrics.path}
    digest = run_step(finetune_all, params, digests, environment, **paths)
    for key, value in read_metrics(metrics.path).items():
        metrics.log_metric(key, value)
    return (digest,)
