"""Runs a step as a task of a Kubeflow pipeline, so that the body of a KFP component is a few lines.

`run_step` takes a step, its section of parameters as Kubeflow passes it, paths, and the digests of the inputs. It
returns the digest of the step's output, by which the next task knows whether anything changed. A task that fails with a
TwofoldError prints it in one line and exits with status 1; if the error is transient, it first tries again.
"""

import gc
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from twofold.core.artifacts import digest, write_bytes
from twofold.core.errors import ArtifactError, RegistryError, TrainingError, TwofoldError, exit_with_message, first_line
from twofold.core.params import check_section
from twofold.core.progress import say
from twofold.core.redaction import without_credentials
from twofold.orchestration.kept_audit import keep_audit
from twofold.orchestration.params_file import check_all, section_model
from twofold.orchestration.step_cli import signature
from twofold.sources.factory import open_source
from twofold.sources.version import read_source_version
from twofold.tracking.store import report_first_answers

T = TypeVar("T")
TRACKED = ("train_head", "finetune_all", "register")  # steps that write to MLflow
TRIES = 5  # of work that ends with a transient error
PAUSE = 10.0  # seconds before the second try, doubled before each further one
# MLflow's client would try for minutes without a word, where `retry_transient` says what it waits for.
_MLFLOW = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}


def run_step(
    step: Callable[..., None],
    params: Mapping[str, Any],
    digests: Mapping[str, str],
    environment: Mapping[str, str],
    **paths: str,
) -> str:
    """Run a step on the paths of its arguments.

    Args:
        step: the step's function.
        params: its section; whole numbers may be floats.
        digests: of the inputs, by argument, as the earlier tasks returned them; an input with another one is refused.
        environment: variables for the step, unless they are set already or the value is empty.
        paths: one for each of the step's arguments.

    Returns:
        The digest of the step's first output.
    """
    name, writes = step.__name__, signature(step).writes
    with exit_with_message(f"twofold {name}"):
        for key, value in {"OMP_WAIT_POLICY": "PASSIVE", **_MLFLOW, **environment}.items():
            if value:
                os.environ.setdefault(key, value)
        section = check_section(section_model(name), name, params)
        _require_tracking_server(name)
        if name in TRACKED:
            report_first_answers()
        for argument, expected in digests.items():
            _check_input(argument, Path(paths[argument]), expected)
        try:
            retry_transient(name, lambda: step(section, **{argument: Path(path) for argument, path in paths.items()}))
        except TwofoldError:
            if "audit" in paths:
                keep_audit(paths["audit"], name)
            raise
        missing = [argument for argument in writes if not Path(paths[argument]).exists()]
        if missing:
            raise ArtifactError(f"{name} ended without having written {', '.join(missing)}")
        return digest(Path(paths[writes[0]]))


def retry_transient(name: str, work: Callable[[], T]) -> T:
    """Return the result of `work`, which may be called again: after each transient error but the last of TRIES.

    Each further try is announced on stderr, with the error before it, and begins after a growing pause.
    """
    for attempt in itertools.count(1):
        try:
            with _readable_memory_errors():
                return work()
        except TwofoldError as error:
            if not error.transient:
                raise
            if attempt == TRIES:
                raise TwofoldError(f"after {TRIES} tries: {error}") from None
            reason = first_line(error)
        pause = PAUSE * 2 ** (attempt - 1)
        following = f"trying again in {pause:.0f} s (try {attempt + 1} of {TRIES})"
        print(f"twofold {name}: {reason}; {following}", file=sys.stderr, flush=True)
        gc.collect()  # frees what the failed try held on the GPU
        if torch := sys.modules.get("torch"):
            torch.cuda.empty_cache()
        time.sleep(pause)
    raise AssertionError("unreachable")


@contextmanager
def _readable_memory_errors() -> Iterator[None]:
    """Turn a full GPU, recognised without importing torch, into a transient TrainingError."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError" and "CUDA error: out of memory" not in str(error):
            raise
        remedy = "free it, lower batch_size or image_size, or ask for a larger one"
        raise TrainingError(f"the GPU's memory is full: {first_line(error)}; {remedy}", transient=True) from None


def digest_of(path: str) -> str:
    """Return the digest of another output of a step, for the task that reads it."""
    return digest(Path(path))


@exit_with_message("twofold source_version")
def check_parameters_and_source(**sections: Mapping[str, Any]) -> tuple[str, str, str]:
    """Check all sections, and read the version of the source, in the first task of a run.

    A mistake in the last section must not cost the hours of the first ones.

    Returns:
        The version of the source; the MLflow experiment, which the training steps need but which is no parameter of
        theirs; and the source's address without credentials, for register, which records it.
    """
    checked: Mapping[str, Any] = check_all(sections)
    ingest = checked["ingest"]
    source = open_source(ingest.source)
    version = retry_transient("source_version", lambda: read_source_version(source, ingest.max_bytes))
    say(f"source_version: {version[:12]} of {ingest.source}")
    return version, str(checked["register"].experiment), without_credentials(ingest.source)


@exit_with_message("twofold display")
def copy_output(source: str, target: str) -> None:
    """Copy a file that a step has written to where Kubeflow shows it, whole or not at all."""
    write_bytes(Path(target), Path(source).read_bytes())


@exit_with_message("twofold display")
def write_output(target: str, text: str) -> None:
    """Write a text to where Kubeflow shows it, whole or not at all."""
    write_bytes(Path(target), text.encode())


def _check_input(argument: str, path: Path, expected: str) -> None:
    remedy = "run again with --force and a new text, which takes nothing from the cache"
    if not path.exists():
        raise ArtifactError(f"{argument} ({path}): deleted since an earlier run wrote it into the cache; {remedy}")
    if (found := digest(path)) != expected:
        raise ArtifactError(
            f"{argument} ({path}): its digest is {found}, but the task that wrote it returned {expected}; it was "
            f"changed or cut short since: {remedy}"
        )


def _require_tracking_server(name: str) -> None:
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    if name in TRACKED and in_pod and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise RegistryError(
            "MLFLOW_TRACKING_URI is not set in this pod: what MLflow records would be deleted with the pod. Put the "
            "server's address into a secret, or under environment, in pipelines/resources.yaml"
        )
