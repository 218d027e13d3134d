"""Finds or creates what a run needs on the server: the pipeline, its version, an experiment.

Takes a client and the compiled file; returns their ids. The same file always maps to the same version.
"""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kfp_server_api import V2beta1Experiment, V2beta1Pipeline

from twofold.core.errors import ServerError
from twofold.kubeflow.server.commits import checkout_commit
from twofold.kubeflow.server.kfp_client import Client, NoAnswerError, RefusedError, list_named


class Version(NamedTuple):
    """A pipeline version; an id is None if the server does not have the object."""

    name: str
    pipeline_id: str | None
    version_id: str | None


def find_version(client: Client, pipeline: str, package: Path) -> Version:
    """Look the version up without changing anything."""
    name, _ = _name_by_content(pipeline, package)
    pipeline_id = find_pipeline_id(client, pipeline)
    version = _find_version(client, pipeline_id, name) if pipeline_id else None
    return Version(name, pipeline_id, version.pipeline_version_id if version else None)


def ensure_version(client: Client, pipeline: str, package: Path) -> tuple[Version, bool]:
    """Find the version or upload it; return it and whether it is new.

    Raises:
        ServerError: the server refuses or does not answer.
    """
    body = V2beta1Pipeline(display_name=pipeline, namespace=client.namespace)
    parent, _ = _ensure(
        lambda: _find_pipeline(client, pipeline),
        lambda: client.pipelines.pipeline_service_create_pipeline(pipeline=body),
    )
    name, sha256 = _name_by_content(pipeline, package)
    described = {"description": f"sha256 {sha256}", "tags": json.dumps({"commit": checkout_commit() or "unknown"})}
    version, new = _ensure(
        lambda: _find_version(client, parent.pipeline_id, name),
        lambda: client.pipeline_uploads.upload_pipeline_version(
            str(package), name=name, pipelineid=parent.pipeline_id, **described
        ),
    )
    return Version(name, parent.pipeline_id, version.pipeline_version_id), new


def find_experiment(client: Client, name: str) -> Any | None:
    """Find the experiment by its name; raise ServerError if it is archived, so it accepts no runs."""
    call = client.experiments.experiment_service_list_experiments
    found = list_named(call, "experiments", name, namespace=client.namespace)
    if found and found[0].storage_state == "ARCHIVED":
        raise ServerError(f"experiment {name!r} is archived and accepts no runs; restore it or name another one")
    return found[0] if found else None


def ensure_experiment(client: Client, name: str) -> Any:
    body = V2beta1Experiment(display_name=name, namespace=client.namespace)
    return _ensure(
        lambda: find_experiment(client, name),
        lambda: client.experiments.experiment_service_create_experiment(experiment=body),
    )[0]


def find_pipeline_id(client: Client, name: str) -> str | None:
    found = _find_pipeline(client, name)
    return found.pipeline_id if found else None


def _name_by_content(pipeline: str, package: Path) -> tuple[str, str]:
    """The version's name and the file's SHA-256. One Kubernetes namespace may hold many pipelines' versions."""
    sha256 = hashlib.sha256(package.read_bytes()).hexdigest()
    return f"{pipeline}-{sha256[:16]}", sha256


def _find_pipeline(client: Client, name: str) -> Any | None:
    call = client.pipelines.pipeline_service_list_pipelines
    return next(iter(list_named(call, "pipelines", name, namespace=client.namespace)), None)


def _find_version(client: Client, pipeline_id: str, name: str) -> Any | None:
    call = partial(client.pipelines.pipeline_service_list_pipeline_versions, pipeline_id)
    return next(iter(list_named(call, "pipeline_versions", name)), None)


def _ensure(find: Callable[[], Any | None], create: Callable[[], Any]) -> tuple[Any, bool]:
    """Find the object or create it, also if somebody else creates it meanwhile; return it and whether it is new."""
    for last in (False, True):
        found = find()
        if found is not None:
            return found, False
        try:
            return create(), True
        except RefusedError as refusal:
            if refusal.status != 409 or last:
                raise  # at the second 409, an object that we may not see has the name
        except NoAnswerError:
            if last:
                raise
    raise AssertionError("unreachable")
