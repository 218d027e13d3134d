"""`run`: the whole pipeline on this machine, through kfp.local, in processes or in containers.

In: parameters, and for containers the images and a docker engine. Out: every task's files below `--root`, a summary,
and an exit status that looks at the files: what the runner says counts for nothing.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from twofold.cli.kfp import options as common
from twofold.core.errors import TwofoldError
from twofold.kubeflow.definition.compiler import Sections, build
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.local.outputs import check, files
from twofold.orchestration.run_summary import summary

ROOT = Path(".twofold/kubeflow")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `run` to the command line."""
    parser = subparsers.add_parser("run", help="run the whole pipeline on this machine")
    parser.add_argument(
        "--runner",
        choices=("subprocess", "docker"),
        default="subprocess",
        help="subprocess: in this environment, recorded in its MLflow store; docker: in the images, as non-root, with "
        "an MLflow server of its own (%(default)s)",
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, metavar="DIR", help="where the runs' files go, a folder a run (%(default)s)"
    )
    common.add_image_option(parser)
    common.add_params_option(parser)
    common.add_argument_options(parser)
    parser.set_defaults(func=_run)


def _run(options: argparse.Namespace) -> int:
    params = common.params_from(options)
    arguments = common.overrides_from(options)
    root = options.root.absolute()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TwofoldError(f"{root}: cannot be made ({error.strerror}); name another folder with --root") from None
    if options.runner == "docker":
        from twofold.kubeflow.local.docker_runner import run_in_containers

        folder, ui = run_in_containers(root, common.images_from(options), params, arguments)
    else:
        folder, ui = run_in_processes(root, params, arguments), "make ui"
    print(summary(files(folder), ui))
    return 0


def run_in_processes(root: Path, params: Sections, arguments: Mapping[str, Any]) -> Path:
    """Run every task as a process in this environment and this folder; returns the run's folder.

    Raises:
        TwofoldError: a task failed, or an expected output is missing.
    """
    from kfp.local import SubprocessRunner

    return execute(root / "runs", SubprocessRunner(use_venv=False), None, params, arguments)


def execute(root: Path, runner: Any, images: Images | None, params: Sections, arguments: Mapping[str, Any]) -> Path:
    """Run the pipeline with one of kfp's local runners and look at what it wrote.

    Args:
        root: gets a folder for this run, which is all that the runner is shown of it.
        runner: kfp's.
        images: of the tasks; None where the runner has no use for them.
        params: every section, checked.
        arguments: of this run.

    Returns:
        The folder that holds a folder a task.

    Raises:
        TwofoldError: a task failed, or an expected output is missing.
    """
    from kfp import local

    pipeline = build(images, None, params=params)
    root.mkdir(parents=True, exist_ok=True)
    # Another run may be under way beside this one, and an earlier one's files are no business of a container.
    own = Path(tempfile.mkdtemp(prefix=f"{datetime.now().astimezone():%Y-%m-%d-%H-%M-%S}-", dir=root))
    # Whoever the process in an image is has to write here, and nobody may remove another one's files.
    own.chmod(0o1777 if images else 0o755)
    failure = ""
    with tempfile.TemporaryDirectory() as scratch, _quiet_environment():
        # kfp deletes its workspace: it gets an empty folder of its own, never one with data in it.
        local.init(runner=runner, pipeline_root=str(own), workspace_root=str(Path(scratch) / "workspace"))
        try:
            pipeline(**arguments)
        except (RuntimeError, ValueError, OSError) as error:
            # A task that failed; an output that is not there; an engine that has no such image.
            failure = str(error) or type(error).__name__
    made = sorted(own.iterdir())
    if failure or len(made) != 1:
        raise TwofoldError(f"the pipeline failed: {failure or 'it left no folder'}; see the lines above, and {own}")
    check(made[0], pipeline)
    return made[0]


@contextmanager
def _quiet_environment() -> Iterator[None]:
    """Tasks whose lines appear as they are written."""
    before = os.environ.get("PYTHONUNBUFFERED")
    os.environ["PYTHONUNBUFFERED"] = "1"
    sys.stdout.flush()
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONUNBUFFERED"]
        else:
            os.environ["PYTHONUNBUFFERED"] = before
