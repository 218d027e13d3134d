"""`twofold models`: look at the versions of the registered model, decide on them, check them, make them again.

Exit status: 0 done, or as recorded; 1 an error, gates that are not passed, or something that differs; 2 wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twofold.registry.ledger import Entry
    from twofold.tracking.store import MlflowStore

STATUS = "exit status: 0 done, or as recorded; 1 an error, gates that are not passed, or something differs; 2 usage"
WHICH = "its number, champion or challenger"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the commands."""
    parser.epilog = STATUS
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, help_: str, *, text: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_, description=help_, epilog=STATUS)
        made.add_argument("--params", type=Path, default=Path("params.yaml"), help="that names the model (%(default)s)")
        made.add_argument("--name", help="of the registered model (register.model_name)")
        if text:
            made.add_argument("--json", action="store_true", help="JSON instead of text")
        return made

    def deciding(name: str, help_: str) -> argparse.ArgumentParser:
        made = command(name, help_)
        made.add_argument("--reason", required=True, help="why, for the ledger")
        made.add_argument("--actor", help="who decides (git's user.name, else $USER)")
        return made

    command("list", "every version: what it is, how good, where from").set_defaults(run=_run_list)
    show = command("show", "one version: gates, figures, decisions, lineage, links")
    show.add_argument("version", metavar="VERSION", help=WHICH)
    show.set_defaults(run=_run_show)
    compare = command("compare", "two versions side by side, on the images that both were tested on")
    compare.add_argument("versions", nargs=2, metavar="VERSION", help=WHICH)
    compare.set_defaults(run=_run_compare)
    approve = deciding("approve", "make a version champion, if it passes its gates against the champion of this moment")
    approve.add_argument("version", nargs="?", default="challenger", metavar="VERSION", help=f"{WHICH} (%(default)s)")
    approve.set_defaults(run=_run_approve)
    reject = deciding("reject", "decide that a version is not to be promoted")
    reject.add_argument("version", nargs="?", default="challenger", metavar="VERSION", help=f"{WHICH} (%(default)s)")
    reject.set_defaults(run=_run_reject)
    rollback = deciding("rollback", "make a version champion again that was champion before, after trying it")
    rollback.add_argument(
        "version", nargs="?", metavar="VERSION", help="its number (the champion before this one), or none: no model"
    )
    rollback.add_argument(
        "--data", type=Path, metavar="RAW", help="data/raw with the images to ask it about, if need be"
    )
    rollback.add_argument("--unasked", action="store_true", help="even if there is no image to ask it about")
    rollback.set_defaults(run=_run_rollback)
    history = command("history", "the ledger: every decision in order, its chain checked")
    history.add_argument("--repair", action="store_true", help="set the aliases as the ledger says")
    history.add_argument("--reason", default="", help="with --repair: go on with a damaged ledger, and why")
    history.add_argument("--actor", help="with --reason: who says so (git's user.name, else $USER)")
    history.set_defaults(run=_run_history)
    verify = command("verify", "recompute what was recorded of a version, and name what differs")
    verify.add_argument("version", metavar="VERSION", help=WHICH)
    verify.add_argument("--data", type=Path, metavar="RAW", help="data/raw with the images to ask it about, if need be")
    verify.set_defaults(run=_run_verify)
    reproduce = command("reproduce", "the commands that make a version again, as a shell script", text=False)
    reproduce.add_argument("version", metavar="VERSION", help=WHICH)
    reproduce.add_argument("--run", dest="execute", action="store_true", help="run them, and say what differs")
    reproduce.add_argument("--to", type=Path, metavar="FOLDER", help="to check out into (reproduced/<name>-<version>)")
    reproduce.add_argument("--source", help="where its images are now, as ingest.source (where they were)")
    reproduce.set_defaults(run=_run_reproduce)


def _run_list(options: argparse.Namespace) -> int:
    with _opened(options) as (store, name):
        from twofold.registry import version_catalog, version_text

        found = version_catalog.list_versions(store, name)
        return _shown(options, found, version_text.listing(found, name))


def _run_show(options: argparse.Namespace) -> int:
    with _opened(options) as (store, name):
        from twofold.registry import version_catalog, version_text

        found = version_catalog.describe(store, name, options.version)
        return _shown(options, found, version_text.about(found))


def _run_compare(options: argparse.Namespace) -> int:
    with _opened(options) as (store, name):
        from twofold.registry import version_catalog, version_text

        found = version_catalog.compare(store, name, *options.versions)
        return _shown(options, found, version_text.beside(found))


