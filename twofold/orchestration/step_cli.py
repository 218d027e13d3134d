"""Runs a step as a command: `python -m twofold.steps.train_head --data … --model … --metrics …`.

The options come from the step's signature: it reads its positional arguments and writes its keyword-only ones.
"""

import argparse
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twofold.core.errors import exit_with_message
from twofold.orchestration.engine_file import check_engine_file
from twofold.orchestration.params_file import read


class Signature(NamedTuple):
    """The names of the arguments that a step reads and writes."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


def signature(step: Callable[..., None]) -> Signature:
    """Return what a step reads and writes, without its first argument, the parameters."""
    arguments = list(inspect.signature(step).parameters.values())[1:]
    writes = tuple(a.name for a in arguments if a.kind is inspect.Parameter.KEYWORD_ONLY)
    return Signature(tuple(a.name for a in arguments if a.name not in writes), writes)


def main(step: Callable[..., None], arguments: Sequence[str] | None = None) -> tuple[dict[str, Any], dict[str, Path]]:
    """Check params.yaml, run one step on the given paths, and return all sections and the paths; exit 1 on an error."""
    name = step.__name__
    parser = argparse.ArgumentParser(
        prog=f"python -m twofold.steps.{name}",
        description=inspect.getdoc(step),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the parameters (%(default)s)")
    for use, paths in zip(("read", "written"), signature(step), strict=True):
        for path in paths:
            parser.add_argument(f"--{path}", type=Path, required=True, help=use)
    # torch reads this when it is first imported. By default its threads spin while they wait for each other: on a
    # machine with any other load, the same work took four to ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with exit_with_message(f"twofold {name}"):
        options = vars(parser.parse_args(arguments))
        # All sections, not only this step's: a mistake in the last one must not cost the hours of the first ones.
        params = options.pop("params")
        sections = read(params)
        check_engine_file(params.parent, name)
        # No parameter of the training steps: like the tracking address, it must not decide whether they run again.
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", sections["register"].experiment)  # type: ignore[attr-defined]
        step(sections[name], **options)
    return sections, options
