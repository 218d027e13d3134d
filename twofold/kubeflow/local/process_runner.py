"""The pipeline on this machine through one of kfp's local runners, in processes here.

In: parameters, and the images where the tasks run in containers. Out: a folder a task below the run's folder. Whether a
run succeeded is judged by the files that it wrote, never by what the runner says.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from twofold.core.errors import TwofoldError
from twofold.kubeflow.definition.compiler import Sections, build
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.local.outputs import check_outputs


def run_in_processes(root: Path, params: Sections, arguments: Mapping[str, Any]) -> Path:
    """Run every task as a process in this environment and this folder; returns the run's folder.

    Raises:
        TwofoldError: a task failed, or an expected output is missing.
    """
    from kfp.local import SubprocessRunner

    return run_pipeline(root / "runs", SubprocessRunner(use_venv=False), None, params, arguments)


def run_pipeline(
    root: Path, runner: Any, images: Images | None, params: Sections, arguments: Mapping[str, Any]
) -> Path:
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
    check_outputs(made[0], pipeline)
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
