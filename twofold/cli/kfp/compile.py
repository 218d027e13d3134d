"""`twofold kfp compile`: writes the pipeline as a file for a Kubeflow server."""

import argparse
from pathlib import Path

from twofold.cli.kfp import options as common


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `compile` to the command line."""
    parser = subparsers.add_parser("compile", help="write the pipeline as a file for Kubeflow")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("training.yaml"), metavar="FILE", help="(%(default)s)"
    )
    common.add_compile_options(parser)
    parser.set_defaults(run=_compile)


def _compile(options: argparse.Namespace) -> int:
    common.compile_from(options, options.output, common.params_from(options))
    print(options.output)
    return 0
