"""One run created on a Kubeflow server, and no second one where the answer to the call is lost.

In: a client, a pipeline version, an experiment, arguments. Out: the server's run.
"""

import time
import uuid
from typing import Any

from kfp_server_api import V2beta1PipelineVersionReference, V2beta1Run, V2beta1RuntimeConfig

from twofold.core.errors import ServerError
from twofold.core.progress import say
from twofold.kubeflow.server.kfp_client import Client, NoAnswerError, list_named
from twofold.kubeflow.server.uploads import Version

LOOKS = (0.0, 2.0, 5.0, 10.0)  # seconds before each look for a run that may or may not have been created


def submit_run(
    client: Client,
    *,
    display_name: str,
    experiment_id: str,
    version: Version,
    arguments: dict[str, Any],
    service_account: str | None,
) -> Any:
    """One run. Where the answer is lost, the run is looked for by a mark of its own before it is tried once more."""
    mark = uuid.uuid4().hex
    body = V2beta1Run(
        display_name=display_name,
        # kfp.Client's own call takes no description, and a name need not be unique.
        description=f"submitted by twofold-pipelines, {mark}",
        experiment_id=experiment_id,
        pipeline_version_reference=V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        runtime_config=V2beta1RuntimeConfig(parameters=arguments),
        service_account=service_account,
    )
    for last in (False, True):
        try:
            return client.runs.run_service_create_run(run=body)
        except NoAnswerError as lost:
            say(f"connection lost while the run was being created ({lost}); looking whether it was")
            found = _find(client, experiment_id, display_name, mark)
            if found is not None:
                say("it was")
                return found
            if last:
                raise ServerError(f"the run was not created: {lost}") from None
            say("it was not; trying once more")
    raise AssertionError("unreachable")


def _find(client: Client, experiment_id: str, name: str, mark: str) -> Any | None:
    """The run that bears the mark; a server that was slow to answer may be slow to show it."""
    try:
        for wait in LOOKS:
            time.sleep(wait)
            for run in list_named(client.runs.run_service_list_runs, "runs", name, experiment_id=experiment_id):
                if mark in (run.description or ""):
                    return run
    except ServerError as error:
        raise ServerError(
            f"{error}\nWhether the run {name!r} was created is not known: look for it in the UI before submitting again"
        ) from None
    return None
