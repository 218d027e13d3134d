"""The project's pipeline, compiled: images, resources and parameters in, YAML out, the same bytes for the same input."""

import importlib
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from twofold.core.artifacts import write_bytes
from twofold.core.errors import ParameterError
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import Resources
from twofold.orchestration.params_file import project_root

# kfp repeats each section's defaults in a comment at the top, their keys in an order that changes from call to call.
_DEFAULT = re.compile(rb"^(#    \w+: dict) \[Default: .*\]$", re.MULTILINE)

Sections = Mapping[str, Mapping[str, Any]]


def compile_to(path: Path, *, cpu: bool, images: Images, resources: Resources, params: Sections) -> None:
    """Compile the pipeline into a file, whole or not at all.

    Args:
        path: of the file, ending in .yaml.
        cpu: leave out everything of `resources`.
        images: of the tasks.
        resources: where the tasks run.
        params: every section, checked, which become the pipeline's defaults. What one run changes is no part of the
            file: it goes into the run's arguments.

    Raises:
        ParameterError: the file cannot be written.
    """
    from kfp.compiler import Compiler

    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "training.yaml"
        Compiler().compile(build(images, None if cpu else resources, params=params), str(draft))
        try:
            write_bytes(path, _DEFAULT.sub(rb"\1", draft.read_bytes()))
        except OSError as error:
            raise ParameterError(f"{path}: cannot be written: {error.strerror}") from None


def build(images: Images | None, resources: Resources | None, *, params: Sections) -> Callable[..., Any]:
    """The pipeline as kfp's object: to be compiled, or called to run it on this machine.

    Args:
        images: None for processes of this machine.
        resources: None to ask for nothing.
        params: every section, checked.
    """
    built: Callable[..., Any] = project_module("pipelines.training").pipeline(images, resources, params)
    return built


def pipeline_name() -> str:
    """The name of the project's pipeline."""
    return str(project_module("pipelines.training").NAME)


def project_module(name: str) -> ModuleType:
    """A module that belongs to the project and not to this package: `pipelines.training`, `components.doctor`.

    Raises:
        ParameterError: the current folder lies in no project.
    """
    root = str(project_root())
    if root not in sys.path:
        sys.path.insert(0, root)
    return importlib.import_module(name)
