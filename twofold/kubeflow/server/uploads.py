"""What a run needs on the server: the pipeline, its version, an experiment. Each is found by its name, or made.

In: a client and the compiled file. Out: their identities. The same bytes are the same version, however often they come.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kfp_server_api import V2beta1Experiment, V2beta1Pipeline

from twofold.core.errors import ServerError
from twofold.kubeflow.server.kfp_client import Client, NoAnswerError, RefusedError, list_named


class Version(NamedTuple):
    """A pipeline version; the identities are None where the server has it not."""

    name: str
    pipeline_id: str | None
    version_id: str | None


def version_name(pipeline: str, package: Path) -> str:
    """By content; and with the pipeline's name before it, as one namespace of Kubernetes may hold many pipelines."""
    return f"{pipeline}-{hashlib.sha256(package.read_bytes()).hexdigest()[:16]}"


def find_version(client: Client, pipeline: str, package: Path) -> Version:
    """Look, and change nothing."""
    name = version_name(pipeline, package)
    found = _pipeline(client, pipeline)
    if found is None:
        return Version(name, None, None)
    version = _version(client, found.pipeline_id, name)
    return Version(name, found.pipeline_id, version.pipeline_version_id if version else None)


def ensure_version(client: Client, pipeline: str, package: Path) -> tuple[Version, bool]:
    """The version, and whether it is new.

    Raises:
        ServerError: the server does not take it, or does not answer.
    """
    body = V2beta1Pipeline(display_name=pipeline, namespace=_space(client))
    parent, _ = _ensure(
        lambda: _pipeline(client, pipeline),
        lambda: client.pipelines.pipeline_service_create_pipeline(pipeline=body),
    )
    name = version_name(pipeline, package)
    version, new = _ensure(
        lambda: _version(client, parent.pipeline_id, name),
        lambda: client.pipeline_uploads.upload_pipeline_version(
            str(package),
            name=name,
            pipelineid=parent.pipeline_id,
            description=f"sha256 {hashlib.sha256(package.read_bytes()).hexdigest()}",
        ),
    )
    return Version(name, parent.pipeline_id, version.pipeline_version_id), new


def find_experiment(client: Client, name: str) -> Any | None:
    """The experiment of that name.

    Raises:
        ServerError: it is archived, and so takes no runs.
    """
    found = list_named(
        client.experiments.experiment_service_list_experiments, "experiments", name, namespace=_space(client)
    )
    if found and found[0].storage_state == "ARCHIVED":
        raise ServerError(
            f"experiment {name!r} is archived and takes no runs; restore it, or give another --experiment"
        )
    return found[0] if found else None


def ensure_experiment(client: Client, name: str) -> Any:
    body = V2beta1Experiment(display_name=name, namespace=_space(client))
    return _ensure(
        lambda: find_experiment(client, name),
        lambda: client.experiments.experiment_service_create_experiment(experiment=body),
    )[0]


def find_pipeline_id(client: Client, name: str) -> str | None:
    found = _pipeline(client, name)
    return found.pipeline_id if found else None


def _pipeline(client: Client, name: str) -> Any | None:
    found = list_named(client.pipelines.pipeline_service_list_pipelines, "pipelines", name, namespace=_space(client))
    return found[0] if found else None


def _version(client: Client, pipeline_id: str, name: str) -> Any | None:
    def call(**query: Any) -> Any:
        return client.pipelines.pipeline_service_list_pipeline_versions(pipeline_id, **query)

    found = list_named(call, "pipeline_versions", name)
    return found[0] if found else None


def _space(client: Client) -> str | None:
    return client.get_user_namespace() or None


def _ensure(find: Callable[[], Any | None], create: Callable[[], Any]) -> tuple[Any, bool]:
    """What `find` finds or `create` makes, and whether it is new; whoever makes it meanwhile, there will be one."""
    for last in (False, True):
        found = find()
        if found is not None:
            return found, False
        try:
            return create(), True
        except RefusedError as refusal:
            if refusal.status != 409 or last:
                raise  # the second time, the name is taken by something that is not ours to see
        except NoAnswerError:
            if last:
                raise
    raise AssertionError("unreachable")
