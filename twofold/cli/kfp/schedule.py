"""`schedule`: recurring runs on a Kubeflow server, each known by its name.

In: a name, when, and what `submit` takes. Out: exactly one recurring run of that name; before anything is changed, the
next times that it will run.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from twofold.cli.kfp import options as common
from twofold.cli.kfp.submit import add_experiment_option, compiled, interval
from twofold.core.errors import ParameterError, ServerError
from twofold.core.progress import say
from twofold.kubeflow.definition.compiler import pipeline_name
from twofold.kubeflow.server import recurring_runs
from twofold.kubeflow.server.connection import connect
from twofold.kubeflow.server.cron import Cron, Timing, parse
from twofold.kubeflow.server.recurring_runs import RecurringRunSpec
from twofold.kubeflow.server.uploads import ensure_experiment, ensure_version, find_experiment, find_version

MISSED = "if one was missed while it was paused: KFP makes up for the latest, no_catchup spares only those before it"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `schedule` and its commands to the command line."""
    parser = subparsers.add_parser("schedule", help="recurring runs: apply, list, pause, resume, delete")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], help_: str, description: str = "") -> Any:
        command = commands.add_parser(name, help=help_, description=description or help_)
        command.set_defaults(func=run)
        if name != "list":
            command.add_argument("name", metavar="NAME")
            command.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        return command

    apply = add(
        "apply",
        _apply,
        "make the schedule, or replace it",
        "Make the schedule NAME as told, in place of the one there is. Of missed runs only the latest is made up for, "
        "and no run starts while the one before it goes on. A schedule that is as told already is left alone; one that "
        "is paused stays paused. A schedule keeps the pipeline that it was made with: after a change, apply it again.",
    )
    _add_when(apply)
    group = apply.add_argument_group("the runs")
    add_experiment_option(group)
    group.add_argument("--service-account", metavar="NAME", help="that their pods run as (the server's default)")
    common.add_argument_options(apply)
    common.add_compile_options(apply)
    others = (
        add("list", _list, "the schedules of this pipeline"),
        add("pause", lambda options: _switch(options, enabled=False), "no more runs until it is resumed"),
        add("resume", lambda options: _switch(options, enabled=True), f"let it run again; at once, {MISSED}"),
        add("delete", _delete, "remove the schedule; runs under way go on"),
    )
    for command in (apply, *others):
        common.add_connection_options(command)


