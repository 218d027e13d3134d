"""Puts the skeleton of a project into the wheel: this repository's own files, and those in skeleton/.

`twofold init` writes a new project from them. Everything else about the package is said in pyproject.toml.
"""

import re
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHARED = (".dockerignore", ".dvc/.gitignore", ".dvc/config", ".dvcignore", ".gitignore", "components", "docker")
SHARED += (".dvc/plots.html", "dvc.yaml", "params.yaml", "pipelines", "requirements.lock")


class BuildWithSkeleton(build_py):
    """Copies the skeleton beside the package's own files."""

    def run(self) -> None:
        """Like the original, and then add `twofold/skeleton` and `twofold/commit.txt`."""
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "twofold"
            write_skeleton(package / "skeleton")
            (package / "commit.txt").write_text(f"{commit()}\n", encoding="utf-8")


def commit() -> str:
    """Name the commit of this checkout for `twofold --version`, with `-dirty` if files differ from it."""
    words = ["git", "describe", "--always", "--abbrev=40", "--match=", "--dirty"]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def write_skeleton(target: Path) -> None:
    """Write the files of a new project; its stages depend on the engine's digests instead of the engine's files."""
    shutil.rmtree(target, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.whl", "*.pth")
    shutil.copytree(ROOT / "skeleton", target, ignore=ignored)
    for name in SHARED:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, target / name, **({"ignore": ignored} if (ROOT / name).is_dir() else {}))
    stages = target / "dvc.yaml"
    text = re.sub(r"^      - twofold/.*\n", "", stages.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = re.sub(r"^    params: \[(\w+)\]$", r"    params: [\1, engine.yaml: [\1]]", text, flags=re.MULTILINE)
    stages.write_text(text, encoding="utf-8")


setup(cmdclass={"build_py": BuildWithSkeleton})
