"""The exit task: runs when the steps have ended, however they ended."""

from kfp import dsl
from kfp.dsl import PipelineTaskFinalStatus


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def notify(status: PipelineTaskFinalStatus, register: dict, run: str) -> None:
    """Tell the webhook when the run failed or its model was refused."""
    from twofold.orchestration.notifications import notify

    notify(state=status.state, message=status.error_message or "", register=register, run=run)
