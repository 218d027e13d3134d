"""A container engine for tests, prepared by tests/support/tools/container-host: builds images, runs containers."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HOST = Path(__file__).parent / "container-host"
# Like a pod of the restricted standard with an arbitrary user: no privileges, no network, only /tmp is writable.
RESTRICTED = (
    "--network=none",
    "--read-only",
    "--tmpfs=/tmp",
    "--user=12345:12345",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
)


class Engine:
    """Podman, or the engine that DOCKER_HOST names, with its environment."""

    def __init__(self) -> None:
        done = subprocess.run([HOST], capture_output=True, text=True, check=False, timeout=1200)
        assert done.returncode == 0, done.stderr
        found = dict(re.findall(r'^export (\w+)="?([^"\n]*)"?$', done.stdout, re.MULTILINE))
        self.env = os.environ | found
        self.name = found.get("ENGINE", "docker")
        self._started = "started" in done.stderr

    def stop(self) -> None:
        """Stop the socket if this object started it."""
        if self._started:
            subprocess.run([HOST, "stop"], env=self.env, check=True, timeout=60)

    def run(self, *words: str, check: bool = True, timeout: int = 900) -> subprocess.CompletedProcess[str]:
        """Run a command of the engine itself."""
        command = [self.name, *words]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, check=False)
        assert not check or done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"
        return done

    def within(self, image: str, *words: str, options: Iterable[str] = RESTRICTED, check: bool = True) -> str:
        """Run a command in a new container; return its output."""
        done = self.run("run", "--rm", *options, image, *words, check=check)
        return done.stdout + ("" if check else done.stderr)

    def build(self, *targets: str, tag: str, root: Path = ROOT, check: bool = True, **env: str) -> str:
        """Do as `make images` in a folder; return its output, including the engine's."""
        env = self.env | {"TAG": tag, "TARGETS": " ".join(targets)} | env
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        subprocess.run([root / "scripts" / "wheel", "docker/wheel"], env=env, check=True)
        command = [root / "docker" / "images"]
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=2400, check=False)
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr[-8000:]}"
        return done.stdout + done.stderr


def names(printed: str) -> dict[str, str]:
    """{target: image}, from the output of docker/images or docker/push."""
    return dict(re.findall(r"^--image (\w+)=(\S+)$", printed, re.MULTILINE))


def copy_checkout(folder: Path) -> None:
    """Copy what the wheel and the images are made of."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    for name in subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "bench/", "docs/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def copy_context(folder: Path) -> Path:
    """Create a separate repository with everything that goes into the images, which a test may change."""
    copy_checkout(folder)
    for words in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    commit(folder)
    return folder


def commit(folder: Path, *options: str) -> None:
    """Commit what is staged."""
    who = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *who, "commit", "--quiet", "--message", "one", *options], cwd=folder, check=True)


def head(folder: Path) -> str:
    """The commit hash of a repository."""
    words = ["git", "rev-parse", "HEAD"]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
