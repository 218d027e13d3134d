"""The KFP component of evaluate."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def evaluate(
    params: dict, force: str,
    data: Input[Dataset], data_digest: str,
    model: Input[Model], model_digest: str,
    evaluation: Output[Artifact], metrics: Output[Metrics], curves: Output[ClassificationMetrics], report: Output[HTML],
) -> NamedTuple("Outputs", [("digest", str)]):  # fmt: skip
    """Metrics, curves and a report on the test images."""
    from twofold.orchestration.kfp_display import read_confusion_matrix, read_metrics, read_roc_curve
    from twofold.orchestration.task import copy_output, run_step
    from twofold.steps.evaluate import evaluate

    paths = {"data": data.path, "model": model.path, "evaluation": evaluation.path, "metrics": metrics.path}
    digest = run_step(evaluate, params, {"data": data_digest, "model": model_digest}, {}, **paths)
    for key, value in read_metrics(metrics.path).items():
        metrics.log_metric(key, value)
    curves.log_roc_curve(*read_roc_curve(evaluation.path))
    curves.log_confusion_matrix(*read_confusion_matrix(evaluation.path))
    copy_output(f"{evaluation.path}/evaluation.html", report.path)
    return (digest,)
