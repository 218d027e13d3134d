"""Kill a step of a project at random moments, and run it again after each: python kill_case.py STEP KILLS SEED.

Runs in the project's folder, after a run of the whole pipeline. Prints what the uninterrupted step and each repetition
have left: digests of its outputs, its verdict, and the files in the project and in TMPDIR. The step is forked from a
process that has imported it, so that a kill costs the work alone.
"""

import importlib
import json
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

from twofold.core.artifacts import digest
from twofold.core.code_digest import closure
from twofold.orchestration.step_cli import main
from twofold.registry import lock

STATE = ("mlflow.db", "mlartifacts", ".twofold")  # what steps change beside their outputs
# Of a verdict: names that MLflow draws, and the time of the decision.
RANDOM = ("run_id", "model_id", "page", "open", "training_runs", "decided")
lock.LEASE, lock.HEARTBEAT = 1.0, 0.2


def restore(source, target):
    for name in STATE:
        for path in target.glob(f"{name}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        elif (source / name).exists():
            shutil.copy2(source / name, target / name)


def start(step, arguments):
    child = os.fork()
    if not child:
        status = 1
        try:
            main(step, arguments)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def files():
    """The files of the project, and what is in TMPDIR; those of MLflow by number, as their names are random."""
    others = (".git", ".dvc", "twofold", "mlartifacts")
    here = [path for path in Path().rglob("*") if path.is_file() and path.parts[0] not in others]
    stored = sum(path.is_file() for path in Path("mlartifacts").rglob("*"))
    # torch's own cache stays; Twofold's temporary folders do not.
    temporary = [path for path in Path(tempfile.gettempdir()).iterdir() if not path.name.startswith("torchinductor")]
    return sorted(map(str, [*here, *temporary])), stored


def outcome(outs, name):
    if name != "register":
        return {out: digest(Path(out)) for out in outs}
    values = json.loads(Path("reports/registration.json").read_text())
    return {key: value for key, value in values.items() if key not in RANDOM}


def run(name, kills, seed):
    stage = YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"][name]
    outs = [str(out) if isinstance(out, str) else next(iter(out)) for out in stage["outs"] + stage.get("metrics", [])]
    arguments = shlex.split(stage["cmd"])[3:]
    for path in closure(f"twofold.steps.{name}"):  # with those that the step imports late
        if path.suffix == ".py":
            importlib.import_module(".".join(path.relative_to(Path.cwd()).with_suffix("").parts))
    step = getattr(sys.modules[f"twofold.steps.{name}"], name)
    rng = random.Random(f"{name} {seed}")  # noqa: S311
    with tempfile.TemporaryDirectory(dir=Path("..")) as saved:
        restore(Path(), Path(saved))
        begin = time.monotonic()
        status = os.waitpid(start(step, arguments), 0)[1]
        duration = time.monotonic() - begin
        print(json.dumps({"status": status, "outcome": outcome(outs, name), "files": files()}), flush=True)
        for _ in range(kills):
            restore(Path(saved), Path())
            if rng.random() < 0.5:  # as DVC does; Kubeflow gives each run a new folder
                for out in map(Path, outs):
                    shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
            child, moment = start(step, arguments), rng.uniform(0, duration)
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
            killed = os.waitpid(child, 0)[1] == signal.SIGKILL
            status = os.waitpid(start(step, arguments), 0)[1]
            found = {"status": status, "outcome": outcome(outs, name), "files": files()}
            print(json.dumps(found | {"moment": f"{moment:.2f} of {duration:.2f} s", "killed": killed}), flush=True)


if __name__ == "__main__":
    run(sys.argv[1], int(sys.argv[2]), sys.argv[3])
