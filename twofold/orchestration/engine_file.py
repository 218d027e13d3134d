"""engine.yaml of a project: the installed version of Twofold, and for each stage the digest of the code of its step.

A stage of the project's dvc.yaml depends on its own digest, so that an upgrade runs it again only if its code changed.
"""

from importlib.metadata import version
from pathlib import Path

from twofold.core.artifacts import write_bytes
from twofold.core.code_digest import code_digest
from twofold.core.errors import ParameterError
from twofold.orchestration.params_file import STEPS, load_yaml

ENGINE = "engine.yaml"


def write_engine_file(project: Path) -> None:
    """Write the version that is installed and the digest of each step's code, for DVC to compare."""
    digests = "".join(f"{step}: {code_digest(f'twofold.steps.{step}')}\n" for step in STEPS)
    head = f"# Kept by `twofold init` and `twofold upgrade`.\nversion: {version('twofold')}\n"
    write_bytes(project / ENGINE, f"{head}{digests}".encode())


def check_engine_file(project: Path, step: str) -> None:
    """Make sure that engine.yaml, if the project has one, describes the installed code of a step.

    Raises:
        ParameterError: it describes other code, so that DVC would take results of that code for those of this one.
    """
    path = project / ENGINE
    if path.exists() and (values := load_yaml(path)).get(step) != code_digest(f"twofold.steps.{step}"):
        raise ParameterError(
            f"{path}: was written for twofold {values.get('version')}, whose code of {step} is not that of the "
            f"installed {version('twofold')}; run `twofold upgrade`, or install that version"
        )
