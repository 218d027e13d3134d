"""B10: commands with nothing to do: `twofold --help`, and `dvc repro` in a finished project.

The peer is the same command in a Python that has imported torch first, like a command that imports torch at the top of
its module. There is no result if one of our commands imports torch.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.harness.timing import Comparison, Limit, compare, measure_seconds
from tests.pipeline.conftest import make_project

BIN = Path(sys.executable).parent
# command -> the same as a function call
COMMANDS = {
    "twofold --help": "from twofold.cli.main import main; main(['--help'])",
    "dvc repro": "from dvc.cli import main; sys.exit(main(['repro']))",
}


def run() -> list[Comparison]:
    """Compare in the project of the pipeline's tests: six steps on 60 small images, run once before."""
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as folder:
        project = make_project(Path(folder) / "project")
        project.run("dvc", "repro")

        def call(*words: str) -> Callable[[], str]:
            return lambda: _run_command(words, project.root, project.env)

        idle = call(sys.executable, "-c", "pass")
        idle()
        fastest = min(measure_seconds(idle) for _ in range(5))
        limit = Limit(fastest, "the start of Python itself, `python -c pass`, the fastest of five in this run")
        comparisons = []
        for part, body in COMMANDS.items():
            program, *rest = part.split()
            output = call(sys.executable, "-X", "importtime", str(BIN / program), *rest)()
            if re.search(r"\|\s+torch\n", output):
                raise SystemExit(f"bench: B10: `{part}` imports torch")
            if part == "dvc repro" and "up to date" not in output:
                raise SystemExit(f"bench: B10: `{part}` should have nothing to do, but printed:\n{output[-2000:]}")
            comparisons.append(
                compare(
                    "B10",
                    f"`{part}`" + (", nothing has changed" if program == "dvc" else ""),
                    part=part,
                    ours=("the command", call(str(BIN / program), *rest)),
                    peer=("after `import torch`", call(sys.executable, "-c", f"import sys, torch; {body}")),
                    equal="exit status 0 of both; ours has not imported torch (python -X importtime)",
                    limit=limit,
                )
            )
    return comparisons


def _run_command(words: tuple[str, ...], folder: Path, environment: dict[str, str]) -> str:
    """Run a command that must succeed; returns its output."""
    done = subprocess.run(words, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr
