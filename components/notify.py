"""The KFP component of the exit task, which runs after the steps whether they succeeded or failed."""

from kfp import dsl
from kfp.dsl import PipelineTaskFinalStatus


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def notify(status: PipelineTaskFinalStatus, register: dict, run: str) -> None:
    """A message to the webhook if the run failed or its model was refused."""
    from twofold.orchestration.notifications import notify

    notify(state=status.state, message=status.error_message or "", register=register, run=run)
