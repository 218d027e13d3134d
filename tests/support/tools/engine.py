"""A container engine for tests, as tests/support/tools/container-host makes it ready, and the images of this tree in it.

In: nothing, or a folder with the scripts and what goes into the images. Out: commands run in throw-away containers.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HOST = Path(__file__).parent / "container-host"
# A pod of the restricted standard, on a platform that picks the user itself: no rights, no network, one place to write.
RESTRICTED = (
    "--network=none",
    "--read-only",
    "--tmpfs=/tmp",
    "--user=12345:12345",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
)


class Engine:
    """Podman, or what DOCKER_HOST names, with the environment that it takes."""

    def __init__(self) -> None:
        done = subprocess.run([HOST], capture_output=True, text=True, check=False, timeout=1200)
        assert done.returncode == 0, done.stderr
        found = dict(re.findall(r'^export (\w+)="?([^"\n]*)"?$', done.stdout, re.MULTILINE))
        self.env = os.environ | found
        self.name = found.get("ENGINE", "docker")
        self._ours = "started" in done.stderr

    def stop(self) -> None:
        """Stop the socket, if it was not there before."""
        if self._ours:
            subprocess.run([HOST, "stop"], env=self.env, check=True, timeout=60)

    def run(self, *words: str, check: bool = True, timeout: int = 900) -> subprocess.CompletedProcess[str]:
        """A command of the engine itself."""
        done = subprocess.run(
            [self.name, *words], env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"
        return done

    def within(self, image: str, *words: str, options: Iterable[str] = RESTRICTED, check: bool = True) -> str:
        """What a command in a new container prints."""
        done = self.run("run", "--rm", *options, image, *words, check=check)
        return done.stdout + ("" if check else done.stderr)

    def build(self, *targets: str, tag: str, root: Path = ROOT, check: bool = True, **env: str) -> str:
        """`make images` in a folder; what it prints, the engine's own words included."""
        done = subprocess.run(
            [root / "scripts" / "images"],
            cwd=root,
            env=self.env | {"TAG": tag, "TARGETS": " ".join(targets)} | env,
            capture_output=True,
            text=True,
            timeout=2400,
            check=False,
        )
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr[-8000:]}"
        return done.stdout + done.stderr


def names(printed: str) -> dict[str, str]:
    """{target: image}, from what scripts/images and scripts/push print."""
    return dict(re.findall(r"^--image (\w+)=(\S+)$", printed, re.MULTILINE))


def copy_context(folder: Path) -> Path:
    """A repository of its own with what goes into the images, to be changed by a test."""
    shipped = (".dockerignore", "LICENSE", "NOTICE", "README.md", "docker", "pyproject.toml", "scripts", "twofold")
    folder.mkdir()
    for name in shipped:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pth"))
        else:
            shutil.copy(ROOT / name, folder / name)
    for words in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    commit(folder)
    return folder


def commit(folder: Path, *options: str) -> None:
    """What is staged."""
    who = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *who, "commit", "--quiet", "--message", "one", *options], cwd=folder, check=True)


def head(folder: Path) -> str:
    """The commit of a repository."""
    words = ["git", "rev-parse", "HEAD"]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
