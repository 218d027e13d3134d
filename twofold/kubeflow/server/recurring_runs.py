"""Finds, creates, pauses, resumes and deletes recurring runs of this pipeline on a server.

KFP allows many recurring runs with the same name and cannot change one. Each description holds a digest of what the
recurring run was created from, so that a later `apply` can tell whether anything changed.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import kfp_server_api as api

from twofold.core.errors import ServerError
from twofold.kubeflow.definition.compiler import pipeline_name
from twofold.kubeflow.server.commits import describe
from twofold.kubeflow.server.cron import Timing, format_interval
from twofold.kubeflow.server.kfp_client import Client, NoAnswerError, RefusedError, create_once, list_all, list_named
from twofold.kubeflow.server.uploads import Version, find_pipeline_id

T = TypeVar("T")


@dataclass(frozen=True)
class RecurringRunSpec:
    """Everything that a recurring run is created from."""

    name: str
    timing: Timing
    experiment: str
    version: str  # of the pipeline: its name, which is derived from its content
    arguments: dict[str, Any]
    service_account: str | None
    mlflow_experiment: str  # register.experiment; not in the mark, because it is in the version or in the arguments

    @property
    def mark(self) -> str:
        timing = self.timing
        start, end = (time.isoformat() if time else None for time in (timing.start, timing.end))
        when = timing.cron.kfp if timing.cron else timing.every
        content = [when, start, end, self.experiment, self.version, self.arguments, self.service_account]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def matches(self, existing: Any, version_id: str | None, experiment_id: str | None) -> bool:
        """Whether an existing recurring run was created from the same values and the same server objects."""
        reference = existing.pipeline_version_reference
        return bool(
            str(existing.description).endswith(self.mark)
            and version_id is not None
            and reference.pipeline_version_id == version_id
            and existing.experiment_id == experiment_id
        )


def find_by_name(client: Client, name: str) -> list[Any]:
    """The recurring runs of this pipeline with that name, oldest first.

    Raises:
        ServerError: a recurring run of another pipeline has that name; it must not be mistaken for ours.
    """
    pipeline_id = find_pipeline_id(client, pipeline_name())
    found = list_named(client.list_recurring_runs, "recurring_runs", name, namespace=client.namespace)
    foreign = [each for each in found if not _belongs_to(each, pipeline_id)]
    if foreign:
        raise ServerError(
            f"schedule {name}: the name is taken by a recurring run that does not run {pipeline_name()} "
            f"(recurring run {foreign[0].recurring_run_id}); choose another name"
        )
    return found


def require_by_name(client: Client, name: str) -> list[Any]:
    """Like `find_by_name`, but at least one; raises a ServerError that lists the existing names if there is none."""
    found = find_by_name(client, name)
    if not found:
        names = sorted({each.display_name for each in list_of_pipeline(client)[0]})
        raise ServerError(f"schedule {name}: not found; existing schedules: {', '.join(names) or 'none'}")
    return found


def list_of_pipeline(client: Client) -> tuple[list[Any], int]:
    """All recurring runs of this pipeline, oldest first, and the number of those of other pipelines."""
    pipeline_id = find_pipeline_id(client, pipeline_name())
    call = client.list_recurring_runs
    found = list(list_all(call, "recurring_runs", sort_by="created_at asc", namespace=client.namespace))
    ours = [each for each in found if _belongs_to(each, pipeline_id)]
    return ours, len(found) - len(ours)


def create(client: Client, spec: RecurringRunSpec, version: Version, experiment_id: str, *, enabled: bool) -> str:
    """Create a recurring run and return its id."""
    timing = spec.timing
    before = {each.recurring_run_id for each in find_by_name(client, spec.name)}
    limits = {"start_time": timing.start, "end_time": timing.end}
    cron = api.V2beta1CronSchedule(cron=timing.cron.kfp, **limits) if timing.cron else None
    interval = None if cron else api.V2beta1PeriodicSchedule(interval_second=timing.every, **limits)
    # kfp.Client.create_recurring_run cannot set plugins_input.
    body = api.V2beta1RecurringRun(
        experiment_id=experiment_id,
        display_name=spec.name,
        description=describe("applied", spec.mark),
        trigger=api.V2beta1Trigger(cron_schedule=cron, periodic_schedule=interval),
        max_concurrency=1,
        no_catchup=True,
        runtime_config=api.V2beta1RuntimeConfig(parameters=spec.arguments),
        pipeline_version_reference=api.V2beta1PipelineVersionReference(version.pipeline_id, version.version_id),
        mode=api.RecurringRunMode.ENABLE if enabled else api.RecurringRunMode.DISABLE,
        service_account=spec.service_account,
        plugins_input=client.plugins_input(spec.mlflow_experiment),
    )

    def create_one() -> str:
        created = client.recurring_runs.recurring_run_service_create_recurring_run(recurring_run=body)
        return str(created.recurring_run_id)

    def find_new() -> str | None:
        ids = [str(each.recurring_run_id) for each in find_by_name(client, spec.name)]
        return next((each for each in reversed(ids) if each not in before), None)

    failure = f"schedule {spec.name}: not created; existing recurring runs are unchanged"
    return create_once(create_one, find_new, "schedule", failure)


def keep_newest(client: Client, name: str, created: str, old: list[Any]) -> bool:
    """Delete all recurring runs with that name but the newest, so that concurrent `apply` calls keep the same one.

    Args:
        created: id of the recurring run just created.
        old: the recurring runs that it replaces.

    Returns:
        Whether the created one is kept.

    Raises:
        ServerError: not all others could be deleted.
    """
    try:
        found = find_by_name(client, name)
    except ServerError as error:
        raise ServerError(
            f"{error}\nschedule {name}: created; obsolete recurring runs that may still run: {len(old)}; repeat the "
            "command"
        ) from None
    if created not in [each.recurring_run_id for each in found]:
        # Deleted by a later `apply`, or not listed yet: in both cases the old ones must go.
        delete(client, name, old)
        return {each.recurring_run_id for each in found} <= {each.recurring_run_id for each in old}
    newest = max(found, key=lambda each: (each.created_at, each.recurring_run_id))
    delete(client, name, [each for each in found if each is not newest])
    return bool(newest.recurring_run_id == created)


def set_enabled(client: Client, recurring_run: Any, *, enabled: bool) -> None:
    call = client.enable_recurring_run if enabled else client.disable_recurring_run
    _call_twice_if_lost(partial(call, recurring_run.recurring_run_id))


def delete(client: Client, name: str, recurring_runs: list[Any]) -> None:
    """Delete the given recurring runs.

    Raises:
        ServerError: not all could be deleted; the message says how many may still run.
    """
    for done, each in enumerate(recurring_runs):
        try:
            _call_twice_if_lost(partial(client.delete_recurring_run, each.recurring_run_id))
        except (RefusedError, NoAnswerError) as error:
            if isinstance(error, RefusedError) and error.status == 404:
                continue  # already deleted
            raise ServerError(
                f"{error}\nschedule {name}: obsolete recurring runs that may still run: {len(recurring_runs) - done}; "
                "repeat the command"
            ) from None


def is_enabled(recurring_run: Any) -> bool:
    return bool(recurring_run.mode == "ENABLE")


def describe_trigger(recurring_run: Any) -> str:
    """When it runs, in the form that `apply` takes."""
    trigger = recurring_run.trigger
    if trigger and trigger.cron_schedule and trigger.cron_schedule.cron:
        fields = trigger.cron_schedule.cron.split()
        five = len(fields) == 6 and fields[0] == "0"
        return f"cron {' '.join(fields[1:])}" if five else f"KFP's cron {' '.join(fields)}"
    if trigger and trigger.periodic_schedule and trigger.periodic_schedule.interval_second:
        return f"every {format_interval(int(trigger.periodic_schedule.interval_second))}"
    return "never"


def _call_twice_if_lost(call: Callable[[], T]) -> T:
    """Repeat an idempotent call once if its answer is lost."""
    try:
        return call()
    except NoAnswerError:
        return call()


def _belongs_to(recurring_run: Any, pipeline_id: str | None) -> bool:
    reference = recurring_run.pipeline_version_reference
    return pipeline_id is not None and reference is not None and reference.pipeline_id == pipeline_id
