"""The live runs of the two trainings: curves in MLflow while the training goes on.

In: MLFLOW_EXPERIMENT_NAME, MLFLOW_RUN_ID (a run to nest in), TWOFOLD_LIVE=off (no live runs). A tracking server that
cannot be reached never stops a training.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from twofold.core.errors import RegistryError
from twofold.core.progress import say
from twofold.tracking.store import (
    DIGEST,
    MlflowStore,
    address,
    connect,
    experiment,
    flatten,
    log_metrics,
    log_params,
    permission_error,
    runs_with,
    silence_mlflow,
    without_credentials,
)

RESUME = "twofold.resume_key"  # tag of a training run: what a step that was killed looks for when it runs again
STEP = "twofold.step"
PARENT = "mlflow.parentRunId"


class LiveRun:
    """A training's run in MLflow while it trains. A store that cannot be reached never stops the training."""

    def __init__(self, store: MlflowStore | None, run_id: str, done: int) -> None:
        self.run_id = run_id
        self.finished = False
        self._store = store
        self._done = done

    def log(self, epoch: int, figures: Mapping[str, float]) -> None:
        """Log one epoch's finite figures; an epoch that the run has seen before it was killed is not doubled."""
        if epoch <= self._done:
            return

        def write(store: MlflowStore) -> None:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            finite = {key: float(value) for key, value in figures.items() if math.isfinite(value)}
            log_metrics(store, self.run_id, [Metric(key, value, now, epoch) for key, value in finite.items()])

        self._attempt(write)

    def finish(self, digest: str) -> None:
        """Tie the run to the artifact that it wrote (its SHA-256), and end it."""

        def write(store: MlflowStore) -> None:
            store.client.set_tag(self.run_id, DIGEST, digest)
            store.client.set_terminated(self.run_id, "FINISHED")
            self.finished = True

        self._attempt(write)

    def end(self, status: str) -> None:
        """End a run that wrote no artifact: FAILED or KILLED."""
        if not self.finished:
            self._attempt(lambda store: store.client.set_terminated(self.run_id, status))

    def _attempt(self, write: Callable[[MlflowStore], None]) -> None:
        if self._store is not None and not _survives(self._store.uri, partial(write, self._store)):
            # One word of warning, and no waiting for a server that is away at every epoch.
            self._store = None


@contextmanager
def live_run(step: str, params: Mapping[str, Any], *, resume_key: str) -> Iterator[LiveRun]:
    """Open a training's live run, or go on with the one that a killed step left under the same `resume_key`.

    Args:
        step: its name, which becomes the run's.
        params: the step's parameters as plain values.
        resume_key: digest of what the training depends on (data, parameters, code).
    """
    silence_mlflow()
    opened: list[LiveRun] = []
    if os.environ.get("TWOFOLD_LIVE") != "off":
        _survives(address(), lambda: opened.append(_open(step, params, resume_key)))
    run = opened[0] if opened else LiveRun(None, "", -1)
    try:
        yield run
    except KeyboardInterrupt:
        run.end("KILLED")
        raise
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")


def _open(step: str, params: Mapping[str, Any], resume_key: str) -> LiveRun:
    store = connect()
    client = store.client
    parent = os.environ.get("MLFLOW_RUN_ID")
    if parent:
        place = client.get_run(parent).info.experiment_id
    else:
        place = experiment(store, os.environ.get("MLFLOW_EXPERIMENT_NAME") or "twofold")
    left = [run for run in runs_with(store, place, RESUME, resume_key) if DIGEST not in run.data.tags]
    if left:
        run = left[0]
        client.update_run(run.info.run_id, status="RUNNING")
    else:
        tags = {STEP: step, RESUME: resume_key, "mlflow.source.name": f"twofold.steps.{step}"}
        run = client.create_run(place, tags=tags | ({PARENT: parent} if parent else {}), run_name=step)
    log_params(store, run, flatten(params))
    steps = [point.step for key in run.data.metrics for point in client.get_metric_history(run.info.run_id, key)]
    return LiveRun(store, run.info.run_id, max(steps, default=-1))


def _survives(uri: str, work: Callable[[], None]) -> bool:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # A training is worth more than its log: give up in seconds, where MLflow would try for minutes.
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    patience = {key: value for key, value in patience.items() if key not in os.environ}
    os.environ.update(patience)
    try:
        work()
    except (MlflowException, SQLAlchemyError, RegistryError, OSError) as error:
        reason = without_credentials(permission_error(error) or str(error).splitlines()[0])
        say(
            f"warning: MLflow at {without_credentials(uri)} cannot be used ({reason}). The training goes "
            "on without live curves; register will log them from history.csv."
        )
        return False
    finally:
        for key in patience:
            del os.environ[key]
    return True
