"""`twofold kfp run`: runs the whole pipeline on this machine, in processes or in containers."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path

from twofold.cli.kfp import options as common
from twofold.cli.output import Result, add_json
from twofold.cli.run import LOG, StepLines
from twofold.kubeflow.local.outputs import summary_files
from twofold.kubeflow.local.process_runner import run_in_processes
from twofold.orchestration.params_file import project_root
from twofold.orchestration.run_summary import summary
from twofold.tracking.store import ui_command

ROOT = Path(".twofold/kubeflow")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `run` to the command line."""
    parser = subparsers.add_parser("run", help="run the whole pipeline on this machine")
    parser.add_argument(
        "--runner",
        choices=("subprocess", "docker"),
        default="subprocess",
        help="subprocess: in this environment, recorded in its MLflow store; docker: in the images, as non-root, with "
        "its own MLflow server (%(default)s)",
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help=f"folder for the runs' files ({ROOT} of the project)")
    common.add_image_option(parser)
    common.add_params_option(parser)
    common.add_argument_options(parser)
    parser.add_argument("--verbose", action="store_true", help="print all that kfp's runner and the steps print")
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> Result:
    params = common.params_from(options)
    arguments = common.overrides_from(options)
    root = (options.root or project_root() / ROOT).absolute()
    root.mkdir(parents=True, exist_ok=True)
    output = nullcontext if options.verbose else _print_steps
    if options.runner == "docker":
        from twofold.kubeflow.local.docker_runner import run_in_containers

        folder, ui = run_in_containers(root, common.images_from(options), params, arguments, output)
    else:
        folder, ui = run_in_processes(root, params, arguments, output), ui_command()
    print(file=sys.stderr)  # between the steps and the summary
    text = summary(summary_files(folder), ui)
    return Result(text, {"folder": str(folder), "summary": text.splitlines()})


@contextmanager
def _print_steps(folder: Path) -> Iterator[None]:
    """Print a line a step instead of what is printed meanwhile on standard output, which a log in the folder keeps."""
    with (folder / LOG.name).open("w", encoding="utf-8") as log:
        steps = StepLines(log, lambda: summary_files(next(folder.glob("*/"))))
        with steps.bar, redirect_stdout(steps):  # type: ignore[type-var]
            yield
