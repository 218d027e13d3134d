"""B10: commands with nothing to do: `twofold --help`, and `dvc repro` in a finished project.

Beside each the same command in a Python that has imported torch first, as every command did that imports it at its
top. A command that imports torch after all is refused.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.harness.timing import Comparison, Limit, clocked, compare
from tests.pipeline.conftest import make_project

BIN = Path(sys.executable).parent
# command -> the same through its function, for a Python that has imported torch
COMMANDS = {
    "twofold --help": "from twofold.cli.main import main; main(['--help'])",
    "dvc repro": "from dvc.cli import main; sys.exit(main(['repro']))",
}


def run() -> list[Comparison]:
    """The project is the one that the pipeline's tests make: six steps on 60 small images, run once."""
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as place:
        project = make_project(Path(place) / "project")
        project.run("dvc", "repro")

        def call(*words: str) -> Callable[[], str]:
            return lambda: told(words, project.root, project.env)

        idle = call(sys.executable, "-c", "pass")
        idle()
        bare = min(clocked(idle) for _ in range(5))
        limit = Limit(bare, "the start of Python itself, `python -c pass`, the fastest of five in this run")
        found = []
        for part, body in COMMANDS.items():
            program, *rest = part.split()
            imported = call(sys.executable, "-X", "importtime", str(BIN / program), *rest)()
            if re.search(r"\|\s+torch\n", imported):
                raise SystemExit(f"bench: B10: `{part}` imports torch")
            if part == "dvc repro" and "up to date" not in imported:
                raise SystemExit(f"bench: B10: `{part}` was to find nothing to do:\n{imported[-2000:]}")
            found.append(
                compare(
                    "B10",
                    f"`{part}`" + (", nothing has changed" if program == "dvc" else ""),
                    part=part,
                    ours=("as it is", call(str(BIN / program), *rest)),
                    peer=("after `import torch`", call(sys.executable, "-c", f"import sys, torch; {body}")),
                    equal="exit status 0 of both; ours has not imported torch (python -X importtime)",
                    limit=limit,
                )
            )
    return found


def told(words: tuple[str, ...], folder: Path, environment: dict[str, str]) -> str:
    """Run a command that must succeed; what it printed."""
    done = subprocess.run(words, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(words)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr
