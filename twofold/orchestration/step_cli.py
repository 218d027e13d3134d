"""A step as a command: `python -m twofold.steps.train_head --data … --model … --metrics …`.

The options follow from the step's signature: what stands before the star is read, what stands after it is written.
"""

import argparse
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from twofold.core.errors import TwofoldError
from twofold.orchestration.params_file import read


class Signature(NamedTuple):
    """What a step reads and writes, by argument name."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]


def signature(step: Callable[..., None]) -> Signature:
    """The contract of a step, read from its signature."""
    parameters = list(inspect.signature(step).parameters.values())[1:]
    writes = tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
    return Signature(tuple(p.name for p in parameters if p.name not in writes), writes)


def main(step: Callable[..., None], arguments: Sequence[str] | None = None) -> None:
    """Check every section of params.yaml, then run one step on the paths given; exit 1 with a clear error."""
    name = step.__name__
    contract = signature(step)
    parser = argparse.ArgumentParser(
        prog=f"python -m twofold.steps.{name}",
        description=inspect.getdoc(step),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="the parameters (%(default)s)")
    for path in contract.reads:
        parser.add_argument(f"--{path}", type=Path, required=True, help="read")
    for path in contract.writes:
        parser.add_argument(f"--{path}", type=Path, required=True, help="written")
    options = vars(parser.parse_args(arguments))
    # Read when torch is first imported. By default its threads spin while they wait for each other: on a machine that
    # does anything else besides, the same work took four to ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        # All sections, not only this step's: a mistake in the last one must not cost the hours of the first ones.
        sections = read(options.pop("params"))
        # Which experiment a live training run belongs to is environment to the step, as the tracking address is.
        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", sections["register"].experiment)  # type: ignore[attr-defined]
        step(sections[name], **options)
    except TwofoldError as error:
        print(f"twofold {name}: error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
