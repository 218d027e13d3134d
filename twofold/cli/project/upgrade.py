"""`twofold upgrade`: bring a project's files to the skeleton of the installed version, by copier's three-way merge.

The old skeleton is in the project's own wheel, the new one in the installed package.
"""

import os
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from twofold.cli.project.engine_wheel import WHEELS, copy_skeleton, extract_skeleton, find_wheel, pin_wheel
from twofold.cli.project.init import ANSWERS, TEMPLATE, answers
from twofold.core.artifacts import write_bytes
from twofold.core.drafts import scratch_folder
from twofold.core.errors import ParameterError
from twofold.orchestration.engine_file import ENGINE, write_engine_file
from twofold.orchestration.params_file import PARAMS, load_yaml
from twofold.tracking.store import flatten


def upgrade(project: Path, wheel: Path | None = None) -> str:
    """Merge the changes between two skeletons into a project; return what changed and what is left to do.

    Edits of the owner stay; where both sides changed the same lines, Git's conflict markers stand in the file.

    Args:
        project: the folder of a project made by `twofold init`, in a Git repository without uncommitted changes.
        wheel: of the installed engine; None for the one that pip has installed.

    Raises:
        ParameterError: it is no such project, has uncommitted changes, or was made with a newer version.
    """
    if not (project / ENGINE).is_file() or not (project / ANSWERS).is_file():
        raise ParameterError(
            f"{project}: no {ENGINE} and {ANSWERS}, so it was not made by `twofold init`; change to a project that "
            f"was, or make one, copy your values into its {PARAMS}, and set MLFLOW_TRACKING_URI to your models' store"
        )
    if changed := _git(project, "status", "--porcelain").strip():
        raise ParameterError(f"{project}: has uncommitted changes; commit or stash them first:\n{changed}")
    before, installed = str(load_yaml(project / ENGINE)["version"]), version("twofold")
    if Version(before) > Version(installed):
        raise ParameterError(f"{project}: made with twofold {before}; {installed} is installed, which is older")
    old = flatten(load_yaml(project / PARAMS))
    with scratch_folder() as scratch:
        engine = find_wheel(wheel, scratch)
        if before != installed:
            _merge(project, scratch / "template", before, installed)
        pin_wheel(project, engine)
    write_bytes(project / ANSWERS, answers(installed).encode())
    write_engine_file(project)
    _git(project, "add", "--force", WHEELS.as_posix())
    lines = [f"twofold {before} -> {installed}, engine from {engine}", *_git(project, "status", "--short").splitlines()]
    conflicts = _git(project, "diff", "--name-only", "--diff-filter=U").split()
    if conflicts:
        lines.append(f"conflicts, marked in the files; edit them, then: git add {' '.join(conflicts)}")
    if PARAMS not in conflicts:
        new = flatten(load_yaml(project / PARAMS))
        lines += [f"new parameter: {name}={value}" for name, value in new.items() if name not in old]
    return "\n".join([*lines, "next: git diff; git commit --all; twofold run"])


def _merge(project: Path, template: Path, before: str, installed: str) -> None:
    """Make a repository with both skeletons, one commit and tag each, and let copier merge their difference."""
    template.mkdir()
    _git(template, "init", "--quiet")
    who = ("-c", "user.name=twofold", "-c", "user.email=twofold@localhost")
    for tag, write in ((before, partial(extract_skeleton, project)), (installed, copy_skeleton)):
        _git(template, "rm", "-r", "--quiet", "--ignore-unmatch", ".")
        write(template)
        _git(template, "add", "--all", "--force")
        _git(template, *who, "commit", "--quiet", "--allow-empty", "--message", tag)
        _git(template, "tag", tag)
    # Git replaces the address in copier's file by the folder.
    config = {"COUNT": "1", "KEY_0": f"url.{template}.insteadOf", "VALUE_0": TEMPLATE}
    redirect = {f"GIT_CONFIG_{name}": value for name, value in config.items()}
    words = [sys.executable, "-m", "copier", "update", "--defaults", "--quiet", "--vcs-ref", installed, str(project)]
    done = subprocess.run(words, env=os.environ | redirect, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ParameterError(f"{project}: cannot be upgraded: {done.stderr.strip()}")


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ParameterError(f"{folder}: git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout
