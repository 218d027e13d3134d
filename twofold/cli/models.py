"""`twofold models`: inspect the versions of the registered model, decide on them, verify them, make them again.

Exit status: 0 for success, or everything as recorded; 1 for an error, gates that are not passed, or a difference; 2 for
wrong usage.
"""

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from twofold.cli.output import Result, add_json, add_params, in_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from twofold.registry.ledger import Entry
    from twofold.registry.version_catalog import Catalog
    from twofold.tracking.store import MlflowStore

WITHOUT_MLFLOW = ("list", "show", "compare", "history")  # on a local registry
STATUS = "Exit status: 0; 1 for an error, gates that are not passed or a difference; 2 for wrong usage."
VERSION = "the version's number, champion or challenger"
ACTOR = "the person who decides (git's user.name, otherwise $USER)"
RAW = "data/raw, which holds the golden samples if only their SHA-256 are sealed"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser.epilog = STATUS
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: "Callable[..., Any]", help_: str, *, has_json: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help_, description=help_, epilog=STATUS)
        add_params(added, "names the model")
        added.add_argument("--name", help="the registered model (register.model_name)")
        if has_json:
            add_json(added)
        added.set_defaults(run=run if name in WITHOUT_MLFLOW else partial(_run, run))
        return added

    command("list", _list, "list every version with its status, main metrics and origin")
    show = command("show", _show, "show one version: gates, metrics, decisions, lineage and links")
    show.add_argument("version", metavar="VERSION", help=VERSION)
    compare = command("compare", _compare, "compare two versions on the test images that both have answered")
    compare.add_argument("versions", nargs=2, metavar="VERSION", help=VERSION)
    approve = command("approve", _approve, "promote a version if it passes its gates against the current champion")
    reject = command("reject", _reject, "decide that a version is not promoted")
    for decision in (approve, reject):
        text = f"{VERSION} (%(default)s)"
        decision.add_argument("version", nargs="?", default="challenger", metavar="VERSION", help=text)
    rollback = command("rollback", _rollback, "promote a former champion again, after checking its golden samples")
    text = "the version's number, or none for no model (the champion before)"
    rollback.add_argument("version", nargs="?", metavar="VERSION", help=text)
    rollback.add_argument("--data", type=Path, metavar="RAW", help=RAW)
    rollback.add_argument("--unasked", action="store_true", help="go on if there is no golden sample to check")
    for decision in (approve, reject, rollback):
        decision.add_argument("--reason", required=True, help="the reason, which the ledger records")
        decision.add_argument("--actor", help=ACTOR)
    history = command("history", _history, "show the ledger: every decision in order, with its chain verified")
    history.add_argument("--repair", action="store_true", help="set the aliases as the ledger says")
    history.add_argument("--reason", default="", help="with --repair: why to go on with a damaged ledger")
    history.add_argument("--actor", help=f"with --reason: {ACTOR}")
    verify = command("verify", _verify, "recompute what was recorded of a version, and name the differences")
    verify.add_argument("version", metavar="VERSION", help=VERSION)
    verify.add_argument("--data", type=Path, metavar="RAW", help=RAW)
    reproduce = command("reproduce", _reproduce, "print a shell script that makes a version again", has_json=False)
    reproduce.add_argument("version", metavar="VERSION", help=VERSION)
    reproduce.add_argument("--run", dest="execute", action="store_true", help="run it, and name the differences")
    reproduce.add_argument("--to", type=Path, metavar="FOLDER", help="the new checkout (reproduced/<name>-<version>)")
    reproduce.add_argument("--source", help="the images, as for ingest.source (the recorded source)")


def _run(command: "Callable[..., Any]", options: argparse.Namespace) -> "Any":
    """Run a command with the store and the registered model's name."""
    return _with_mlflow(lambda store: command(options, store, _name(options)))


def _with_mlflow(read: "Callable[[MlflowStore], Any]") -> "Any":
    """Return what a function makes of the store; MLflow's errors become readable."""
    from twofold.tracking import store as tracking
    from twofold.tracking.urls import require_server

    tracking.silence_mlflow()  # before MLflow is imported
    require_server(tracking.address())
    store = tracking.connect()
    with tracking.readable_errors(store.uri):
        return read(store)


def read(name: str, function: "Callable[[Catalog], Any]") -> "Any":
    """Return what a function reads of a registered model, if possible without MLflow, which takes seconds to import."""
    from twofold.registry.version_catalog import open_catalog
    from twofold.tracking.registry_reader import NeedsMlflowError

    try:
        return function(open_catalog(name))
    except NeedsMlflowError:
        return _with_mlflow(lambda store: function(open_catalog(name, store)))


def _name(options: argparse.Namespace) -> str:
    from twofold.orchestration.params_file import model_name

    return str(options.name or in_project(lambda found: model_name(found.params))(options))


