"""`submit`: one run on a Kubeflow server.

In: the pipeline, parameters of this run, a server. Out: a run there and its link; with --wait its result as the exit
status.
"""

import argparse
import tempfile
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kfp_server_api import V2beta1PipelineVersionReference, V2beta1Run, V2beta1RuntimeConfig

from pipelines.training import NAME
from twofold.cli.kfp import options as common
from twofold.core.errors import ParameterError, ServerError
from twofold.core.progress import say
from twofold.kubeflow.definition.compiler import compile_to
from twofold.kubeflow.server.connection import add_connection_options, connect
from twofold.kubeflow.server.cron import parse_interval
from twofold.kubeflow.server.kfp_client import Client, NoAnswerError, named
from twofold.kubeflow.server.run_watcher import follow
from twofold.kubeflow.server.uploads import Version, ensure_experiment, ensure_version

LOOKS = (0.0, 2.0, 5.0, 10.0)  # seconds before each look for a run that may or may not have been created


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
    add_connection_options(parser)
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
    with tempfile.TemporaryDirectory() as folder:
        package, arguments, experiment_name = compiled(options, Path(folder))
        client = connect(options)
        version, new = ensure_version(client, NAME, package)
    say(f"pipeline {NAME}, version {version.name} ({'uploaded' if new else 'there already'})")
    experiment = ensure_experiment(client, experiment_name)
    name = options.name or f"{NAME} {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    run = _create(
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
        return follow(client, run.run_id, link, options.timeout)
    except KeyboardInterrupt:
        say(f"no longer followed; the run goes on: {link}")
        raise


def _create(
    client: Client,
    *,
    display_name: str,
    experiment_id: str,
    version: Version,
    arguments: dict[str, Any],
    service_account: str | None,
) -> Any:
    """One run. Where the answer is lost, the run is looked for by a mark of its own before it is tried once more."""
    mark = uuid.uuid4().hex
    body = V2beta1Run(
        display_name=display_name,
        # kfp.Client's own call takes no description, and a name need not be unique.
        description=f"submitted by twofold-pipelines, {mark}",
        experiment_id=experiment_id,
        pipeline_version_reference=V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        runtime_config=V2beta1RuntimeConfig(parameters=arguments),
        service_account=service_account,
    )
    for last in (False, True):
        try:
            return client.runs.run_service_create_run(run=body)
        except NoAnswerError as lost:
            say(f"connection lost while the run was being created ({lost}); looking whether it was")
            found = _find(client, experiment_id, display_name, mark)
            if found is not None:
                say("it was")
                return found
            if last:
                raise ServerError(f"the run was not created: {lost}") from None
            say("it was not; trying once more")
    raise AssertionError("unreachable")


def _find(client: Client, experiment_id: str, name: str, mark: str) -> Any | None:
    """The run that bears the mark; a server that was slow to answer may be slow to show it."""
    try:
        for wait in LOOKS:
            time.sleep(wait)
            for run in named(client.runs.run_service_list_runs, "runs", name, experiment_id=experiment_id):
                if mark in (run.description or ""):
                    return run
    except ServerError as error:
        raise ServerError(
            f"{error}\nWhether the run {name!r} was created is not known: look for it in the UI before submitting again"
        ) from None
    return None
