"""Recurring runs of this pipeline on a server: found by name, made, switched, removed.

In: a client, a name, what the runs shall be. Out: recurring runs. KFP allows many of one name and changes none; what a
schedule was made from is kept as a digest in its description.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from twofold.core.errors import ServerError
from twofold.core.progress import say
from twofold.kubeflow.definition.compiler import pipeline_name
from twofold.kubeflow.server.cron import Timing, format_interval
from twofold.kubeflow.server.kfp_client import Client, NoAnswerError, RefusedError, list_all, list_named
from twofold.kubeflow.server.uploads import find_pipeline_id

T = TypeVar("T")


@dataclass(frozen=True)
class RecurringRunSpec:
    """All that a schedule is made from."""

    name: str
    timing: Timing
    experiment: str
    version: str  # of the pipeline, by name, which is its content's
    arguments: dict[str, Any]
    service_account: str | None

    @property
    def mark(self) -> str:
        timing = self.timing
        start, end = (time.isoformat() if time else None for time in (timing.start, timing.end))
        when = timing.cron.kfp if timing.cron else timing.every
        content = [when, start, end, self.experiment, self.version, self.arguments, self.service_account]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def is_met_by(self, there: Any, version_id: str | None, experiment_id: str | None) -> bool:
        """Whether it was made from the same, out of the same objects of the server."""
        reference = there.pipeline_version_reference
        return bool(
            str(there.description).endswith(self.mark)
            and version_id is not None
            and reference.pipeline_version_id == version_id
            and there.experiment_id == experiment_id
        )


def find_by_name(client: Client, name: str) -> list[Any]:
    """Those of this pipeline with that name, oldest first.

    Raises:
        ServerError: another pipeline has one of that name, which shall not be taken for ours.
    """
    pipeline_id = find_pipeline_id(client, pipeline_name())
    found = list_named(client.list_recurring_runs, "recurring_runs", name, namespace=_space(client))
    foreign = [one for one in found if not _is_of(one, pipeline_id)]
    if foreign:
        raise ServerError(
            f"schedule {name}: there is one of that name that does not run {pipeline_name()} "
            f"(recurring run {foreign[0].recurring_run_id}); choose another name"
        )
    return found


def require_by_name(client: Client, name: str) -> list[Any]:
    """The same, at least one.

    Raises:
        ServerError: there is none; the names there are.
    """
    found = find_by_name(client, name)
    if not found:
        names = sorted({one.display_name for one in list_of_pipeline(client)[0]})
        others = f"there are {', '.join(names)}" if names else "nor any other"
        raise ServerError(f"schedule {name}: there is none; {others}")
    return found


def list_of_pipeline(client: Client) -> tuple[list[Any], int]:
    """All of this pipeline, oldest first, and how many there are of others."""
    pipeline_id = find_pipeline_id(client, pipeline_name())
    every = list(
        list_all(client.list_recurring_runs, "recurring_runs", sort_by="created_at asc", namespace=_space(client))
    )
    ours = [one for one in every if _is_of(one, pipeline_id)]
    return ours, len(every) - len(ours)


def create(client: Client, wanted: RecurringRunSpec, version: Any, experiment_id: str, *, enabled: bool) -> str:
    """Make it and give its identity; where the answer is lost, look whether it was made before trying once more."""
    timing = wanted.timing
    before = {one.recurring_run_id for one in find_by_name(client, wanted.name)}
    for last in (False, True):
        try:
            made = client.create_recurring_run(
                experiment_id=experiment_id,
                job_name=wanted.name,
                description=f"applied by twofold-pipelines, {wanted.mark}",
                start_time=timing.start.isoformat() if timing.start else None,
                end_time=timing.end.isoformat() if timing.end else None,
                interval_second=timing.every,
                cron_expression=timing.cron.kfp if timing.cron else None,
                max_concurrency=1,
                no_catchup=True,
                params=wanted.arguments,
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                enabled=enabled,
                service_account=wanted.service_account,
            )
            return str(made.recurring_run_id)
        except NoAnswerError as lost:
            say(f"connection lost while the schedule was being made ({lost}); looking whether it was")
            new = [
                one.recurring_run_id for one in find_by_name(client, wanted.name) if one.recurring_run_id not in before
            ]
            if new:
                say("it was")
                return str(new[-1])
            if last:
                raise ServerError(f"schedule {wanted.name}: not made, what was there stays: {lost}") from None
            say("it was not; trying once more")
    raise AssertionError("unreachable")


def keep_newest(client: Client, name: str, made: str, old: list[Any]) -> bool:
    """Leave one of that name: the newest, by which everyone who applies at the same time leaves the same.

    Args:
        made: the identity of the one just made.
        old: those that it replaces.

    Returns:
        Whether it is the one that stays.

    Raises:
        ServerError: not all others could be removed.
    """
    try:
        there = find_by_name(client, name)
    except ServerError as error:
        raise ServerError(
            f"{error}\nschedule {name}: the new one is made, {len(old)} of that name that should go may still run; do "
            "it again"
        ) from None
    if made not in [one.recurring_run_id for one in there]:
        # Removed already by a later one, or not shown yet: all that is sure is that the old ones go.
        delete(client, name, old)
        return not any(one.recurring_run_id not in {each.recurring_run_id for each in old} for one in there)
    newest = max(there, key=lambda one: (one.created_at, one.recurring_run_id))
    delete(client, name, [one for one in there if one is not newest])
    return bool(newest.recurring_run_id == made)


def set_enabled(client: Client, one: Any, *, enabled: bool) -> None:
    call = client.enable_recurring_run if enabled else client.disable_recurring_run
    _again(lambda: call(one.recurring_run_id))


def delete(client: Client, name: str, doomed: list[Any]) -> None:
    """Remove them all.

    Raises:
        ServerError: not all could be; how many may still run.
    """
    for done, one in enumerate(doomed):
        try:
            _again(lambda one=one: client.delete_recurring_run(one.recurring_run_id))  # type: ignore[misc]
        except (RefusedError, NoAnswerError) as error:
            if isinstance(error, RefusedError) and error.status == 404:
                continue  # gone already, by whomever
            raise ServerError(
                f"{error}\nschedule {name}: {len(doomed) - done} of that name that should go may still run; do it again"
            ) from None


def is_enabled(one: Any) -> bool:
    return bool(one.mode == "ENABLE")


def describe_trigger(one: Any) -> str:
    """As one would write it for `apply`."""
    trigger = one.trigger
    if trigger and trigger.cron_schedule and trigger.cron_schedule.cron:
        fields = trigger.cron_schedule.cron.split()
        five = len(fields) == 6 and fields[0] == "0"
        return f"cron {' '.join(fields[1:])}" if five else f"KFP's cron {' '.join(fields)}"
    if trigger and trigger.periodic_schedule and trigger.periodic_schedule.interval_second:
        return f"every {format_interval(int(trigger.periodic_schedule.interval_second))}"
    return "never"


def _again(call: Callable[[], T]) -> T:
    """For what may be done twice."""
    try:
        return call()
    except NoAnswerError:
        return call()


def _is_of(one: Any, pipeline_id: str | None) -> bool:
    reference = one.pipeline_version_reference
    return pipeline_id is not None and reference is not None and reference.pipeline_id == pipeline_id


def _space(client: Client) -> str | None:
    return client.get_user_namespace() or None
