"""The KFP component that runs the preflight checks in a pod. A failed check does not fail the task."""

from kfp import dsl
from kfp.dsl import Markdown, Output


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def doctor(promise: dict, page: Output[Markdown]) -> None:
    """Preflight checks of this pod."""
    from twofold.orchestration.preflight import run_preflight

    run_preflight(promise, page.path)
