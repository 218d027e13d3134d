"""`twofold kfp schedule`: manages recurring runs on a Kubeflow server, each identified by its name.

`apply` takes a name, a timing, and what `submit` takes; it prints the next run times before it changes anything, and
leaves exactly one recurring run with that name.
"""

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from twofold.cli.kfp import options as common
from twofold.cli.kfp.submit import add_run_options, compile_for_server
from twofold.cli.output import Result, add_json
from twofold.core.drafts import scratch_folder
from twofold.core.errors import ParameterError, ServerError
from twofold.core.progress import say
from twofold.kubeflow.definition.compiler import pipeline_name
from twofold.kubeflow.server import recurring_runs
from twofold.kubeflow.server.commits import compare
from twofold.kubeflow.server.connection import connect
from twofold.kubeflow.server.cron import Timing, parse_cron, parse_interval
from twofold.kubeflow.server.recurring_runs import RecurringRunSpec
from twofold.kubeflow.server.uploads import ensure_experiment, ensure_version, find_experiment, find_version

MISSED = "if it missed a run while paused: KFP always runs the latest missed one; no_catchup skips only earlier ones"

HEAD = ("NAME", "STATE", "WHEN", "CREATED", "COMMIT", "ID")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `schedule` and its commands to the command line."""
    parser = subparsers.add_parser("schedule", help="recurring runs: apply, list, pause, resume, delete")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int | Result], help_: str, description: str = "") -> None:
        command = commands.add_parser(name, help=help_, description=description or help_)
        command.set_defaults(run=run)
        if name == "list":
            add_json(command)
        else:
            command.add_argument("name", metavar="NAME")
            command.add_argument("--dry-run", action="store_true", help="print what would be done, and change nothing")
        if name == "apply":
            _add_timing_options(command)
            add_run_options(command.add_argument_group("the runs"))
            common.add_argument_options(command)
            common.add_compile_options(command)
        common.add_connection_options(command)

    add(
        "apply",
        _apply,
        "create the schedule, or replace it",
        "Create the schedule NAME or replace the existing one. An unchanged schedule is left alone; a paused one stays "
        "paused. Of missed runs only the latest is made up for, and no run starts while the previous one is active. A "
        "schedule keeps the pipeline that it was created with: apply it again after a change.",
    )
    add("list", _list, "list the schedules of this pipeline")
    add("pause", lambda options: _switch(options, enabled=False), "start no more runs until it is resumed")
    add("resume", lambda options: _switch(options, enabled=True), f"let it run again; runs at once {MISSED}")
    add("delete", _delete, "delete the schedule; active runs continue")


def _add_timing_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("when")
    timing = group.add_mutually_exclusive_group(required=True)
    timing.add_argument(
        "--cron",
        type=parse_cron,
        metavar="FIELDS",
        help="five fields in quotes: minute hour day-of-month month day-of-week; or a word such as @daily",
    )
    timing.add_argument(
        "--every", type=parse_interval, metavar="TIME", help="30m, 24h, 7d; the first run is after that time"
    )
    group.add_argument("--start", type=_parse_time, metavar="TIME", help="not before this time: 2027-01-31T08:00Z")
    group.add_argument("--end", type=_parse_time, metavar="TIME", help="not after this time")
    group.add_argument(
        "--server-timezone",
        type=_parse_zone,
        default="UTC",
        metavar="ZONE",
        help="in which the server reads cron; used only to print the next runs. The server takes it from "
        "CRON_SCHEDULE_TIMEZONE of its scheduled-workflow controller (%(default)s)",
    )


def _apply(options: argparse.Namespace) -> int:
    pipeline, now, title = pipeline_name(), datetime.now(UTC), f"schedule {options.name}"
    timing = Timing(options.cron, options.every, options.start, options.end)
    if next(timing.upcoming(now, options.server_timezone), None) is None:
        raise ParameterError(f"{title}: no run would start before --end")
    with scratch_folder() as folder:
        package, arguments, experiment_name, mlflow_experiment = compile_for_server(options, folder)
        client = connect(common.connection_from(options))
        version, experiment = find_version(client, pipeline, package), find_experiment(client, experiment_name)
        existing = recurring_runs.find_by_name(client, options.name)
        described = (version.name, arguments, options.service_account, mlflow_experiment)
        spec = RecurringRunSpec(options.name, timing, experiment_name, *described)
        paused = bool(existing) and not any(map(recurring_runs.is_enabled, existing))
        experiment_id = experiment.experiment_id if experiment else None
        same = [
            each
            for each in existing
            if recurring_runs.is_enabled(each) != paused and spec.matches(each, version.version_id, experiment_id)
        ]
        keep = same[0] if same else None
        old = [each for each in existing if each is not keep]
        _print_next_runs(timing, now, options.server_timezone, keep, paused)
        if keep is not None and not old:
            print(f"{title}: unchanged{', paused' if paused else ''}")
            return 0
        if keep is None and timing.start and timing.would_catch_up(now, options.server_timezone):
            raise ParameterError(
                f"--start {timing.start:%Y-%m-%dT%H:%MZ} is in the past: KFP would run at once; leave it out"
            )
        done = "duplicates removed" if keep else "replaced" if old else "created"
        state = ("paused" if paused else "enabled") + (f" ({len(old)} with that name before)" if len(old) > 1 else "")
        if options.dry_run:
            print(f"{title}: would be {done}, {state}; nothing changed (--dry-run)")
            return 0
        if keep is None:
            version, _ = ensure_version(client, pipeline, package)
            experiment = ensure_experiment(client, experiment_name)
            created = recurring_runs.create(client, spec, version, experiment.experiment_id, enabled=not paused)
    # The old ones are deleted after the new one is created: if this is interrupted, two may run, but never none.
    try:
        if keep is not None:
            recurring_runs.delete(client, options.name, old)
        elif not recurring_runs.keep_newest(client, options.name, created, old):
            raise ServerError(f"{title}: somebody else applied it at the same time, and their version is kept")
    except KeyboardInterrupt:
        say(f"{title}: interrupted; more than one with that name may run: repeat the command")
        raise
    print(f"{title}: {done}, {state}")
    return 0


def _print_next_runs(timing: Timing, now: datetime, zone: ZoneInfo, keep: Any | None, paused: bool) -> None:
    """Print what KFP is sent, in which time zone it is read, and the next three times."""
    print(timing)
    if timing.cron:
        print(f"for KFP: {timing.cron.kfp} (seconds first), read by the server in {zone.key}")
        if zone.key == "UTC":
            print("(unless CRON_SCHEDULE_TIMEZONE is set there: then give --server-timezone)")
    print("next runs if it were resumed now:" if paused else "next runs:")
    if paused:
        print(f"  at once {MISSED}")
    for time in islice(timing.upcoming(now, zone, keep.created_at if keep else None), 3):
        print(f"  {time:%a %Y-%m-%d %H:%M} UTC, here {time.astimezone():%a %Y-%m-%d %H:%M %Z}")
    sys.stdout.flush()


def _list(options: argparse.Namespace) -> Result:
    ours, others = recurring_runs.list_of_pipeline(connect(common.connection_from(options)))
    rows = []
    for each in ours:
        state = "enabled" if recurring_runs.is_enabled(each) else "paused"
        when, (commit, _) = recurring_runs.describe_trigger(each), compare(each.description)
        rows.append((each.display_name, state, when, f"{each.created_at:%F %R} UTC", commit, each.recurring_run_id))
    hidden = f"; {others} of other pipelines are not shown" if others else ""
    print(f"{len(ours)} of {pipeline_name()}{hidden}", file=sys.stderr)
    keys = [name.lower() for name in HEAD]
    return Result([HEAD, *rows] if ours else [], [dict(zip(keys, row, strict=True)) for row in rows])


def _switch(options: argparse.Namespace, *, enabled: bool) -> int:
    client = connect(common.connection_from(options))
    found, title = recurring_runs.require_by_name(client, options.name), f"schedule {options.name}"
    word = "enabled" if enabled else "paused"
    if enabled and len(found) > 1:
        raise ServerError(f"{title}: {len(found)} with that name would all run; apply it, which keeps one")
    todo = [each for each in found if recurring_runs.is_enabled(each) != enabled]
    if options.dry_run and todo:
        print(f"{title}: would be {word}; nothing changed (--dry-run)")
        return 0
    for each in todo:
        recurring_runs.set_enabled(client, each, enabled=enabled)
    print(f"{title}: {'' if todo else 'already '}{word}")
    return 0


def _delete(options: argparse.Namespace) -> int:
    client = connect(common.connection_from(options))
    found, title = recurring_runs.require_by_name(client, options.name), f"schedule {options.name}"
    several = f" ({len(found)} with that name)" if len(found) > 1 else ""
    if options.dry_run:
        print(f"{title}: would be deleted{several}; nothing changed (--dry-run)")
        return 0
    recurring_runs.delete(client, options.name, found)
    print(f"{title}: deleted{several}")
    return 0


def _parse_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as 2027-01-31T08:00Z") from None
    if time.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r}: no time zone; write {text}Z for UTC, or {text}+01:00")
    return time.astimezone(UTC)


def _parse_zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r}: unknown time zone; write it as Europe/Berlin") from None