def _run_approve(options: argparse.Namespace) -> int:
    with _opened(options) as (store, name):
        from twofold.registry import approval, transitions, version_text

        actor = transitions.actor(options.actor)
        entry, judged = approval.approve(store, name, options.version, actor=actor, reason=options.reason)
        verdict, champion = judged.verdict, judged.champion
        found = {
            "promoted": entry is not None,
            "version": None if entry is None else entry.version,
            "gates": verdict.as_json(),
            "reasons": list(verdict.reasons),
            "comparison": None if champion is None else champion.as_json(),
        }
        lines = [version_text.gates(verdict.as_json())]
        if champion is not None:
            names = (f"version {judged.version}", f"version {champion.version} (champion)")
            whose = f"the test images of version {judged.version} that neither learned from"
            lines.append(version_text.same(champion.as_json(), whose, *names))
        if entry is None:
            lines += ["not promoted:", *(f"  {reason}" for reason in verdict.reasons)]
        else:
            lines.append(f"version {entry.version} of '{name}' is now champion (entry {entry.number} of the ledger)")
        return _shown(options, found, "\n".join(lines), status=int(entry is None))


def _run_reject(options: argparse.Namespace) -> int:
    with _opened(options) as (store, name):
        from twofold.registry import approval, transitions

        actor = transitions.actor(options.actor)
        entry = approval.reject(store, name, options.version, actor=actor, reason=options.reason)
        return _decided(options, entry, f"version {entry.version} of '{name}' is rejected")


def _run_rollback(options: argparse.Namespace) -> int:
    with _opened(options) as (store, name):
        from twofold.registry import approval, transitions

        entry = approval.rollback(
            store,
            name,
            options.version,
            actor=transitions.actor(options.actor),
            reason=options.reason,
            raw=options.data,
            unasked=options.unasked,
        )
        now = "no version" if entry.version is None else f"version {entry.version}"
        return _decided(
            options, entry, f"{now} of '{name}' is champion now, in the place of {entry.champion or 'none'}"
        )


def _run_history(options: argparse.Namespace) -> int:
    with _opened(options) as (store, name):
        from twofold.core.errors import ParameterError
        from twofold.registry import transitions, version_catalog, version_text

        if options.reason and not options.repair:
            raise ParameterError("--reason: only together with --repair")
        done = []
        if options.repair:
            actor = transitions.actor(options.actor)
            done = transitions.repair(store, name, actor=actor, reason=options.reason)
        found = version_catalog.history(store, name) | ({"repaired": done} if options.repair else {})
        words = [f"repaired: {line}" for line in done] or (["nothing to repair"] if options.repair else [])
        text = "\n".join([version_text.history(found), *words])
        return _shown(options, found, text, status=int(bool(found["problems"])))


def _run_verify(options: argparse.Namespace) -> int:
    with _opened(options) as (store, name):
        from twofold.registry import verification, version_text

        number, checks = verification.verify(store, name, options.version, options.data)
        differs = any(check["verdict"] == verification.DIFFERS for check in checks)
        found = {"name": name, "version": number, "as_recorded": not differs, "checks": checks}
        return _shown(options, found, version_text.verification(checks), status=int(differs))


def _run_reproduce(options: argparse.Namespace) -> int:
    with _opened(options) as (store, name):
        from twofold.registry import reproduction

        found = reproduction.recipe(store, name, options.version, options.source)
    folder = options.to or Path("reproduced") / f"{name}-{found.version}"
    if not options.execute:
        print(reproduction.script(found, folder), end="")
        return 0
    differences = reproduction.run(found, folder.resolve())
    for line in differences:
        print(line)
    if not differences:
        print(f"version {found.version} of '{name}' again, byte for byte, in {folder}")
    return int(bool(differences))


@contextmanager
def _opened(options: argparse.Namespace) -> "Iterator[tuple[MlflowStore, str]]":
    """The store and the registered model's name; MLflow's errors are told as ours."""
    from twofold.tracking import store as tracking

    tracking.silence_mlflow()  # before MLflow is imported
    name = options.name
    if name is None:
        from twofold.orchestration.params_file import get_value

        name = get_value(options.params, "register.model_name")
    store = tracking.connect()
    with tracking.readable_errors(store.uri):
        yield store, str(name)


def _decided(options: argparse.Namespace, entry: "Entry", words: str) -> int:
    from dataclasses import asdict

    note = f"; {entry.note}" if entry.note else ""
    return _shown(options, asdict(entry), f"{words} (entry {entry.number} of the ledger){note}")


def _shown(options: argparse.Namespace, values: Any, text: str, status: int = 0) -> int:
    if options.json:
        json.dump(values, sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        print(text)
    return status
