"""A run, watched: in comes a client and a run, out go lines as its steps come along, and in the end its state.

A lost connection is borne for ten minutes; nothing that happens here starts, stops or repeats anything.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from twofold.core.errors import ServerError
from twofold.core.progress import say
from twofold.kubeflow.server.cron import format_interval
from twofold.kubeflow.server.kfp_client import Client, NoAnswerError, RefusedError
from twofold.orchestration.params_file import STEPS

POLL = 5.0  # seconds between two looks at a run
PATIENCE = 600.0  # seconds without an answer until it is given up
BACKOFF = (1.0, 30.0)  # seconds before the first try again, and at most
OVER = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")

T = TypeVar("T")


def watch_run(client: Client, run_id: str, link: str, timeout: int | None) -> int:
    """Print a line at every change of a step until the run is over; 0 if it succeeded, else 1.

    Raises:
        ServerError: the time is up, or the server refuses or has been silent for too long; the run goes on.
    """
    begin = time.monotonic()
    shown: dict[str, str] = {}
    while True:
        run = retry_until_answered(lambda: client.get_run(run_id), link)
        details = (run.run_details.task_details if run.run_details else None) or []
        for step, line in step_states(details).items():
            if shown.get(step) != line:
                shown[step] = line
                say(f"{_clock()}  {step:<13} {line}")
        if run.state in OVER:
            return _result(run, shown, link)
        if timeout is not None and time.monotonic() - begin >= timeout:
            raise ServerError(
                f"timeout: the run is {str(run.state or 'PENDING').lower()} after {format_interval(timeout)}, and goes on: {link}"
            )
        time.sleep(POLL)


def step_states(details: list[Any]) -> dict[str, str]:
    """What is to be said of each step that has begun, in their order.

    The server lists every node of the workflow: for a step `train-head` also `train-head-driver` and `executor`. That
    a result came from the cache it does not tell: such a step succeeds in no time.
    """
    found: dict[str, str] = {}
    for detail in details:
        step = str(detail.display_name or "").replace("-", "_")
        if step not in STEPS or detail.state in (None, "PENDING", "RUNTIME_STATE_UNSPECIFIED"):
            continue
        found[step] = str(detail.state).lower() + _duration(detail.start_time, detail.end_time)
    return {step: found[step] for step in STEPS if step in found}


def retry_until_answered(ask: Callable[[], T], link: str) -> T:
    """The answer, however often the connection is lost on the way.

    Raises:
        ServerError: no answer for ten minutes, or the server refuses.
    """
    lost: float | None = None
    pause = BACKOFF[0]
    while True:
        try:
            answer = ask()
        except (NoAnswerError, RefusedError) as error:
            if isinstance(error, RefusedError) and error.status != 429 and error.status < 500:
                raise ServerError(f"{error}\nno longer followed: {link}") from None
            now = time.monotonic()
            if lost is None:
                lost = now
                say(
                    f"{_clock()}  connection lost, trying again for {format_interval(int(PATIENCE))}; the run goes on ({error})"
                )
            if now - lost >= PATIENCE:
                raise ServerError(
                    f"{error}\nno answer for {format_interval(int(PATIENCE))}; the run goes on: {link}"
                ) from None
            time.sleep(pause)
            pause = min(pause * 2, BACKOFF[1])
        else:
            if lost is not None:
                say(f"{_clock()}  connected again")
            return answer


def _result(run: Any, shown: Mapping[str, str], link: str) -> int:
    took = _duration(run.created_at, run.finished_at)
    say(f"{_clock()}  {'run':<13} {run.state.lower()}{took}")
    if run.state == "SUCCEEDED":
        return 0
    failed = [step for step, line in shown.items() if line.startswith(("failed", "canceled"))]
    if failed:
        say(f"{', '.join(failed)} did not succeed; the logs: {link}")
    if run.error and run.error.message:
        say(f"the server says: {run.error.message}")
    return 1


def _duration(start: datetime | None, end: datetime | None) -> str:
    # Times that have not come are given as 1970.
    if start is None or end is None or min(start.year, end.year) <= 1970:
        return ""
    seconds = max(0, round((end - start).total_seconds()))
    minutes, hours = seconds // 60 % 60, seconds // 3600
    if hours:
        return f" in {hours} h {minutes} min"
    return f" in {minutes} min {seconds % 60} s" if minutes else f" in {seconds} s"


def _clock() -> str:
    return datetime.now(UTC).astimezone().strftime("%H:%M:%S")
