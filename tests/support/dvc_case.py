"""A DVC repository for tests: images in two commits, tagged v1 and v2, pushed to a remote."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.makers import make_folder

DVC = str(Path(sys.executable).with_name("dvc"))


def command(folder, *words):
    """Run a command in a folder and return its output."""
    words = (DVC, *words[1:]) if words[0] == "dvc" else words
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def make_repository(root, remote, options=None, per_class=12):
    """Make `root` a repository whose `data/images` DVC tracks, and push two versions of it to `remote`."""
    root.mkdir(parents=True)
    command(root, "git", "init", "-q", "-b", "main")
    command(root, "git", "config", "user.email", "tests@example.org")
    command(root, "git", "config", "user.name", "tests")
    command(root, "dvc", "init", "-q")
    command(root, "dvc", "config", "core.analytics", "false")
    command(root, "dvc", "remote", "add", "-q", "-d", "store", str(remote))
    for name, value in {"verify": "true", **(options or {})}.items():
        command(root, "dvc", "remote", "modify", "-q", "store", name, value)
    images = make_folder(root / "data" / "images", per_class=per_class, size=24)
    keep(root, "v1")
    sorted(images.glob("*/*.png"))[0].unlink()
    keep(root, "v2")
    return root


def keep(root, tag, target="data/images"):
    """Add, commit, tag and push `target`."""
    command(root, "dvc", "add", "-q", target)
    command(root, "git", "add", "-A")
    command(root, "git", "commit", "-q", "-m", tag)
    command(root, "git", "tag", tag)
    command(root, "dvc", "push", "-q")


def manifest(root):
    """Return the path of the current version's manifest in the cache, and its rows."""
    text = (root / "data" / "images.dvc").read_text()
    md5 = next(line.split()[-1] for line in text.splitlines() if "md5:" in line and ".dir" in line)
    path = root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    return path, json.loads(path.read_text())