def _add_when(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("when")
    one = group.add_mutually_exclusive_group(required=True)
    one.add_argument(
        "--cron",
        type=_cron,
        metavar="FIELDS",
        help="five fields in quotes: minute hour day-of-month month day-of-week; or a word such as @daily",
    )
    one.add_argument("--every", type=interval, metavar="TIME", help="30m, 24h, 7d; the first run comes after that time")
    group.add_argument("--start", type=_time, metavar="TIME", help="not before this time, as 2027-01-31T08:00Z")
    group.add_argument("--end", type=_time, metavar="TIME", help="not after this time")
    group.add_argument(
        "--server-timezone",
        type=_zone,
        default="UTC",
        metavar="ZONE",
        help="in which the server reads cron, to foretell the next runs. It changes nothing: the server has it from "
        "CRON_SCHEDULE_TIMEZONE of its scheduled-workflow controller (%(default)s)",
    )


def _apply(options: argparse.Namespace) -> int:
    pipeline, now = pipeline_name(), datetime.now(UTC)
    timing = Timing(options.cron, options.every, options.start, options.end)
    if next(timing.upcoming(now, options.server_timezone), None) is None:
        raise ParameterError(f"schedule {options.name}: not one run before --end")
    with tempfile.TemporaryDirectory() as folder:
        package, arguments, experiment_name = compiled(options, Path(folder))
        client = connect(common.connection_from(options))
        version, experiment = find_version(client, pipeline, package), find_experiment(client, experiment_name)
        there = recurring_runs.find_by_name(client, options.name)
        wanted = RecurringRunSpec(
            options.name, timing, experiment_name, version.name, arguments, options.service_account
        )
        paused = bool(there) and not any(map(recurring_runs.is_enabled, there))
        same = [
            one
            for one in there
            if recurring_runs.is_enabled(one) != paused
            and wanted.is_met_by(one, version.version_id, experiment.experiment_id if experiment else None)
        ]
        keep = same[0] if same else None
        old = [one for one in there if one is not keep]
        _foretell(timing, now, options.server_timezone, keep, paused)
        if keep is not None and not old:
            print(f"schedule {options.name}: unchanged{', paused' if paused else ''}")
            return 0
        if keep is None and timing.start and timing.would_catch_up(now, options.server_timezone):
            raise ParameterError(f"--start {timing.start:%Y-%m-%dT%H:%MZ} is past: KFP would run at once; leave it out")
        done = "duplicates removed" if keep else "replaced" if old else "made"
        state = ("paused" if paused else "enabled") + (f" ({len(old)} of that name before)" if len(old) > 1 else "")
        if options.dry_run:
            print(f"schedule {options.name}: would be {done}, {state}; nothing done (--dry-run)")
            return 0
        if keep is None:
            version, _ = ensure_version(client, pipeline, package)
            experiment = ensure_experiment(client, experiment_name)
            made = recurring_runs.create(client, wanted, version, experiment.experiment_id, enabled=not paused)
    # First the new one, then the old: should this break off, two may run, but never is there none.
    try:
        if keep is not None:
            recurring_runs.delete(client, options.name, old)
        elif not recurring_runs.keep_newest(client, options.name, made, old):
            raise ServerError(f"schedule {options.name}: somebody applied it at the same time, and theirs stays")
    except KeyboardInterrupt:
        say(f"schedule {options.name}: broken off; more than one of that name may run: do it again")
        raise
    print(f"schedule {options.name}: {done}, {state}")
    return 0


def _foretell(timing: Timing, now: datetime, zone: ZoneInfo, keep: Any | None, paused: bool) -> None:
    """Say when it runs: what KFP is told, in which time zone, and the next three times."""
    print(timing)
    if timing.cron:
        print(f"for KFP: {timing.cron.kfp} (seconds first), read by the server in {zone.key}")
        if zone.key == "UTC":
            print("(unless CRON_SCHEDULE_TIMEZONE is set there: then give --server-timezone)")
    print("next runs, were it resumed now:" if paused else "next runs:")
    if paused:
        print(f"  at once, {MISSED}")
    for time in islice(timing.upcoming(now, zone, keep.created_at if keep else None), 3):
        print(f"  {time:%a %Y-%m-%d %H:%M} UTC, here {time.astimezone():%a %Y-%m-%d %H:%M %Z}")
    sys.stdout.flush()


def _list(options: argparse.Namespace) -> int:
    ours, others = recurring_runs.list_of_pipeline(connect(common.connection_from(options)))
    rows = [("NAME", "STATE", "WHEN", "MADE", "ID")] if ours else []
    for one in ours:
        state = "enabled" if recurring_runs.is_enabled(one) else "paused"
        rows.append(
            (
                one.display_name,
                state,
                recurring_runs.describe_trigger(one),
                f"{one.created_at:%F %R} UTC",
                one.recurring_run_id,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)] if rows else []
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print(f"{len(ours)} of {pipeline_name()}" + (f"; {others} of others not shown" if others else ""), file=sys.stderr)
    return 0


def _switch(options: argparse.Namespace, *, enabled: bool) -> int:
    client = connect(common.connection_from(options))
    found = recurring_runs.require_by_name(client, options.name)
    word = "enabled" if enabled else "paused"
    if enabled and len(found) > 1:
        raise ServerError(
            f"schedule {options.name}: {len(found)} of that name would all run; apply it, which leaves one"
        )
    todo = [one for one in found if recurring_runs.is_enabled(one) != enabled]
    if options.dry_run and todo:
        print(f"schedule {options.name}: would be {word}; nothing done (--dry-run)")
        return 0
    for one in todo:
        recurring_runs.set_enabled(client, one, enabled=enabled)
    print(f"schedule {options.name}: {'' if todo else 'already '}{word}")
    return 0


def _delete(options: argparse.Namespace) -> int:
    client = connect(common.connection_from(options))
    found = recurring_runs.require_by_name(client, options.name)
    several = f" ({len(found)} of that name)" if len(found) > 1 else ""
    if options.dry_run:
        print(f"schedule {options.name}: would be deleted{several}; nothing done (--dry-run)")
        return 0
    recurring_runs.delete(client, options.name, found)
    print(f"schedule {options.name}: deleted{several}")
    return 0


def _cron(text: str) -> Cron:
    try:
        return parse(text)
    except ParameterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as 2027-01-31T08:00Z") from None
    if time.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r}: in which time zone? Write {text}Z for UTC, or {text}+01:00")
    return time.astimezone(UTC)


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r}: no time zone known here; write it as Europe/Berlin") from None
