"""`compile`: the pipeline as a file that Kubeflow takes.

In: images, resources, parameters. Out: YAML, the same bytes for the same input.
"""

import argparse
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twofold.cli.kfp import options as common
from twofold.core.artifacts import write_bytes
from twofold.core.errors import ParameterError
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import Resources

# kfp repeats each section's defaults in a comment at the top, their keys in an order that changes from call to call.
_DEFAULT = re.compile(rb"^(#    \w+: dict) \[Default: .*\]$", re.MULTILINE)

Sections = Mapping[str, Mapping[str, Any]]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `compile` to the command line."""
    parser = subparsers.add_parser("compile", help="write the pipeline as a file that Kubeflow takes")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("training.yaml"), metavar="FILE", help="(%(default)s)"
    )
    common.add_compile_options(parser)
    parser.set_defaults(func=_compile)


def compile_to(path: Path, *, cpu: bool, images: Images, resources: Resources, params: Sections) -> None:
    """Compile the pipeline into a file, whole or not at all.

    Args:
        path: of the file, ending in .yaml.
        cpu: leave out everything of `resources`.
        images: of the tasks; `options.images_from`.
        resources: where the tasks run; `options.resources_from`.
        params: every section, checked, which become the pipeline's defaults; `options.params_from`. What one run
            changes (`options.overrides_from`) is no part of the file: it goes into the run's arguments.

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
    from pipelines.training import pipeline

    return pipeline(images, resources, params)


def _compile(options: argparse.Namespace) -> int:
    compile_to(
        options.output,
        cpu=options.cpu,
        images=common.images_from(options),
        resources=common.resources_from(options),
        params=common.params_from(options),
    )
    print(options.output)
    return 0
