"""A step as a task of a pipeline: what stands around the call in a pod, so that a component's body is a few lines.

In: a step, its section of parameters as Kubeflow hands it over, paths, and the digests of what is read. Out: what the
step writes, and its digest, by which the next task knows whether anything changed. A task that cannot do its work
says why in a line and ends with exit status 1.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twofold.core.artifacts import digest, write_bytes
from twofold.core.errors import ArtifactError, RegistryError, TwofoldError
from twofold.core.params import check_section
from twofold.orchestration.params_file import check_all, section_model
from twofold.orchestration.step_cli import signature
from twofold.tracking.urls import recorded_address

TRACKED = ("train_head", "finetune_all", "register")  # steps that write into MLflow


def run_step(
    step: Callable[..., None],
    params: Mapping[str, Any],
    digests: Mapping[str, str],
    environment: Mapping[str, str],
    **paths: str,
) -> str:
    """Run a step on the paths of its arguments.

    Args:
        step: to run.
        params: its section; whole numbers may come as floats.
        digests: of what is read, by argument, as the earlier tasks have named them: other bytes are refused.
        environment: variables for the step, unless they are set or the value is empty.
        paths: one for each of the step's arguments.

    Returns:
        The digest of the first thing that the step writes.
    """
    name, contract = step.__name__, signature(step)
    with exit_with_message(name):
        _settle({"OMP_WAIT_POLICY": "PASSIVE", **environment})
        section = check_section(section_model(name), name, params)
        _somewhere_that_stays(name)
        for read, expected in digests.items():
            found = digest(Path(paths[read]))
            if found != expected:
                raise ArtifactError(
                    f"{read} ({paths[read]}): its digest is {found}, the task that wrote it named {expected}; it was "
                    "changed or cut short on its way: run that task again (--force)"
                )
        step(section, **{argument: Path(path) for argument, path in paths.items()})
        missing = [write for write in contract.writes if not Path(paths[write]).exists()]
        if missing:
            raise ArtifactError(f"{name} ended without having written {', '.join(missing)}")
        return digest(Path(paths[contract.writes[0]]))


def digest_of(path: str) -> str:
    """The digest of something else that a step has written, for the task that reads it."""
    return digest(Path(path))


def check_all_sections(**sections: Mapping[str, Any]) -> str:
    """Check all sections at the door of the pipeline: a mistake in the last one must not cost the hours of the first.

    Returns:
        The experiment in MLflow, which the trainings need and which is no parameter of theirs.
    """
    with exit_with_message("ingest"):
        return str(check_all(sections)["register"].experiment)  # type: ignore[attr-defined]


def recorded_source(params: Mapping[str, Any]) -> str:
    """Where the images come from, by ingest's section, as it may be recorded: register knows it from nowhere else."""
    return recorded_address(str(params["source"]))


def copy_output(source: str, target: str) -> None:
    """Copy a file that a step has written to where Kubeflow shows it, whole or not at all."""
    with exit_with_message("display"):
        try:
            write_bytes(Path(target), Path(source).read_bytes())
        except OSError as error:
            raise ArtifactError(f"{source}: {error.strerror}") from None


def write_output(target: str, text: str) -> None:
    """Write a text to where Kubeflow shows it, whole or not at all."""
    write_bytes(Path(target), text.encode())


@contextmanager
def exit_with_message(name: str) -> Iterator[None]:
    """Turn a TwofoldError into one line on stderr and exit status 1, by which the task fails."""
    try:
        yield
    except TwofoldError as error:
        print(f"twofold {name}: error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _settle(environment: Mapping[str, str]) -> None:
    """Set the variables that have a value, where the pod does not say otherwise."""
    for key, value in environment.items():
        if value:
            os.environ.setdefault(key, value)


def _somewhere_that_stays(name: str) -> None:
    """Refuse to write MLflow's records into a pod that is deleted afterwards."""
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    if name in TRACKED and in_pod and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise RegistryError(
            "MLFLOW_TRACKING_URI is not set in this pod: what MLflow records would be deleted with it. Name the "
            "server's address in a secret, or under environment, in pipelines/resources.yaml"
        )
