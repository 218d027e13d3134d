"""The command `twofold-pipelines` (also `python -m pipelines`): compile, run, submit, schedule, doctor."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from twofold.core.errors import ParameterError, exit_with_message

# Each command's module adds its parser. Only the called command's module is imported, so that `--help` does not wait
# for kfp.
COMMANDS = {
    "compile": ("twofold.cli.kfp.compile", "write the pipeline as a file for Kubeflow"),
    "run": ("twofold.cli.kfp.run", "run the whole pipeline on this machine"),
    "submit": ("twofold.cli.kfp.submit", "start a run on a Kubeflow server"),
    "schedule": ("twofold.cli.kfp.schedule", "recurring runs: apply, list, pause, resume, delete"),
    "doctor": ("twofold.cli.kfp.doctor", "check server, cluster, secrets and images before a run"),
}


class Parser(argparse.ArgumentParser):
    """An argparse parser without abbreviations that never prints an unexpected value, which may be a token."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Like argparse's, which would print unknown words completely, such as `--tokn SECRET`."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            names = [word.partition("=")[0] if word.startswith("--") else word[:2] for word in rest if word[:1] == "-"]
            names += ["a value without an option"] if len(names) < len(rest) else []
            self.error(f"unrecognized: {', '.join(names)} (values are not shown)")
        return options

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        # Report an option's ParameterError as wrong usage.
        try:
            return super()._get_value(action, arg_string)
        except ParameterError as error:
            raise argparse.ArgumentError(action, str(error)) from None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # In `--token SECRET submit`, argparse takes the secret for the command.
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            raise argparse.ArgumentError(action, f"no such command (choose from {', '.join(action.choices)})")
        super()._check_value(action, value)


@exit_with_message("twofold-pipelines")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error is printed in one line and ends it with exit status 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _create_parser(words[0] if words else "").parse_args(words)
    raise SystemExit(options.func(options))


def _create_parser(called: str) -> Parser:
    parser = Parser(prog="twofold-pipelines", description="The six steps as one Kubeflow pipeline.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, (module, help_) in COMMANDS.items():
        if name == called:
            importlib.import_module(module).add_parser(commands)
        else:
            commands.add_parser(name, help=help_)
    return parser


if __name__ == "__main__":
    main()
