"""`twofold run`: runs the steps that have changed by `dvc repro`, and prints a line a step and what came of the run."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.cli.output import Result, add_json
from twofold.core.errors import ArtifactError

if TYPE_CHECKING:
    from twofold.orchestration.run_summary import Files

LOG = Path("reports", "run.log")
_STARTED = re.compile(r"Running stage '(\w+)':")
_SKIPPED = re.compile(r"Stage '(\w+)' (didn't change|is cached)")
_FINISHED = "Updating lock file"
_PROGRESS = re.compile(r"(.+): (\d+) of (\d+) \w+ \(\d+/s\)")
_EPOCH = re.compile(r"(.+) (\d+)/(\d+)")
_WARNING = re.compile(r"\w+: warning: ")


def add(commands: Any, words: Collection[str]) -> None:
    """Add the commands `run` and `summary`."""
    run = commands.add_parser("run", help="run the steps that have changed, and those after them")
    steps: Collection[str] | None = None
    if {"run", "completion"} & {*words}:
        from twofold.orchestration.params_file import STEPS

        steps = STEPS
    run.add_argument("step", nargs="?", choices=steps, metavar="STEP", help="up to this step (register, the last one)")
    run.add_argument("--only", action="store_true", help="only STEP, on what the steps before it have left")
    run.add_argument("--force", action="store_true", help="also what has not changed")
    run.add_argument("--verbose", action="store_true", help="print all that DVC and the steps print")
    run.set_defaults(run=_run)
    summary = commands.add_parser("summary", help="summarize the last run of the pipeline")
    summary.add_argument("--root", type=Path, default=Path(), help="the project's folder (%(default)s)")
    summary.set_defaults(run=lambda options: _summarize(options.root))
    add_json(run, summary)


def _run(options: argparse.Namespace) -> Result | int:
    from twofold.orchestration.params_file import project_root

    root = project_root()
    words = [sys.executable, "-m", "dvc", "repro"]
    words += ["--force"] * options.force + ["--single-item"] * options.only + [options.step] * bool(options.step)
    # The steps' `python` is the one that runs this, also if its environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"}
    if options.verbose:
        os.chdir(root)
        os.execve(sys.executable, words, env)  # noqa: S606
    status = _run_with_lines(words, root, env | {"TWOFOLD_PROGRESS_SECONDS": "1"})
    if status == 0 and options.step in (None, "register"):
        return _summarize(Path(os.path.relpath(root)))
    return status if status >= 0 else 128 - status


def _summarize(root: Path) -> Result:
    from twofold.core.artifacts import read_json
    from twofold.orchestration.run_summary import Files, summarize, summary

    files = Files.of(root)
    text, values = summary(files), {"summary": summarize(files)}
    return Result(text, values | {name: read_json(getattr(files, name)) for name in ("evaluate", "register")})


def _run_with_lines(words: list[str], root: Path, env: dict[str, str]) -> int:
    """Run DVC in a process group of its own, log what it prints, and print a line a step; return its exit status."""
    from twofold.orchestration.run_summary import Files

    (root / LOG).parent.mkdir(exist_ok=True)
    out, null = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(
        words, cwd=root, env=env, process_group=0, stdin=null, stdout=out, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    )  # fmt: skip
    signals = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(each, lambda number, _: os.killpg(process.pid, number)) for each in signals]
    with (root / LOG).open("w", encoding="utf-8") as log, _StepLines(Files.of(root)) as lines:
        for line in process.stdout or ():
            if not lines.read(line.rstrip("\n")):
                log.write(line)
                log.flush()
        status = process.wait()
        lines.end(failed=status != 0)
    for each, handler in zip(signals, handlers, strict=True):
        signal.signal(each, handler)
    return status


class _StepLines:
    """Turns what `dvc repro` prints into a line a step on stderr, with a bar on a terminal for the step that runs."""

    def __init__(self, files: "Files") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.files, self.step, self.label, self.begin = files, "", "", 0.0
        self.output: list[str] = []  # of the step that runs
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True, markup=False)
        columns = (TextColumn("{task.description:<13}"), TimeElapsedColumn(), BarColumn(20))
        label, left = TextColumn("{task.fields[label]}"), TimeRemainingColumn(compact=True)
        off, rate = not self.console.is_terminal, 2
        self.bar = Progress(
            *columns, label, left, console=self.console, transient=True, refresh_per_second=rate, disable=off
        )
        self.task = self.bar.add_task("", total=None, label="", visible=False)

    def __enter__(self) -> "_StepLines":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def read(self, line: str) -> bool:
        """Take the next line; return whether it is progress, which the log does not keep."""
        if found := _PROGRESS.fullmatch(line):
            self._progress(found[1], int(found[2]) / int(found[3]))
            return True
        self.output.append(line)
        if found := _STARTED.fullmatch(line):
            self.end()
            self.step, self.begin, self.output = found[1], time.monotonic(), []
            self.bar.reset(self.task, total=None, completed=0, description=self.step, label="", visible=True)
        elif found := _SKIPPED.match(line):
            self.end()
            self._print(found[1], "unchanged" if found[2].startswith("didn't") else "unchanged, from DVC's run cache")
        elif line.startswith(_FINISHED):
            self.end()
        elif _WARNING.match(line):
            self.console.print(f"{'':<22}{line.partition(': ')[2]}", style="yellow")
        return False

    def end(self, *, failed: bool = False) -> None:
        """Print the line of the step that has ended; if the run has failed, what it has printed first."""
        if failed:
            for line in self.output:
                self.console.print(line)
            self.console.print(f"{self.step or 'dvc'} failed; all that the run has printed: {LOG}", style="red")
        elif self.step:
            elapsed = int(time.monotonic() - self.begin)
            self._print(self.step, self._result(), f"{elapsed // 60}:{elapsed % 60:02}")
        self.step = ""
        self.bar.update(self.task, visible=False)

    def _progress(self, label: str, done: float) -> None:
        if epoch := _EPOCH.fullmatch(label):
            label, done = epoch[1], (int(epoch[2]) - 1 + done) / int(epoch[3])
        if label != self.label:
            self.bar.reset(self.task, label=label, description=self.step, visible=True)
        self.label = label
        self.bar.update(self.task, total=1.0, completed=done)

    def _result(self) -> str:
        from twofold.orchestration.run_summary import step_result

        try:
            return step_result(self.step, self.files)
        except (ArtifactError, AttributeError, KeyError, TypeError):  # a step that a project has added
            return "done"

    def _print(self, step: str, result: str, elapsed: str = "") -> None:
        self.console.print(f"{step:<13} {elapsed:>7} {result}", style="dim" if not elapsed else None)
