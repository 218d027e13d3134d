"""The engine of a project: its wheel in docker/wheel/, the pin by hash in requirements.txt, and its skeleton."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution, version
from pathlib import Path
from urllib.parse import unquote, urlsplit

import twofold
from twofold.core.artifacts import write_bytes
from twofold.core.errors import ParameterError

WHEELS = Path("docker", "wheel")
_INSIDE = "twofold/skeleton/"


def skeleton() -> Path:
    """Return the folder of the installed package that holds the files of a new project."""
    folder = Path(str(twofold.__file__)).parent / "skeleton"
    if not folder.is_dir():
        raise ParameterError(
            f"{folder}: not found; projects are made by an installed wheel, not by a checkout of Twofold: run "
            "`scripts/wheel dist` there, and `pip install dist/twofold-*.whl` in an environment of the project"
        )
    return folder


def copy_skeleton(target: Path) -> None:
    """Copy the installed skeleton into a folder, without what Python has compiled."""
    shutil.copytree(skeleton(), target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


def extract_skeleton(project: Path, target: Path) -> None:
    """Write the skeleton that a project was made from, which is in its wheel, into a folder."""
    wheels = sorted((project / WHEELS).glob("twofold-*.whl"))
    if len(wheels) != 1:
        names = ", ".join(path.name for path in wheels) or "none"
        raise ParameterError(f"{project / WHEELS}: must hold exactly one wheel of twofold, found: {names}")
    with zipfile.ZipFile(wheels[0]) as archive:
        for member in archive.infolist():
            if member.filename.startswith(_INSIDE):
                path = target / member.filename.removeprefix(_INSIDE)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))
                path.chmod(member.external_attr >> 16 & 0o777)


def find_wheel(wheel: Path | None, folder: Path) -> Path:
    """Return the installed engine's wheel: the given file, that of pip (PEP 610), or a download into a folder.

    Raises:
        ParameterError: it cannot be had, or is not of the installed version.
    """
    installed = version("twofold")
    address = json.loads(distribution("twofold").read_text("direct_url.json") or "{}").get("url", "")
    found = wheel or Path(unquote(urlsplit(address).path))
    if wheel and not (found.is_file() and found.name.startswith(f"twofold-{installed}-")):
        raise ParameterError(f"{wheel}: not a wheel of twofold {installed}, which is installed")
    if found.suffix == ".whl" and found.is_file():
        return found
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    done = subprocess.run([*words, f"twofold=={installed}"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ParameterError(
            f"the wheel of twofold {installed} is not where it was installed from, nor in the package index; give it "
            f"with --wheel FILE ({' '.join(done.stderr.split('ERROR: ')[-1].split())})"
        )
    return next(folder.glob("*.whl"))


def pin_wheel(project: Path, wheel: Path) -> None:
    """Put a wheel into a project, in place of an older one, and name it by its hash in requirements.txt."""
    data = wheel.read_bytes()  # before the older ones go: it may lie among them
    for path in (project / WHEELS).glob("*.whl"):
        path.unlink()
    write_bytes(project / WHEELS / wheel.name, data)
    text = (
        "# The engine and what it needs, by hash: pip install --require-hashes --no-deps -r requirements.txt\n"
        f"-r requirements.lock\n./{WHEELS / wheel.name} --hash=sha256:{hashlib.sha256(data).hexdigest()}\n"
    )
    write_bytes(project / "requirements.txt", text.encode())
