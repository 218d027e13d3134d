"""`twofold run`: runs the steps that have changed by `dvc repro`, and prints a line a step and what came of the run."""

import argparse
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from twofold.cli.output import Result, add_json, add_root, in_project
from twofold.core.errors import ArtifactError, TwofoldError

if TYPE_CHECKING:
    from twofold.orchestration.run_summary import Files

LOG = Path("reports", "run.log")
STEP_HELP = "up to this step: ingest, preprocess, train_head, finetune_all, evaluate or register (the last one)"
# Each is a line of DVC's or one of kfp's local runner, without the colours.
_STARTED = re.compile(r"Running stage '(\w+)':|.* - Executing task '([\w-]+)'")
_FINISHED = re.compile(r"Updating lock file|.* - Task '[\w-]+' finished with status (\w+)")
_INPUT = re.compile(r".*Got executor_input:\n( +)\{.*?\n\1\}\n", re.DOTALL)  # what kfp's executor prints first
_COLOUR = re.compile(r"\x1b\[\d+m")
_SKIPPED = re.compile(r"Stage '(\w+)' (didn't change|is cached)")
_PROGRESS = re.compile(r"(.+?)(?: (\d+)/(\d+))?: (\d+) of (\d+) \w+ \(\d+/s\)")  # the fraction is that of the epochs
_WARNING = re.compile(r"\w+: (warning: .*)")


def add(commands: Any, words: Collection[str]) -> None:
    """Add the commands `run` and `summary`."""
    run = commands.add_parser("run", help="run the steps that have changed, and those after them")
    steps: Collection[str] | None = None
    if {"run", "completion"} & {*words}:
        from twofold.orchestration.params_file import STEPS

        steps = STEPS
    run.add_argument("step", nargs="?", choices=steps, metavar="STEP", help=STEP_HELP)
    run.add_argument("--only", action="store_true", help="only STEP, on what the steps before it have left")
    run.add_argument("--force", action="store_true", help="also what has not changed")
    run.add_argument("--verbose", action="store_true", help="print all that DVC and the steps print")
    run.set_defaults(run=_run)
    summary = commands.add_parser("summary", help="summarize the last run of the pipeline")
    add_root(summary)
    summary.set_defaults(run=in_project(lambda options: _summarize(options.root)))
    add_json(run, summary)


def _summarize(root: Path) -> Result:
    from twofold.core.artifacts import read_json
    from twofold.orchestration.run_summary import Files, summary

    files = Files.of(root)
    text = summary(files)
    values = {name: read_json(getattr(files, name)) for name in ("evaluate", "register")}
    return Result(text, {"summary": text.splitlines()} | values)


def _run(options: argparse.Namespace) -> Result | int:
    from twofold.orchestration.params_file import project_root

    os.chdir(project_root())
    if process := running_process():
        raise TwofoldError(f"a run is in progress here (process {process}); wait for it, or stop it there with Ctrl-C")
    words = [sys.executable, "-m", "dvc", "repro"]
    words += ["--force"] * options.force + ["--single-item"] * options.only + [options.step] * bool(options.step)
    # The steps' `python` is the one that runs this, also if its environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"}
    if options.verbose:
        os.execve(sys.executable, words, env)  # noqa: S606
    status = _print_steps(words, env | {"TWOFOLD_PROGRESS_SECONDS": "1"})
    if status == 0 and options.step in (None, "register"):
        print(file=sys.stderr)  # between the steps and the summary
        return _summarize(Path())
    return status if status >= 0 else 128 - status


