"""The command `twofold`: everything that a person does with a project, from its images to a promoted model."""

import argparse
import contextlib
import importlib
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twofold.cli import models, run, serving, status
from twofold.cli.kfp import command as kfp
from twofold.cli.output import Result, add_json, add_params, add_root, in_project, print_result
from twofold.cli.parser import Parser
from twofold.core.errors import exit_with_message
from twofold.core.redaction import redact
from twofold.registry.provenance import engine_commit

# Heavy modules are imported by the command that needs them, so that `twofold --help` does not wait for torch.

TITLE = "twofold: from two folders of images to a reviewed, promoted and regularly\nretrained classifier"
# The commands in groups, each with an example.
GROUPS = {
    "Start": ("init line --source ~/images --positive defective", "audit ~/images", "params set train_head.epochs=30"),
    "Train": ("weights fetch resnet50", "run", "status", "summary --json"),
    "Review": ("open decision", "report --markdown", 'models approve 3 --reason "misses fewer scratches"'),
    "Use": ("predict champion ~/new --csv --to answers.csv", "drift champion ~/new", "export onnx champion dist"),
    "Kubeflow": ("kfp submit --host https://kubeflow.example --wait",),
    "Maintain": ("upgrade", "cache prune --to 2G", "forget 9f86d081884c7d65...", "completion bash >> ~/.bashrc"),
}
DEPRECATED = "twofold-pipelines: deprecated; the same command is now called `twofold kfp`"


@exit_with_message("twofold")
def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error is printed in one line and ends it with exit status 1."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser(words).parse_args(words)
    notes = io.StringIO() if getattr(options, "quiet", False) else sys.stderr
    code = 1
    try:
        with contextlib.redirect_stderr(notes):
            code = result = options.run(options)
    finally:
        if code and isinstance(notes, io.StringIO) and not isinstance(code, Result):
            sys.stderr.write(notes.getvalue())  # what a command has printed before it failed explains why
    if isinstance(result, Result):
        print_result(result, as_json=getattr(options, "json", False))
        code = result.status
    raise SystemExit(code)


def kfp_main(arguments: Sequence[str] | None = None) -> None:
    """Run a command of `twofold kfp`."""
    main(["kfp", *(sys.argv[1:] if arguments is None else arguments)])


def twofold_pipelines() -> None:
    """Run a command of `twofold kfp` by its old name."""
    print(DEPRECATED, file=sys.stderr)
    kfp_main()


def _parser(words: Sequence[str]) -> Parser:
    parser = Parser(prog="twofold")
    text = ""
    if "--version" in words:
        from importlib.metadata import version

        text = f"twofold {version('twofold')} (commit {engine_commit()})"
    parser.add_argument("--version", action="version", version=text, help="print the version and the commit")
    parser.set_defaults(run=lambda options: Result(parser.overview))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_project(commands)
    _add_params(commands.add_parser("params", help="read, check and edit params.yaml"))
    _add_weights(commands.add_parser("weights", help="download and find pretrained weights"))
    _add_cache(commands.add_parser("cache", help="show and prune the cache (TWOFOLD_CACHE)"))

    run.add(commands, words)
    status.add(commands)
    report = commands.add_parser("report", help="print the last run's verdict and metrics for a pull request")
    add_root(report)
    report.add_argument("--markdown", action="store_true", required=True, help="as Markdown, the one format")
    report.set_defaults(run=in_project(_call("twofold.reporting.pull_request", "render", "root")))

    audit = commands.add_parser("audit", help="audit images before a pipeline reads them")
    audit.add_argument("source", metavar="SOURCE", help="a folder, s3://… or dvc+…, as for ingest.source")
    audit.add_argument("--params", type=Path, help="policies and limits (params.yaml of the project, or of a new one)")
    audit.add_argument("--to", type=Path, default=Path("audit"), help="the folder for the pages (%(default)s)")
    audit.set_defaults(run=_call("twofold.cli.audit", "audit", "source", "params", "to"))
    add_json(audit)

    serving.add(commands)
    models.add(commands.add_parser("models", help="review, promote, roll back and verify registered models"))
    called = kfp.COMMANDS if "completion" in words else words
    kfp.add(commands.add_parser("kfp", help="compile, run, submit and schedule the pipeline on Kubeflow"), called)

    forget = commands.add_parser("forget", help="remove an image for good from every artifact that holds it")
    forget.add_argument("sha256", metavar="SHA256", help="of the image file, as in manifest.parquet and the reports")
    add_root(forget)
    forget.set_defaults(run=in_project(_call("twofold.cli.forget", "forget", "sha256", "root")))

    completion = commands.add_parser("completion", help="print a script that completes commands and options")
    completion.add_argument("shell", choices=("bash", "zsh"))
    completion.set_defaults(run=lambda options: _run_completion(parser, options.shell))
    _describe(parser)
    parser.overview = _overview({action.dest: action.help or "" for action in commands._choices_actions})
    return parser


