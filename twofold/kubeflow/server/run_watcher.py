"""Follows a run: prints a line whenever a step changes, and returns whether the run succeeded.

Survives a lost connection for ten minutes. Never starts, stops or repeats anything on the server.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from twofold.core.errors import ServerError
from twofold.core.progress import say
from twofold.kubeflow.server.cron import format_interval
from twofold.kubeflow.server.kfp_client import Client, NoAnswerError, RefusedError
from twofold.orchestration.run_ending import TASKS

POLL_INTERVAL = 5.0  # seconds
CONNECTION_TIMEOUT = 600.0  # seconds without an answer before giving up
BACKOFF = (1.0, 30.0)  # seconds before the first retry, and at most
END_STATES = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
T = TypeVar("T")


def watch_run(client: Client, run_id: str, link: str, timeout: int | None) -> int:
    """Print a line at every change of a step until the run ends; return 0 if it succeeded, 1 otherwise.

    Raises:
        ServerError: the time is up, or the server refuses or does not answer for too long; the run continues.
    """
    begin = time.monotonic()
    shown: dict[str, str] = {}
    while True:
        run = retry_until_answered(lambda: client.get_run(run_id), link)
        details = (run.run_details.task_details if run.run_details else None) or []
        for step, line in step_states(details).items():
            if shown.get(step) != line:
                shown[step] = line
                _say_with_time(f"{step:<13} {line}")
        if run.state in END_STATES:
            return _report_result(run, shown, link)
        if timeout is not None and time.monotonic() - begin >= timeout:
            state = str(run.state or "PENDING").lower()
            raise ServerError(f"timeout: after {format_interval(timeout)} the run is {state} and continues: {link}")
        time.sleep(POLL_INTERVAL)


def step_states(details: list[Any]) -> dict[str, str]:
    """State and duration of each step that has started, in the order of the pipeline.

    The server lists every node of the workflow: for a step `train-head` also `train-head-driver` and `executor`. It
    does not say that a result came from the cache; such a step succeeds immediately.
    """
    states: dict[str, str] = {}
    for detail in details:
        step = str(detail.display_name or "").replace("-", "_")
        if step in TASKS and detail.state not in (None, "PENDING", "RUNTIME_STATE_UNSPECIFIED"):
            states[step] = str(detail.state).lower() + _format_duration(detail.start_time, detail.end_time)
    return {step: states[step] for step in TASKS if step in states}


def retry_until_answered(call: Callable[[], T], link: str) -> T:
    """Repeat the call while the connection is lost or the server is overloaded, and return its answer.

    Raises:
        ServerError: no answer for ten minutes, or the server refuses.
    """
    lost: float | None = None
    pause = BACKOFF[0]
    while True:
        try:
            answer = call()
        except (NoAnswerError, RefusedError) as error:
            if isinstance(error, RefusedError) and error.status != 429 and error.status < 500:
                raise ServerError(f"{error}\nno longer following the run: {link}") from None
            now = time.monotonic()
            limit = format_interval(int(CONNECTION_TIMEOUT))
            if lost is None:
                lost = now
                _say_with_time(f"connection lost, retrying for {limit}; the run continues ({error})")
            if now - lost >= CONNECTION_TIMEOUT:
                raise ServerError(f"{error}\nno answer for {limit}; the run continues: {link}") from None
            time.sleep(pause)
            pause = min(pause * 2, BACKOFF[1])
        else:
            if lost is not None:
                _say_with_time("connected again")
            return answer


def _report_result(run: Any, shown: Mapping[str, str], link: str) -> int:
    _say_with_time(f"{'run':<13} {run.state.lower()}{_format_duration(run.created_at, run.finished_at)}")
    if run.state == "SUCCEEDED":
        return 0
    failed = [step for step, line in shown.items() if line.startswith(("failed", "canceled"))]
    if failed:
        say(f"{', '.join(failed)} did not succeed; see the logs: {link}")
    if run.error and run.error.message:
        say(f"error message of the server: {run.error.message}")
    return 1


def _format_duration(start: datetime | None, end: datetime | None) -> str:
    # The server writes 1970 for a time that is not known yet.
    if start is None or end is None or min(start.year, end.year) <= 1970:
        return ""
    seconds = max(0, round((end - start).total_seconds()))
    minutes, hours = seconds // 60 % 60, seconds // 3600
    if hours:
        return f" in {hours} h {minutes} min"
    return f" in {minutes} min {seconds % 60} s" if minutes else f" in {seconds} s"


def _say_with_time(text: str) -> None:
    say(f"{datetime.now(UTC).astimezone():%H:%M:%S}  {text}")
