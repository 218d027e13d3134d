"""`twofold kfp submit`: starts one run on a Kubeflow server.

Takes the pipeline, the run's parameters and a server; prints the run's link. With --wait, the exit status is the run's
result.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twofold.cli.kfp import options as common
from twofold.core.drafts import scratch_folder
from twofold.core.progress import say
from twofold.kubeflow.definition.compiler import pipeline_name
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
        description="Compile the pipeline, upload it unless the server already has this version, and start a run. "
        "Prints the run's link on standard output and everything else on standard error.",
        epilog="Exit status: 0 started (with --wait: succeeded); 1 failed, not finished in time, or an error; 2 wrong "
        "usage. Stopping this command never stops the run.",
    )
    common.add_connection_options(parser)
    group = parser.add_argument_group("the run")
    add_run_options(group)
    group.add_argument("--name", help="of the run (the pipeline's name and the time)")
    group.add_argument("--wait", action="store_true", help="follow the run and exit with its result")
    group.add_argument(
        "--timeout",
        type=parse_interval,
        metavar="TIME",
        help="wait at most this long: 90m, 12h, 2d (no limit); needs --wait",
    )
    common.add_argument_options(parser)
    common.add_compile_options(parser)

    def run(options: argparse.Namespace) -> int:
        if options.timeout is not None and not options.wait:
            parser.error("--timeout goes with --wait")
        return _submit(options)

    parser.set_defaults(run=run)


def add_run_options(group: argparse._ActionsContainer) -> None:
    """`--experiment` and `--service-account`."""
    group.add_argument(
        "--experiment", metavar="NAME", help="in Kubeflow, created if missing (the parameter register.experiment)"
    )
    group.add_argument("--service-account", metavar="NAME", help="of the run's pods (the server's default)")


def compile_for_server(options: argparse.Namespace, folder: Path) -> tuple[Path, dict[str, Any], str, str]:
    """Return the compiled file in `folder`, the run's arguments, and the experiments of Kubeflow and MLflow."""
    # Local errors first, before anything is sent.
    arguments = common.overrides_from(options)
    params = common.params_from(options)
    package = folder / "training.yaml"
    common.compile_from(options, package, params)
    experiment = (params | arguments)["register"]["experiment"]
    return package, arguments, options.experiment or experiment, experiment


def _submit(options: argparse.Namespace) -> int:
    pipeline = pipeline_name()
    with scratch_folder() as folder:
        package, arguments, experiment_name, mlflow_experiment = compile_for_server(options, folder)
        client = connect(common.connection_from(options))
        version, new = ensure_version(client, pipeline, package)
    say(f"pipeline {pipeline}, version {version.name} ({'uploaded' if new else 'already on the server'})")
    experiment = ensure_experiment(client, experiment_name)
    name = options.name or f"{pipeline} {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    run = submit_run(
        client,
        display_name=name,
        experiment_id=experiment.experiment_id,
        mlflow_experiment=mlflow_experiment,
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
        say(f"no longer following; the run continues: {link}")
        raise
