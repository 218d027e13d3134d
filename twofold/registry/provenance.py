"""Where a result comes from: git commit, libraries, hardware, image and pipeline run, as a flat dictionary of texts.

Reads the git checkout around the current folder, otherwise TWOFOLD_COMMIT (set when an image is built); the installed
packages; TWOFOLD_IMAGE (the image's name and digest), TWOFOLD_PIPELINE_RUN (the id of a Kubeflow run), TWOFOLD_SOURCE
(the source that its ingest has read) and DVC_EXP_NAME. Unknown values are left out.
"""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

LIBRARIES = ("twofold", "torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "mlflow", "dvc")
ENVIRONMENT = {
    "image": "TWOFOLD_IMAGE",
    "pipeline_run": "TWOFOLD_PIPELINE_RUN",
    "source": "TWOFOLD_SOURCE",
    "dvc_experiment": "DVC_EXP_NAME",
}


def provenance() -> dict[str, str]:
    """Collect `git.*`, `library.*`, `hardware.*` and the keys of ENVIRONMENT whose variables are set."""
    from twofold.model.device import device_description  # imports torch, which git_state does not need

    found = git_state(Path.cwd())
    if not found and os.environ.get("TWOFOLD_COMMIT", "unknown") != "unknown":
        found["git.commit"] = os.environ["TWOFOLD_COMMIT"]
    found["library.python"] = platform.python_version()
    for name in LIBRARIES:
        try:
            found[f"library.{name}"] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # twofold itself may run from its folder, and a data image has no torch
    found |= {f"hardware.{key}": value for key, value in device_description().items() if key != "torch"}
    return found | {key: os.environ[name] for key, name in ENVIRONMENT.items() if os.environ.get(name)}


def engine_commit() -> str:
    """Return the commit that this package was made from, with `-dirty` if files differed from it."""
    package = Path(__file__).parents[1]
    if (recorded := package / "commit.txt").is_file():  # of a wheel, see setup.py
        return recorded.read_text(encoding="utf-8").strip()
    return (run_git(package, "describe", "--always", "--abbrev=40", "--match=", "--dirty") or "unknown").strip()


def git_state(folder: Path) -> dict[str, str]:
    """`git.commit`, and in `git.changed` the tracked files that differ from it, or "none"; empty outside a repository.

    dvc.lock is not counted, because `dvc repro` writes it while a step runs.
    """
    commit = run_git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return {}
    changed = run_git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)dvc.lock")
    names = [line[3:] for line in (changed or "").splitlines()]
    return {"git.commit": commit.strip(), "git.changed": ", ".join(names) or "none"}


def run_git(folder: Path, *words: str) -> str | None:
    """The output of a git command in a folder; None if it fails or git is not installed."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
