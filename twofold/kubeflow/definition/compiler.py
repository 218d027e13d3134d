"""Compiles the project's pipeline: takes images, resources and parameters, writes reproducible YAML."""

import importlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from twofold.core.artifacts import write_bytes
from twofold.core.drafts import scratch_folder
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import Resources
from twofold.orchestration.params_file import project_root

# kfp repeats each section's defaults in a comment at the top of the file, with its keys in random order.
_DEFAULT_COMMENT = re.compile(rb"^(#    \w+: dict) \[Default: .*\]$", re.MULTILINE)
# kfp writes the texts 1e3 and 0o17 without quotes, and Kubeflow would read a number; numbers have a sign after the e.
_NUMERIC_TEXT = re.compile(rb"^( +\w+: )(\d[\d.]*[eE]\d+|0o[0-7]+)$", re.MULTILINE)

Sections = Mapping[str, Mapping[str, Any]]


def compile_pipeline(path: Path, *, images: Images, resources: Resources, params: Sections) -> None:
    """Compile the pipeline into a file; the file is written completely or not at all.

    Args:
        path: must end in .yaml.
        params: every section, checked; they become the pipeline's defaults. Overrides of a single run belong in the
            run's arguments, not in this file.

    Raises:
        ArtifactError: the file cannot be written.
    """
    from kfp.compiler import Compiler

    with scratch_folder() as folder:
        draft = folder / "training.yaml"
        Compiler().compile(build_pipeline(images, resources, params=params), str(draft))
        text = _DEFAULT_COMMENT.sub(rb"\1", draft.read_bytes())
        write_bytes(path, _NUMERIC_TEXT.sub(rb"\1'\2'", text))


def build_pipeline(images: Images | None, resources: Resources | None, *, params: Sections) -> Callable[..., Any]:
    """Build the pipeline as a kfp object, which can be compiled, or called to run it on this machine.

    Args:
        images: None to run the tasks as processes on this machine.
        resources: None to run the tasks on this machine.
        params: every section, checked.
    """
    pipeline: Callable[..., Any] = import_project_module("pipelines.training").pipeline(images, resources, params)
    return pipeline


def pipeline_name() -> str:
    return str(import_project_module("pipelines.training").NAME)


def import_project_module(name: str) -> ModuleType:
    """Import a module of the project, not of this package: `pipelines.training`, `components.doctor`.

    Raises:
        ParameterError: neither the current folder nor any folder above it is a project.
    """
    root = str(project_root())
    if root not in sys.path:
        sys.path.insert(0, root)
    return importlib.import_module(name)
