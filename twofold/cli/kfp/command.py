"""`twofold kfp`: compile, run, submit and schedule the pipeline, and check a cluster."""

import argparse
import importlib
from collections.abc import Collection

# Each command's module adds its parser. Only the called command's module is imported, so that `--help` does not wait
# for kfp.
COMMANDS = {
    "compile": ("twofold.cli.kfp.compile", "write the pipeline as a file for Kubeflow"),
    "run": ("twofold.cli.kfp.run", "run the whole pipeline on this machine"),
    "submit": ("twofold.cli.kfp.submit", "start a run on a Kubeflow server"),
    "schedule": ("twofold.cli.kfp.schedule", "recurring runs: apply, list, pause, resume, delete"),
    "doctor": ("twofold.cli.kfp.doctor", "check server, cluster, secrets and images before a run"),
}


def add(parser: argparse.ArgumentParser, called: Collection[str]) -> None:
    """Add the commands, and the options of those that are called."""
    parser.description = "The six steps as one Kubeflow pipeline."
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module, help_) in COMMANDS.items():
        if name in called:
            importlib.import_module(module).add_parser(commands)
        else:
            commands.add_parser(name, help=help_)