def running_process() -> int | None:
    """Return the process that runs steps of this project, or holds DVC's lock for seconds; None if there is none."""
    from psutil import pid_exists

    here = Path.cwd()
    folder = next((each / ".dvc" / "tmp" for each in (here, *here.parents) if (each / ".dvc").is_dir()), here)
    table = folder / "rwlock"
    for _ in range(16):  # DVC gives up after three seconds
        try:
            # Of each path that a step writes, the process; those that were killed have left theirs.
            locks = json.loads(table.read_text()).get("write", {}) if table.exists() else {}
            if found := [int(each["pid"]) for each in locks.values() if pid_exists(each["pid"])]:
                return found[0]
            with (folder / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except FileNotFoundError:
            return None
        except (BlockingIOError, ValueError):  # held between two steps or by a shorter command; being written
            time.sleep(0.2)
    return int((folder / "lock").read_text())


def _print_steps(words: list[str], env: dict[str, str]) -> int:
    """Run DVC in a process group of its own, log what it prints, and print a line a step; return its exit status."""
    from twofold.orchestration.run_summary import Files

    LOG.parent.mkdir(exist_ok=True)
    received: list[int] = []
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    with LOG.open("w", encoding="utf-8") as log, (steps := StepLines(log, lambda: Files.of(Path()))).bar:
        process = subprocess.Popen(words, env=env, process_group=0, text=True, errors="replace", **pipes)
        signals = (signal.SIGINT, signal.SIGTERM)

        def hand_on(number: int, _: object) -> None:
            received.append(number)
            os.killpg(process.pid, number)

        before = [signal.signal(each, hand_on) for each in signals]
        for line in process.stdout or ():
            steps.write(line)
        status = int(process.wait())
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
        interrupted = bool(status and received)
        steps.end(failed=status != 0, interrupted=interrupted)
    return 128 + received[0] if interrupted else status


class StepLines:
    """Logs what DVC or kfp prints, and prints a line a step on stderr, and on a terminal a bar."""

    def __init__(self, log: TextIO, files: "Callable[[], Files]") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.log, self.files, self.step, self.label, self.begin, self.rest = log, files, "", "", 0.0, ""
        self.output: list[str] = []  # of the step that runs
        self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True, markup=False)
        columns = (TextColumn("{task.description:<14}"), TimeElapsedColumn(), BarColumn(20))
        label, left = TextColumn("{task.fields[label]}"), TimeRemainingColumn(compact=True)
        settings = {"console": self.console, "transient": True, "disable": not self.console.is_terminal}
        self.bar = Progress(*columns, label, left, refresh_per_second=2, **settings)  # type: ignore[arg-type]
        self.task = self.bar.add_task("", total=None, label="", visible=False)

    def write(self, text: str) -> None:
        """Take what is printed next."""
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            self._read(line, _COLOUR.sub("", line).strip())

    def flush(self) -> None:
        """Keep the rest of a line for later; `print` asks for this method."""

    def _read(self, printed: str, line: str) -> None:
        if found := _PROGRESS.fullmatch(line):
            label, *numbers = found.groups()
            epoch, epochs, done, total = (int(number or 1) for number in numbers)
            if label != self.label:  # another speed
                self.bar.reset(self.task, label=label, description=self.step, visible=True)
            self.label = label
            self.bar.update(self.task, total=epochs * total, completed=(epoch - 1) * total + done)
            return  # the log does not keep it
        print(printed, file=self.log, flush=True)
        self.output.append(printed)
        if found := _STARTED.fullmatch(line):
            self.end()
            self.step, self.begin, self.output = (found[1] or found[2]).replace("-", "_"), time.monotonic(), []
            self.bar.reset(self.task, total=None, description=self.step, label="", visible=True)
            if not self.console.is_terminal:
                self.console.print(f"{self.step:<14} started")
        elif found := _SKIPPED.match(line):
            self.end()
            cached = ", from DVC's run cache" if found[2] == "is cached" else ""
            self.console.print(f"{found[1]:<14} {'':>6} unchanged{cached}", style="dim")
        elif found := _FINISHED.match(line):
            self.end(failed=found[1] == "FAILURE")
        elif found := _WARNING.match(line):
            self.console.print(f"{'':<22}{found[1]}", style="yellow")

    def end(self, *, failed: bool = False, interrupted: bool = False) -> None:
        """Print the line of the step that has ended; if it has failed by itself, what it has printed first."""
        from twofold.orchestration.run_summary import step_result

        minutes, seconds = divmod(int(time.monotonic() - self.begin), 60)
        if interrupted:
            place = f" in {self.step}" if self.step else ""
            self.console.print(f"interrupted{place}; `twofold run` goes on from here")
        elif failed:
            self.console.print(_INPUT.sub("", "\n".join(self.output)))
            self.console.print(f"{self.step or 'dvc'} failed; all that the run printed: {self.log.name}", style="red")
        elif self.step:
            try:
                result = step_result(self.step, self.files())
            except (ArtifactError, AttributeError, KeyError, TypeError):  # a step that a project has added
                result = "done"
            self.console.print(f"{self.step:<14} {f'{minutes}:{seconds:02}':>6} {result}")
        self.step = ""
        self.bar.update(self.task, visible=False)
