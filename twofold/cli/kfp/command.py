"""The command `python -m pipelines` (or `twofold-pipelines`): compile, run, submit, schedule, doctor."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from twofold.core.errors import TwofoldError

# Each command's module, which adds its parser and is imported only when it is the one that is called: `--help` must
# not wait for kfp.
COMMANDS = {
    "compile": ("twofold.cli.kfp.compile", "write the pipeline as a file that Kubeflow takes"),
    "run": ("twofold.cli.kfp.run", "run the whole pipeline on this machine"),
    "submit": ("twofold.cli.kfp.submit", "start a run on a Kubeflow server"),
    "schedule": ("twofold.cli.kfp.schedule", "recurring runs: apply, list, pause, resume, delete"),
    "doctor": (
        "twofold.cli.kfp.doctor",
        "check server, cluster, secrets and images before a run costs anything",
    ),
}


class Parser(argparse.ArgumentParser):
    """argparse's, without abbreviations, whose messages repeat no value: one that it cannot place may be a token."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's, which would print the words that it does not know, `--tokn SECRET` for one, whole."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            names = [word.partition("=")[0] if word.startswith("--") else word[:2] for word in rest if word[:1] == "-"]
            values = "a value that belongs to nothing" if len(names) < len(rest) else ""
            self.error(f"unrecognized: {', '.join([*names, *filter(None, [values])])} (values are not shown)")
        return options

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # `--token SECRET submit`: here, the secret is taken for the command.
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            raise argparse.ArgumentError(action, f"no such command (choose from {', '.join(action.choices)})")
        super()._check_value(action, value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a TwofoldError is printed and ends it with exit status 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(words[0] if words else "").parse_args(words)
    try:
        status = options.func(options)
    except TwofoldError as error:
        print(f"twofold-pipelines: error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    raise SystemExit(status)


def _parser(called: str) -> Parser:
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
