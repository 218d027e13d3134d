"""The Kubeflow face of the checks from inside the cluster. It never fails: what it finds is its result."""

from kfp import dsl
from kfp.dsl import Markdown, Output


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def doctor(promise: dict, page: Output[Markdown]) -> None:
    """What a step would find in this pod."""
    from twofold.orchestration.preflight import run_preflight

    run_preflight(promise, page.path)
