"""The command `python -m pipelines` (or `twofold-pipelines`): compile, run, submit, schedule, doctor."""

import importlib
import sys
from collections.abc import Sequence

from twofold.cli.kfp.arguments import Parser
from twofold.core.errors import TwofoldError

# Each command's module, which adds its parser and is imported only when it is the one that is called: `--help` must
# not wait for kfp.
COMMANDS = {
    "compile": ("twofold.kubeflow.definition.compiler", "write the pipeline as a file that Kubeflow takes"),
    "run": ("twofold.kubeflow.local.process_runner", "run the whole pipeline on this machine"),
    "submit": ("twofold.cli.kfp.submit", "start a run on a Kubeflow server"),
    "schedule": ("twofold.cli.kfp.schedule", "recurring runs: apply, list, pause, resume, delete"),
    "doctor": (
        "twofold.kubeflow.preflight.local_checks",
        "check server, cluster, secrets and images before a run costs anything",
    ),
}


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