def _describe(parser: argparse.ArgumentParser) -> None:
    """Give each command without a description the sentence of the list of commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action._choices_actions:
                command, sentence = action.choices[each.dest], each.help or ""
                command.description = command.description or f"{sentence[:1].upper()}{sentence[1:]}."
                _describe(command)


def _call(module: str, function: str, *names: str) -> Callable[[argparse.Namespace], Result]:
    """Return a command that imports a function when it is called, and calls it with the options of these names."""

    def run(options: argparse.Namespace) -> Result:
        found = getattr(importlib.import_module(module), function)(*(getattr(options, name) for name in names))
        return found if isinstance(found, Result) else Result(str(found), str(found))

    return run


def _overview(commands: dict[str, str]) -> str:
    lines = [TITLE]
    for title, examples in GROUPS.items():
        lines += ["", f"{title}:"]
        for example in examples:
            name = example.split()[0]
            lines += [f"  {name:<12}{commands[name]}", f"  {'':<12}$ twofold {example}"]
    return "\n".join([*lines, "", "`twofold COMMAND --help` explains a command. All know --quiet. Also: --version."])


def _run_completion(parser: Parser, shell: str) -> Result:
    import shtab

    pending: list[argparse.ArgumentParser] = [parser]
    for each in pending:
        for action in each._actions:
            if isinstance(action, argparse._SubParsersAction):
                pending += action.choices.values()
            elif action.type is Path or action.dest in ("source", "paths"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return Result(shtab.complete(parser, shell))


def _add_project(commands: Any) -> None:
    make = commands.add_parser("init", help="make a project of your own for two folders of images")
    make.add_argument("directory", metavar="DIR", type=Path, help="a folder that does not exist yet, or an empty one")
    make.add_argument("--source", required=True, help="a folder, s3://… or dvc+…, as for ingest.source")
    make.add_argument("--positive", required=True, help="the class that the model is to find")
    make.add_argument(
        "--orientation",
        choices=["free", "mirrored", "fixed"],
        help="free: an image keeps its class when turned by right angles or mirrored; mirrored: when mirrored left to "
        "right; fixed: neither (asked on a terminal, otherwise fixed)",
    )
    make.add_argument("--dry-run", action="store_true", help="print the choices and write nothing")
    make.add_argument("--yes", action="store_true", help="ask nothing")
    make.set_defaults(run=_run_init)
    update = commands.add_parser("upgrade", help="bring this project's files to the installed version")
    add_root(update)
    update.set_defaults(run=in_project(_call("twofold.cli.project.upgrade", "upgrade", "root", "wheel")))
    for each in (make, update):
        each.add_argument("--wheel", type=Path, help="twofold's wheel (the one that pip has installed)")


def _add_params(parser: Parser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    set_ = commands.add_parser("set", help="set values, all or none, and print the difference")
    get = commands.add_parser("get", help="print one value")
    check = commands.add_parser("check", help="check every section, and warn of gates that no model can pass")
    for command, function in ((set_, _run_set), (get, _run_get), (check, _run_check)):
        add_params(command, "the file")
        command.set_defaults(run=in_project(function))
    set_.add_argument("assignments", nargs="+", metavar="SECTION.KEY=VALUE")
    get.add_argument("address", metavar="SECTION.KEY")
    add_json(get)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    fetch = commands.add_parser("fetch", help="download weights, verify them, and store them where training looks")
    fetch.add_argument("backbone", help="resnet50, efficientnet_lite0 or timm/NAME")
    fetch.add_argument("--weights", help="the name of the weights (the first ones of that backbone)")
    fetch.set_defaults(run=_call("twofold.training.pretrained_weights", "fetch_weights", "backbone", "weights"))
    add_json(fetch)
    pin = commands.add_parser(
        "pin", help="find the weights of a model of timm, and set train_head to it and their SHA-256"
    )
    pin.add_argument("backbone", metavar="timm/NAME", help="a model of timm, such as timm/resnet18")
    add_params(pin, "the file")
    pin.set_defaults(run=in_project(_run_pin))


def _add_cache(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = commands.add_parser("show", help="show the cache's address, limit and contents")
    show.add_argument("--verify", action="store_true", help="read every value, and count the damaged ones")
    show.set_defaults(run=_run_cache)
    prune = commands.add_parser("prune", help="remove entries, and return their space to the disk")
    selection = prune.add_mutually_exclusive_group(required=True)
    selection.add_argument(
        "--to", metavar="SIZE", help="remove the least recently used ones down to this size (500M, 2G)"
    )
    selection.add_argument("--damaged", action="store_true", help="remove the values that do not match their hash")
    selection.add_argument("--all", action="store_true", help="remove every entry")
    prune.set_defaults(run=_run_cache)
    add_json(show, prune)


def _run_init(options: argparse.Namespace) -> Result:
    from twofold.cli.project.init import init

    ask = sys.stdin.isatty() and not options.yes
    given = (options.directory, options.source, options.positive, options.orientation, options.wheel)
    return Result(init(*given, dry_run=options.dry_run, ask=ask))


def _run_set(options: argparse.Namespace) -> Result:
    from twofold.core.progress import say
    from twofold.orchestration.params_file import get_value, set_values
    from twofold.sources.factory import address_kind

    difference = set_values(options.params, options.assignments)
    source = str(get_value(options.params, "ingest.source"))
    missing = not address_kind(source) and not (options.params.parent / source).is_dir()
    if missing and any(each.startswith("ingest.source=") for each in options.assignments):
        say(f"twofold: warning: ingest.source: there is no folder {source}, so ingest will fail")
    return Result(difference.rstrip("\n") or f"{options.params}: nothing to change")


def _run_pin(options: argparse.Namespace) -> Result:
    from twofold.orchestration.params_file import get_value
    from twofold.training.pretrained_weights import pin_weights

    weights = pin_weights(options.backbone, int(get_value(options.params, "preprocess.image_size")))
    options.assignments = [f"train_head.backbone={options.backbone}", f"train_head.weights={weights}"]
    return _run_set(options)


def _run_get(options: argparse.Namespace) -> Result:
    from twofold.orchestration.params_file import get_value

    value = get_value(options.params, options.address)
    return Result(redact(str(value)), redact(value) if isinstance(value, str) else value)


def _run_check(options: argparse.Namespace) -> int:
    from twofold.core.progress import say
    from twofold.orchestration.params_file import read
    from twofold.promotion.attainable_gates import find_in_prepared

    sections = read(options.params)
    for found in find_in_prepared(options.params.parent / "data" / "prepared", sections):
        say(f"twofold: warning: {found}")
    return 0


def _run_cache(options: argparse.Namespace) -> Result:
    from twofold.cli.cache import prune, show
    from twofold.storage.cache import parse_size

    if "verify" in options:
        return show(options.verify)
    size = "0" if options.all else options.to
    return prune(None if size is None else parse_size(size, "--to"), damaged=options.damaged)
