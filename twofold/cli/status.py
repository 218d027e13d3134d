"""`twofold status` and `twofold open`: what is stale, who is champion, what waits for review, and the pages on it."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twofold.cli.models import read
from twofold.cli.output import Result, add_json
from twofold.cli.run import running_process
from twofold.core.errors import ArtifactError, RegistryError, first_line, shortened


def add(commands: Any) -> None:
    """Add the commands."""
    status = commands.add_parser("status", help="show what is stale, who is champion and what waits for review")
    status.set_defaults(run=_status)
    show = commands.add_parser("open", help="open a page of the last run, or the MLflow UI")
    pages = ("decision", "evaluation", "audit", "mlflow")
    show.add_argument("page", nargs="?", choices=pages, default="decision", help="(%(default)s)")
    show.add_argument("--print", action="store_true", dest="only_print", help="print its address and start nothing")
    show.set_defaults(run=_open)
    add_json(status, show)


def _status(options: argparse.Namespace) -> Result:
    from twofold.orchestration.params_file import PARAMS, model_name, project_root
    from twofold.orchestration.run_summary import approval_command
    from twofold.registry.version_catalog import list_versions
    from twofold.tracking.store import impatient

    os.chdir(project_root())
    words, pipe = [sys.executable, "-m", "dvc", "status", "--json"], subprocess.PIPE
    process, ran = running_process(), Path("dvc.lock").exists()
    dvc = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) if ran and not process else None
    rows: list[dict[str, Any]] = []
    try:
        with impatient():
            rows, problems = read(model_name(Path(PARAMS)), lambda each: (list_versions(each), each.ledger.problems))
        trouble = f"WRONG: {problems[0]}; see twofold models history" if problems else ""
    except RegistryError as error:
        trouble = first_line(error)
    champion, review = ({row["standing"]: row for row in rows}.get(each) for each in ("champion", "challenger"))
    stale, steps = {}, "nothing has run yet"
    if dvc:
        out, err = dvc.communicate()
        stale, steps = ({}, f"unknown: {' '.join(err.split())}") if dvc.returncode else (json.loads(out), "up to date")
    if stale:
        steps = "stale: " + shortened([f"{step} ({_changed(changes)})" for step, changes in stale.items()], 2)
        steps += "; a run judges again and trains nothing" if [*stale] == ["register"] else ""
    metrics = ", ".join(f"{key} {value:.3f}" for key, value in champion["figures"].items()) if champion else ""
    known = f"version {champion['version']}: {metrics} on {champion['n']} test images" if champion else "none yet"
    number, then = review["version"] if review else None, "twofold predict champion IMAGES"
    then = "twofold run" if steps != "up to date" else "twofold open decision" if review or not champion else then
    if process:
        steps, then = f"a run is in progress (process {process})", ""
    lines = {
        "steps": steps,
        "champion": trouble or known,
        "review": f"version {number} waits: {approval_command(number)}" if number else "nothing waits",
        "next": then,
    }
    values = {"steps": steps, "stale": stale, "champion": champion, "review": review, "problem": trouble, "next": then}
    return Result("\n".join(f"{title:<10}{line}" for title, line in lines.items() if line), values)


def _changed(changes: list[Any]) -> str:
    """Name what DVC calls changed: "params.yaml, data/raw"."""
    named = [[each] if isinstance(each, str) else next(iter(each.values())) for each in changes]
    return shortened([name for names in named for name in names])


def _open(options: argparse.Namespace) -> Result:
    from twofold.orchestration.params_file import project_root
    from twofold.orchestration.run_summary import Files
    from twofold.tracking.store import address
    from twofold.tracking.urls import ui_page

    os.chdir(project_root())
    files, show = Files.of(Path.cwd()), sys.stdout.isatty() and not options.only_print
    pages = {"decision": (files.decision,), "evaluation": (files.report,), "audit": files.audits, "mlflow": ()}
    found = [page.as_uri() if show else str(page) for page in pages[options.page] if page.exists()]
    if options.page == "mlflow":
        uri, port = address(), os.environ.get("PORT", "5000")
        local = not uri.startswith("http")
        found = [f"{f'http://127.0.0.1:{port}' if local else uri.rstrip('/')}/{ui_page('experiments')}"]
        if local and not options.only_print:
            print(f"{found[0]} (stop with Ctrl-C)", flush=True)
            words = ["mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", port]
            os.execv(sys.executable, [sys.executable, "-m", *words])  # noqa: S606
    if not found:
        raise ArtifactError(f"{pages[options.page][0]}: no such page; `twofold run` makes it")
    if show:
        import webbrowser

        for page in found:
            webbrowser.open(page)
    return Result("\n".join(found), found)