def _list(options: argparse.Namespace) -> Result:
    from twofold.registry import version_catalog, version_text

    name = _name(options)
    versions = read(name, version_catalog.list_versions)
    return Result(version_text.list_rows(versions) if versions else f"'{name}' has no version yet", versions)


def _show(options: argparse.Namespace) -> Result:
    from twofold.registry import version_catalog, version_text

    version = read(_name(options), lambda catalog: version_catalog.describe(catalog, options.version))
    return Result(version_text.format_version(version), version)


def _compare(options: argparse.Namespace) -> Result:
    from twofold.registry import version_catalog, version_text

    comparison = read(_name(options), lambda catalog: version_catalog.compare(catalog, *options.versions))
    return Result(version_text.format_comparison(comparison), comparison)


def _approve(options: argparse.Namespace, store: "MlflowStore", name: str) -> Result:
    from twofold.registry import approval, transitions, version_text

    actor = transitions.actor(options.actor)
    entry, evaluated = approval.approve(store, name, options.version, actor=actor, reason=options.reason)
    gates, champion = evaluated.verdict.as_json(), evaluated.champion
    values = {
        "promoted": entry is not None,
        "version": None if entry is None else entry.version,
        "gates": gates,
        "reasons": list(evaluated.verdict.reasons),
        "comparison": None if champion is None else champion.as_json(),
    }
    lines = [version_text.format_gates(gates)]
    if champion is not None:
        version, other = f"version {evaluated.version}", f"version {champion.version}"
        images = f"the test images of {version} that neither it nor {other}, the champion, learned from"
        lines.append(version_text.format_paired(champion.as_json(), images, version, other))
    if entry is None:
        lines += ["not promoted:", *(f"  {reason}" for reason in evaluated.verdict.reasons)]
    else:
        lines.append(f"version {entry.version} of '{name}' is now champion (entry {entry.number} of the ledger)")
    return Result("\n".join(lines), values, int(entry is None))


def _reject(options: argparse.Namespace, store: "MlflowStore", name: str) -> Result:
    from twofold.registry import approval, transitions

    actor = transitions.actor(options.actor)
    entry = approval.reject(store, name, options.version, actor=actor, reason=options.reason)
    return _decision(entry, f"version {entry.version} of '{name}' is rejected")


def _rollback(options: argparse.Namespace, store: "MlflowStore", name: str) -> Result:
    from twofold.registry import approval, transitions

    actor = transitions.actor(options.actor)
    checks = {"raw": options.data, "allow_unchecked": options.unasked}
    entry = approval.rollback(store, name, options.version, actor=actor, reason=options.reason, **checks)
    version = "no version" if entry.version is None else f"version {entry.version}"
    text = f"{version} of '{name}' is champion now, in place of {entry.champion or 'none'}"
    return _decision(entry, text)


def _history(options: argparse.Namespace) -> Result:
    from twofold.core.errors import ParameterError
    from twofold.registry import version_catalog, version_text

    if options.reason and not options.repair:
        raise ParameterError("--reason: only together with --repair")
    done = _run(_repair, options) if options.repair else []
    history = read(_name(options), version_catalog.history)
    lines = [version_text.format_history(history)]
    if options.repair:
        history |= {"repaired": done}
        lines += [f"repaired: {line}" for line in done] or ["nothing to repair"]
    return Result("\n".join(lines), history, int(bool(history["problems"])))


def _repair(options: argparse.Namespace, store: "MlflowStore", name: str) -> list[str]:
    from twofold.registry import transitions

    return transitions.repair(store, name, actor=transitions.actor(options.actor), reason=options.reason)


def _verify(options: argparse.Namespace, store: "MlflowStore", name: str) -> Result:
    from twofold.registry import verification, version_text

    number, checks = verification.verify(store, name, options.version, options.data)
    differs = any(check["verdict"] == verification.DIFFERS for check in checks)
    values = {"name": name, "version": number, "as_recorded": not differs, "checks": checks}
    return Result(version_text.format_checks(checks), values, int(differs))


def _reproduce(options: argparse.Namespace, store: "MlflowStore", name: str) -> Result:
    from twofold.registry import reproduction

    recipe = reproduction.make_recipe(store, name, options.version, options.source)
    folder = options.to or Path("reproduced") / f"{name}-{recipe.version}"
    if not options.execute:
        return Result(reproduction.write_script(recipe, folder).rstrip("\n"))
    differences = reproduction.run_recipe(recipe, folder.resolve())
    text = "\n".join(differences) or f"version {recipe.version} of '{name}' again, byte for byte, in {folder}"
    return Result(text, status=int(bool(differences)))


def _decision(entry: "Entry", text: str) -> Result:
    note = f"; {entry.note}" if entry.note else ""
    return Result(f"{text} (entry {entry.number} of the ledger){note}", asdict(entry))
