"""Creates one run on a Kubeflow server, and never a second one if the answer to the call is lost."""

import time
import uuid
from typing import Any

from kfp_server_api import V2beta1PipelineVersionReference, V2beta1Run, V2beta1RuntimeConfig

from twofold.core.errors import ServerError
from twofold.kubeflow.server.commits import describe
from twofold.kubeflow.server.kfp_client import Client, create_once, list_named
from twofold.kubeflow.server.uploads import Version

SEARCH_DELAYS = (0.0, 2.0, 5.0, 10.0)  # seconds before each search for a run that may have been created


def submit_run(
    client: Client,
    *,
    display_name: str,
    experiment_id: str,
    mlflow_experiment: str,
    version: Version,
    arguments: dict[str, Any],
    service_account: str | None,
) -> Any:
    """Create a run and return it; if the answer is lost, search for the run's mark before trying once more."""
    mark = uuid.uuid4().hex
    body = V2beta1Run(
        display_name=display_name,
        # kfp.Client cannot set a description, and display names need not be unique.
        description=describe("submitted", mark),
        experiment_id=experiment_id,
        pipeline_version_reference=V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        runtime_config=V2beta1RuntimeConfig(parameters=arguments),
        service_account=service_account,
        plugins_input=client.plugins_input(mlflow_experiment),
    )
    return create_once(
        lambda: client.runs.run_service_create_run(run=body),
        lambda: _find_run(client, experiment_id, display_name, mark),
        "run",
        "the run was not created",
    )


def _find_run(client: Client, experiment_id: str, name: str, mark: str) -> Any | None:
    """Search for the run with the mark, several times: a slow server may list it late."""
    try:
        for delay in SEARCH_DELAYS:
            time.sleep(delay)
            for run in list_named(client.runs.run_service_list_runs, "runs", name, experiment_id=experiment_id):
                if mark in (run.description or ""):
                    return run
    except ServerError as error:
        raise ServerError(
            f"{error}\nunknown whether the run {name!r} was created: check the Kubeflow UI before submitting it again"
        ) from None
    return None
