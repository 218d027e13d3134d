"""`submit`: one run on a Kubeflow server.

In: the pipeline, parameters of this run, a server. Out: a run there and its link; with --wait its result as the exit
status.
"""

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twofold.cli.kfp import options as common
from twofold.core.errors import ParameterError
from twofold.core.progress import say
from twofold.kubeflow.definition.compiler import compile_to, pipeline_name
from twofold.kubeflow.server.connection import connect
from twofold.kubeflow.server.cron import parse_interval
from twofold.kubeflow.server.run_submission import submit_run
from twofold.kubeflow.server.run_watcher import watch_run
from twofold.kubeflow.server.uploads import ensure_experiment, ensure_version


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `submit` to the command line."""
    parser = subparsers.add_parser(
        "submit",
        help="start a run on a Kubeflow server",
        description="Compile the pipeline, upload it unless the server has the same bytes already, and start a run. "
        "The run's link is printed on standard output, everything else on standard error.",
        epilog="Exit status: 0 started (with --wait: succeeded); 1 it failed, or was not over in time, or an error; "
        "2 wrong usage. Stopping this command never stops the run.",
    )
    common.add_connection_options(parser)
    group = parser.add_argument_group("the run")
    add_experiment_option(group)
    group.add_argument("--name", help="of the run (the pipeline's name and the time)")
    group.add_argument("--service-account", metavar="NAME", help="that its pods run as (the server's default)")
    group.add_argument("--wait", action="store_true", help="follow the run, a line a step, and exit by its result")
    group.add_argument(
        "--timeout", type=interval, metavar="TIME", help="with --wait, for at most this long: 90m, 12h, 2d (for ever)"
    )
    common.add_argument_options(parser)
    common.add_compile_options(parser)

    def run(options: argparse.Namespace) -> int:
        if options.timeout is not None and not options.wait:
            parser.error("--timeout goes with --wait")
        return _submit(options)

    parser.set_defaults(func=run)


def add_experiment_option(group: Any) -> None:
    group.add_argument(
        "--experiment", metavar="NAME", help="Kubeflow's, made if missing (the parameter register.experiment)"
    )


def interval(text: str) -> int:
    """For argparse: the seconds of `90m`."""
    try:
        return parse_interval(text)
    except ParameterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def compiled(options: argparse.Namespace, folder: Path) -> tuple[Path, dict[str, Any], str]:
    """The compiled file in `folder`, the run's arguments, and the experiment's name."""
    # First what may be wrong on this side: nothing has been sent yet.
    arguments = common.overrides_from(options)
    params = common.params_from(options)
    package = folder / "training.yaml"
    compile_to(
        package,
        cpu=options.cpu,
        images=common.images_from(options),
        resources=common.resources_from(options),
        params=params,
    )
    experiment = options.experiment or (params | arguments)["register"]["experiment"]
    return package, arguments, experiment


def _submit(options: argparse.Namespace) -> int:
    pipeline = pipeline_name()
    with tempfile.TemporaryDirectory() as folder:
        package, arguments, experiment_name = compiled(options, Path(folder))
        client = connect(common.connection_from(options))
        version, new = ensure_version(client, pipeline, package)
    say(f"pipeline {pipeline}, version {version.name} ({'uploaded' if new else 'there already'})")
    experiment = ensure_experiment(client, experiment_name)
    name = options.name or f"{pipeline} {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    run = submit_run(
        client,
        display_name=name,
        experiment_id=experiment.experiment_id,
        version=version,
        arguments=arguments,
        service_account=options.service_account,
    )
    say(f"run {name!r} started in experiment {experiment_name!r}")
    link = f"{client.link}/#/runs/details/{run.run_id}"
    print(link, flush=True)
    if not options.wait:
        return 0
    try:
        return watch_run(client, run.run_id, link, options.timeout)
    except KeyboardInterrupt:
        say(f"no longer followed; the run goes on: {link}")
        raise
