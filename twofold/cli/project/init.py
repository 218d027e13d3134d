"""`twofold init DIR`: a new project for two folders of images: its files, its parameters with reasons, its engine."""

import subprocess
from importlib.metadata import version
from pathlib import Path

from twofold.cli.project.choices import ORIENTATIONS, choose, look
from twofold.cli.project.engine_wheel import WHEELS, copy_skeleton, find_wheel, pin_wheel, skeleton
from twofold.core.drafts import draft
from twofold.core.errors import DataError, ParameterError
from twofold.data.decoding import Limits
from twofold.orchestration.engine_file import write_engine_file
from twofold.orchestration.params_file import PARAMS, read, set_values
from twofold.sources.factory import address_kind

ANSWERS = ".copier-answers.yml"
# copier reads templates from Git only; `twofold upgrade` puts the skeletons of two wheels behind this address.
TEMPLATE = "https://twofold.invalid/skeleton.git"


def init(
    directory: Path,
    source: str,
    positive: str,
    orientation: str | None,
    wheel: Path | None,
    *,
    dry_run: bool,
    ask: bool,
) -> str:
    """Write a new project and return what was chosen, why, and the next commands.

    Args:
        directory: must not exist, or be empty.
        source: the images, as for `ingest.source`; a relative folder is meant from the current folder.
        positive: the class that the model is to find.
        orientation: a key of ORIENTATIONS; for None, `ask` a person, or take "fixed".
        wheel: of the installed engine; None for the one that pip has installed.

    Raises:
        TwofoldError: the directory is in use, the images cannot be used, or weights or wheel cannot be had.
    """
    sections = read(skeleton() / PARAMS)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        state = "exists and is not empty" if directory.is_dir() else "is a file"
        raise ParameterError(f"{directory}: {state}; name a folder that does not exist yet, or an empty one")
    if not address_kind(source):
        source = str(Path(source).resolve())
    ingest = sections["ingest"].model_dump()
    try:
        found = look(source, positive, Limits(ingest["max_bytes"], ingest["max_pixels"], ingest["min_side"]))
    except DataError as error:  # of options, where a project has parameters
        text = str(error).replace("ingest.source in params.yaml", "--source").replace("ingest.source", "--source")
        raise type(error)(text.replace("ingest.positive", "--positive"), transient=error.transient) from None
    if orientation is None and ask:
        orientation = next((name for name in ("free", "mirrored") if _ask(ORIENTATIONS[name][0])), "fixed")
    lines, assignments = [], []
    for choice in choose(found, source, orientation, sections):
        values = [f"{key}={value}" for key, value in choice.values.items()]
        lines += [", ".join(values), f"  because: {choice.reason}"]
        assignments += values
    if dry_run:
        return "\n".join([*lines, "nothing was written (--dry-run)"])
    directory.parent.mkdir(parents=True, exist_ok=True)
    with draft(directory) as project:
        copy_skeleton(project)
        set_values(project / PARAMS, assignments)
        write_engine_file(project)
        origin = find_wheel(wheel, project / WHEELS)
        pin_wheel(project, origin)
        (project / ANSWERS).write_text(answers(version("twofold")), encoding="utf-8")
        commit = _commit(project, directory)
        if directory.exists():
            directory.rmdir()  # empty
        project.rename(directory)
    lines += ["", f"engine: twofold {version('twofold')}, from {origin}, pinned by its hash", commit]
    return "\n".join([*lines, "", f"next: cd {directory} && twofold run"])


def answers(tag: str) -> str:
    """Return the text of copier's file, which names the skeleton that a project was made from."""
    return f"# Kept by `twofold upgrade`, for copier.\n_commit: {tag}\n_src_path: {TEMPLATE}\n"


def _ask(meaning: str) -> bool:
    answer = input(f"Does an image keep its class when it is {meaning} (a scratch does, a letter does not)? [y/N] ")
    return answer.strip().casefold().startswith("y")


def _has_identity(project: Path) -> bool:
    words = ["git", "var", "GIT_COMMITTER_IDENT"]
    return not subprocess.run(words, cwd=project, capture_output=True, check=False).returncode


def _commit(project: Path, directory: Path) -> str:
    """Make a Git repository with a first commit; return what was made, in words, or how to make it in `directory`."""
    commit = ["commit", "--quiet", "--message", "A project made by twofold init"]
    for words in (["init", "--quiet"], ["add", "--all"], ["add", "--force", str(WHEELS)], commit):
        done = subprocess.run(["git", *words], cwd=project, capture_output=True, text=True, check=False)
        if done.returncode and words == commit and not _has_identity(project):
            return (
                "git: no first commit, so models will have no commit; set your name (git config --global user.name "
                f'"..." and user.email), then: git -C {directory} add --all && '
                f'git -C {directory} commit -m "New project"'
            )
        if done.returncode:
            return f"git: no first commit was made: {(done.stderr.splitlines() or words)[0]}"
    return "git: a repository with a first commit"
