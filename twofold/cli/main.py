"""The `twofold` command: parameters, weights, the cache, audits, the summary of a run, models and their use,
forgetting an image.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from twofold.cli import models, serving
from twofold.core.errors import TwofoldError

# Everything heavy is imported by the command that needs it: `twofold --help` must not wait for torch.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a TwofoldError is printed and ends it with exit status 1."""
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options)
    except TwofoldError as error:
        print(f"twofold: error: {error}", file=sys.stderr)
        status = 1
    raise SystemExit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="twofold",
        description="From two folders of images to a reviewed, promoted and regularly retrained classifier.",
        epilog="The six steps run with `dvc repro`, or one by one: python -m twofold.steps.<step> --help",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _params(commands.add_parser("params", help="read, check and edit params.yaml"))
    _weights(commands.add_parser("weights", help="fetch and find pretrained weights"))
    _cache(commands.add_parser("cache", help="see and prune what is kept in TWOFOLD_CACHE"))

    summary = commands.add_parser("summary", help="what the last run of the pipeline came to")
    summary.add_argument("--root", type=Path, default=Path(), help="the project's folder (%(default)s)")
    summary.set_defaults(run=_run_summary)

    audit = commands.add_parser("audit", help="look through images before a pipeline takes them")
    audit.add_argument("source", metavar="SOURCE", help="as ingest.source: a folder, s3://… or dvc+…")
    audit.add_argument("--params", type=Path, default=Path("params.yaml"), help="policies and limits (%(default)s)")
    audit.add_argument("--to", type=Path, default=Path("audit"), help="where the pages go (%(default)s)")
    audit.set_defaults(run=_run_audit)

    serving.add(commands)
    models.add(commands.add_parser("models", help="review, promote, roll back and check registered models"))

    forget = commands.add_parser("forget", help="remove an image for good, from every artifact that holds it")
    forget.add_argument("sha256", metavar="SHA256", help="of the image file, as in manifest.parquet and the reports")
    forget.add_argument("--root", type=Path, default=Path(), help="the project's folder (%(default)s)")
    forget.set_defaults(run=_run_forget)
    return parser


def _params(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, help_: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_)
        command.add_argument("--params", type=Path, default=Path("params.yaml"), help="the file (%(default)s)")
        return command

    set_ = add("set", "set values, all or none; print the difference")
    set_.add_argument("assignments", nargs="+", metavar="SECTION.KEY=VALUE")
    set_.set_defaults(run=_run_set)
    get = add("get", "print one value")
    get.add_argument("address", metavar="SECTION.KEY")
    get.set_defaults(run=_run_get)
    add("check", "check every section; silent when all is well").set_defaults(run=_run_check)


def _weights(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    fetch = commands.add_parser("fetch", help="download weights, verify them, and keep them where training looks")
    fetch.add_argument("backbone", help="resnet50 or efficientnet_lite0")
    fetch.add_argument("--weights", help="which weights of that backbone (its first ones)")
    fetch.set_defaults(run=_run_fetch)


def _cache(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = commands.add_parser("show", help="where it lies, its limit, and what it holds")
    show.add_argument("--verify", action="store_true", help="read every value too, and count those that are damaged")
    show.set_defaults(run=_run_cache_show)
    prune = commands.add_parser("prune", help="remove entries and give their room back to the disk")
    which = prune.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--to", metavar="SIZE", help="leave no more than this (500M, 2G); those used longest ago go first"
    )
    which.add_argument("--damaged", action="store_true", help="those that fail their hash")
    which.add_argument("--all", action="store_true", help="every entry")
    prune.set_defaults(run=_run_cache_prune)


def _run_set(options: argparse.Namespace) -> int:
    from twofold.orchestration.params_file import set_values

    difference = set_values(options.params, options.assignments)
    print(difference or f"{options.params}: nothing to change\n", end="")
    return 0


def _run_get(options: argparse.Namespace) -> int:
    from twofold.orchestration.params_file import get_value

    print(get_value(options.params, options.address))
    return 0


def _run_check(options: argparse.Namespace) -> int:
    from twofold.orchestration.params_file import read

    read(options.params)
    return 0


def _run_fetch(options: argparse.Namespace) -> int:
    from twofold.training.pretrained_weights import fetch_weights

    print(fetch_weights(options.backbone, options.weights))
    return 0


def _run_cache_show(options: argparse.Namespace) -> int:
    from twofold.cli.cache import show

    print(show(options.verify))
    return 0


def _run_cache_prune(options: argparse.Namespace) -> int:
    from twofold.cli.cache import prune
    from twofold.storage.cache import parse_size

    if options.damaged:
        print(prune(damaged=True))
    else:
        print(prune(to=0 if options.all else parse_size(options.to, "--to")))
    return 0


def _run_summary(options: argparse.Namespace) -> int:
    from twofold.orchestration.run_summary import Files, summary

    print(summary(Files.of(options.root)))
    return 0


def _run_audit(options: argparse.Namespace) -> int:
    from twofold.cli.audit import audit

    verdict = audit(options.source, options.params, options.to)
    print(verdict.text)
    return int(verdict.fails)


def _run_forget(options: argparse.Namespace) -> int:
    from twofold.cli.forget import forget

    print(forget(options.sha256, options.root))
    return 0


if __name__ == "__main__":
    main()
