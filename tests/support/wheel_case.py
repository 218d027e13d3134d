"""Twofold's wheel, as the tests of projects use it: built once, unpacked like an installation, and made older."""

import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

from tests.support.tools.engine import copy_checkout

OLDER = "0.0.9"


def build(folder: Path) -> Path:
    """Build the wheel from a copy of this checkout; return the file."""
    copy = folder / "checkout"
    copy_checkout(copy)
    done = subprocess.run([copy / "scripts" / "wheel", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in copy.glob("build")) == []
    return next(folder.glob("twofold-*.whl"))


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel with pip, without its dependencies, into a folder for PYTHONPATH."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target", folder, wheel]
    subprocess.run(words, check=True)
    return folder


def make_older(wheel: Path, project: Path, changes: dict[str, tuple[str, str]]) -> None:
    """Turn a project into one that version OLDER has made, whose skeleton had other texts.

    Args:
        wheel: the present one.
        changes: by file of the skeleton: a text, and what stood there before.
    """
    folder = project / "docker" / "wheel"
    for path in folder.glob("*.whl"):
        path.unlink()
    with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(folder / f"twofold-{OLDER}-py3-none-any.whl", "w") as older:
        for member in archive.infolist():
            text = archive.read(member)
            name = member.filename.removeprefix("twofold/skeleton/")
            if name in changes:
                new, old = (part.encode() for part in changes[name])
                assert new in text
                text = text.replace(new, old)
                (project / name).write_bytes((project / name).read_bytes().replace(new, old))
            info = zipfile.ZipInfo(member.filename, member.date_time)
            info.external_attr = member.external_attr
            older.writestr(info, text)
    for name in ("engine.yaml", ".copier-answers.yml"):
        (project / name).write_text((project / name).read_text().replace(version("twofold"), OLDER))
    commit(project)


def commit(project: Path) -> None:
    """Commit everything, the wheel too."""
    who = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
    for words in (
        ("add", "--all"),
        ("add", "--force", "docker/wheel"),
        (*who, "commit", "--quiet", "--message", "ours"),
    ):
        subprocess.run(["git", *words], cwd=project, check=True, capture_output=True)
