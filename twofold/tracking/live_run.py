"""Live runs of the two trainings: curves in MLflow while a training runs.

Environment: MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_ID (see `joined_run`), TWOFOLD_LIVE=off (no live runs). A training never
fails because the tracking server is unavailable.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twofold.core.errors import RegistryError, first_line
from twofold.core.progress import say
from twofold.tracking import store as tracking
from twofold.tracking.store import DIGEST, MlflowStore

if TYPE_CHECKING:
    from mlflow.entities import Run

RESUME = "twofold.resume_key"  # tag of a training run, by which an interrupted step finds it again
STEP = "twofold.step"
PARENT = "mlflow.parentRunId"
OF_KUBEFLOW = "kfp.pipeline_run_id"  # tag of the run that Kubeflow's MLflow plugin opens for a pipeline run


class LiveRun:
    """The MLflow run of a training in progress; if the store fails, the training goes on without it."""

    def __init__(self, store: MlflowStore | None, run_id: str, last_epoch: int) -> None:
        self.run_id = run_id
        self.finished = False
        self._store = store
        self._last_epoch = last_epoch

    def log(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log one epoch's finite metrics; an epoch logged before an interruption is not duplicated."""
        if epoch <= self._last_epoch:
            return

        def write(store: MlflowStore) -> None:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            finite = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
            tracking.log_metrics(store, self.run_id, [Metric(key, value, now, epoch) for key, value in finite.items()])

        self._try_write(write)

    def finish(self, digest: str) -> None:
        """Tag the run with the SHA-256 of the artifact that the training wrote, and end it."""

        def write(store: MlflowStore) -> None:
            store.client.set_tag(self.run_id, DIGEST, digest)
            store.client.set_terminated(self.run_id, "FINISHED")
            self.finished = True

        self._try_write(write)

    def end(self, status: str) -> None:
        """End the run with a status (FINISHED, FAILED or KILLED), unless `finish` has ended it."""
        if not self.finished:
            self._try_write(lambda store: store.client.set_terminated(self.run_id, status))

    def _try_write(self, write: Callable[[MlflowStore], None]) -> None:
        # One warning, and no waiting for an unavailable server at every epoch.
        store, self._store = self._store, None
        if store is not None:
            with _warn_of_errors(store.uri):
                write(store)
                self._store = store


@contextmanager
def live_run(step: str, params: Mapping[str, Any], *, resume_key: str) -> Iterator[LiveRun]:
    """Open a training's live run, or resume the one that an interrupted step left with the same `resume_key`.

    Args:
        step: the step's name, which becomes the run's.
        params: the step's parameters as plain values.
        resume_key: digest of everything that the training depends on (data, parameters, code).
    """
    tracking.silence_mlflow()
    run = LiveRun(None, "", -1)
    if os.environ.get("TWOFOLD_LIVE") != "off":
        with _warn_of_errors(tracking.address()):
            run = _open(step, params, resume_key)
    try:
        yield run
    except BaseException as error:
        run.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    run.end("FINISHED")


def joined_run(store: MlflowStore) -> "Run | None":
    """Return the run that MLFLOW_RUN_ID says to record in; None if it is not set.

    Kubeflow's MLflow plugin opens a run for a pipeline run, nested runs for its tasks, and gives each task its own. One
    candidate is one run, so the pipeline run's is returned then. The parent of anybody else's run is left alone.
    """
    joined = os.environ.get("MLFLOW_RUN_ID")
    if not joined:
        return None
    first = run = _active_run(store, joined)
    for _ in range(5):  # the plugin's runs are nested at most four deep
        if OF_KUBEFLOW in run.data.tags:
            return run
        if not (parent := run.data.tags.get(PARENT)):
            break
        run = store.client.get_run(parent)
    return first


def _active_run(store: MlflowStore, joined: str) -> "Run":
    from mlflow.exceptions import MlflowException

    try:
        run = store.client.get_run(joined)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        run = None
    if run is None or run.info.lifecycle_stage != "active":
        raise RegistryError(
            f"MLFLOW_RUN_ID is '{joined}', and MLflow at {store.uri} has no such run, or it was "
            "deleted: unset the variable, or set it to a run of this server"
        )
    return run


def _open(step: str, params: Mapping[str, Any], resume_key: str) -> LiveRun:
    store = tracking.connect(create=True)
    client = store.client
    parent = joined_run(store)
    nesting = {PARENT: parent.info.run_id} if parent else {}
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "twofold"
    experiment_id = parent.info.experiment_id if parent else tracking.experiment(store, name)
    runs = tracking.runs_with(store, experiment_id, RESUME, resume_key)
    run = next((found for found in runs if DIGEST not in found.data.tags), None)
    if run is None:
        tags = {STEP: step, RESUME: resume_key, "mlflow.source.name": f"twofold.steps.{step}"}
        run = tracking.create_run(store, experiment_id, RESUME, tags | nesting, step)
    else:
        client.update_run(run.info.run_id, status="RUNNING")
    tracking.log_params(store, run, tracking.as_params(params))
    epochs = [point.step for key in run.data.metrics for point in client.get_metric_history(run.info.run_id, key)]
    return LiveRun(store, run.info.run_id, max(epochs, default=-1))


@contextmanager
def _warn_of_errors(uri: str) -> Iterator[None]:
    """Print a warning instead of raising an error: the training matters more than its log."""
    try:
        with tracking.readable_errors(uri), tracking.impatient():
            yield
    except Exception as error:
        say(
            f"warning: {first_line(error)}. The training continues without live curves; register will log them from "
            "history.csv."
        )
