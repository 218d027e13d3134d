"""Runs the pipeline on this machine with one of kfp's local runners.

Takes parameters and, for containers, images; returns the run's folder, with one folder per task. A run has succeeded if
all its files are there, whatever the runner reports.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

from twofold.core.drafts import scratch_folder
from twofold.core.errors import TwofoldError
from twofold.kubeflow.definition.compiler import Sections, build_pipeline
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.local.outputs import check_outputs

Output = Callable[[Path], AbstractContextManager[Any]]  # where to print, given the folder of a run


def run_in_processes(root: Path, params: Sections, arguments: Mapping[str, Any], output: Output) -> Path:
    """Run every task as a process in this environment and the current folder; see `run_pipeline`."""
    from kfp.local import SubprocessRunner

    return run_pipeline(root / "runs", SubprocessRunner(use_venv=False), None, params, arguments, output)


def run_pipeline(
    root: Path, runner: Any, images: Images | None, params: Sections, arguments: Mapping[str, Any], output: Output
) -> Path:
    """Run the pipeline and check its outputs.

    Args:
        root: gets a folder for this run, the only one that the runner sees.
        runner: one of kfp's local runners.
        images: None for a runner without containers.
        output: the context in which the pipeline runs, for what kfp prints.

    Returns:
        The run's folder, which holds one folder per task.

    Raises:
        TwofoldError: a task failed, or an expected output is missing.
    """
    from kfp import local

    pipeline = build_pipeline(images, None, params=params)
    root.mkdir(parents=True, exist_ok=True)
    # A folder of its own: other runs may be active, and a container must not see their files.
    run_root = Path(tempfile.mkdtemp(prefix=f"{datetime.now().astimezone():%Y-%m-%d-%H-%M-%S}-", dir=root))
    # Any user of an image must be able to write here, but (sticky bit) not to remove other users' files.
    run_root.chmod(0o1777 if images else 0o755)
    failure = ""
    with scratch_folder() as scratch, output(run_root):
        os.environ["PYTHONUNBUFFERED"] = "1"  # tasks print their lines immediately
        # kfp deletes its workspace, so it gets an empty folder, never one with data in it.
        local.init(runner=runner, pipeline_root=str(run_root), workspace_root=str(scratch / "workspace"))
        try:
            pipeline(**arguments)
        except (RuntimeError, ValueError, OSError) as error:
            # A failed task, a missing output, or an image that the engine does not have.
            failure = str(error) or type(error).__name__
    folders = sorted(run_root.glob("*/"))
    if failure or len(folders) != 1:
        raise TwofoldError(
            f"the pipeline failed: {failure or 'it left no folder'}; see the lines above, and {run_root}"
        )
    check_outputs(folders[0], pipeline)
    return folders[0]
