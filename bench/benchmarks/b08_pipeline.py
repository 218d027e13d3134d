"""B8: the whole pipeline on the sample data, every step a command, against six plain scripts with torch's defaults.

`python -m bench.benchmarks.b08_pipeline [--head N] [--epochs N]` runs it with other numbers of epochs than `python -m bench B8`. Both
sides start with no memo and an empty tracking store, and every step in a Python of its own; what is timed is from the
start of the first to the end of the last. Both load the packaged EfficientNet-Lite0. Where MLflow is not installed the
sixth step is left out on both sides, and the result says so.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.harness.hardware import on
from bench.harness.results import told
from bench.harness.timing import Comparison, compare, sized, trial
from bench.workloads.photographs import cells
from twofold.orchestration.params_file import load_yaml, set_values

ROOT = Path(__file__).resolve().parents[2]
SIZE = 192
HEAD, EPOCHS = sized(10, 1), sized(3, 1)
BATCH = on(cpu=16, gpu=64)
LESS = 0.002  # of ROC-AUC that ours may have less than the peer
Seconds = dict[str, float]


def run(head: int = HEAD, epochs: int = EPOCHS) -> list[Comparison]:
    """One round."""
    tracked = importlib.util.find_spec("mlflow") is not None
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        place = Path(name)
        source = cells(place)
        count = len(list((source / "images").iterdir()))
        spent: dict[str, Seconds] = {}

        def ours() -> None:
            to = emptied(place / "ours")
            spent["ours"] = timed(steps(params(source, to, head, epochs), to, tracked), to)

        def peer() -> None:
            to = emptied(place / "peer")
            spent["peer"] = timed(scripts(source, to, head, epochs, tracked), to)

        found = compare(
            "B8",
            f"{count:,} images of 300x300 to {SIZE} px, EfficientNet-Lite0, {head} epochs of the head, {epochs} of all"
            + ("" if tracked else "; the sixth step is left out on both sides, as MLflow is not installed"),
            ours=(f"the six steps as commands, batch {BATCH}", ours),
            peer=("bench/peers/scripts, batch 32", peer),
            warm_up=lambda: None,  # whoever types the command waits for the first run too
            rounds=1,
            equal="",  # known when both have run
            images=count,
        )
        return [with_figures(found, place, spent)]


def with_figures(c: Comparison, place: Path, spent: dict[str, Seconds]) -> Comparison:
    """Held to the figures of both sides, and with the seconds of every step."""
    ours, theirs = (auc(place / side) for side in ("ours", "peer"))
    if ours < theirs - LESS and not trial():
        raise SystemExit(f"bench: B8: ROC-AUC {ours:.4f} here, {theirs:.4f} there; that is not the same result")
    steps = "; ".join(
        f"{side}: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in of.items()) for side, of in spent.items()
    )
    equal = f"ROC-AUC on 656 test images {ours:.4f}, the peer's {theirs:.4f} (at most {LESS} less)"
    return replace(c, equal=equal, remark=f"{steps}; of each step that needs torch, importing it {importing():.1f} s")


def emptied(folder: Path) -> Path:
    """A new folder in its place."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def params(source: Path, to: Path, head: int, epochs: int) -> Path:
    """The demo's parameters, with so many epochs; no patience, as the peer has none."""
    path = to / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    demo = (ROOT / "scripts" / "demo.params").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in demo if line and not line.startswith("#")]
    wanted += [f"ingest.source={source}", f"train_head.epochs={head}", f"train_head.patience={head}"]
    set_values(path, [*wanted, f"finetune_all.epochs={epochs}", f"finetune_all.batch_size={BATCH}"])
    assert load_yaml(path)["preprocess"]["image_size"] == SIZE
    return path


def steps(params: Path, to: Path, tracked: bool) -> dict[str, list[object]]:
    """The commands of dvc.yaml, in a folder of their own."""
    raw, data, head, model, evaluation = (to / name for name in ("raw", "data", "head", "model", "evaluation"))
    words: dict[str, dict[str, Path]] = {
        "ingest": {"raw": raw, "metrics": to / "ingest.json", "audit": to / "audit/ingest"},
        "preprocess": {"raw": raw, "data": data, "metrics": to / "preprocess.json", "audit": to / "audit/preprocess"},
        "train_head": {"data": data, "model": head, "metrics": to / "head.json", "audit": to / "audit/train_head"},
        "finetune_all": {"data": data, "head": head, "model": model, "metrics": to / "finetuned.json"},
        "evaluate": {"data": data, "model": model, "evaluation": evaluation, "metrics": to / "metrics.json"},
        "register": {
            "raw": raw,
            "data": data,
            "head": head,
            "model": model,
            "evaluation": evaluation,
            "metrics": to / "metrics.json",
            **{f"{step}_audit": to / "audit" / step for step in ("ingest", "preprocess", "train_head")},
            "registration": to / "registration",
            "verdict": to / "verdict.json",
        },
    }
    if not tracked:
        del words["register"]
    return {
        step: ["-m", f"twofold.steps.{step}", "--params", params]
        + [word for name, path in options.items() for word in (f"--{name}", path)]
        for step, options in words.items()
    }


def scripts(source: Path, to: Path, head: int, epochs: int, tracked: bool) -> dict[str, list[object]]:
    """The commands of the peer."""
    data = to / "data"
    words: dict[str, list[object]] = {
        "split": [source, to / "split"],
        "resize": [to / "split", data, SIZE],
        "head": [data, to / "head.pt", head],
        "finetune": [data, to / "head.pt", to / "model.pt", epochs],
        "evaluate": [data, to / "model.pt", to / "evaluation"],
        "register": [to / "model.pt", to / "evaluation"],
    }
    if not tracked:
        del words["register"]
    return {name: ["-m", f"bench.peers.scripts.{name}", *given] for name, given in words.items()}


def timed(commands: dict[str, list[object]], to: Path) -> Seconds:
    """Run them one after the other; the wall seconds of each, from the start of its process."""
    environment = os.environ | {
        "TWOFOLD_CACHE": str(to / "memo"),
        "TWOFOLD_CHECKPOINTS": str(to / "checkpoints"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{to / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    if "register" not in commands:
        environment["TWOFOLD_LIVE"] = "off"
    found = {}
    for name, words in commands.items():
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *map(str, words)], cwd=to, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"bench: B8: {name} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        found[name] = time.perf_counter() - begin
        # A run that is cut short has told something.
        print(f"B8: {to.name}: {name} {found[name]:.1f} s", flush=True)
    return found


def auc(to: Path) -> float:
    """Area under the ROC curve, on the test images."""
    path = next(path for path in (to / "metrics.json", to / "evaluation" / "metrics.json") if path.exists())
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return float(figures["roc_auc"])


def importing() -> float:
    """Seconds of a Python that imports what a training step does, and ends."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, timm, sklearn.metrics"], check=True)
    return time.perf_counter() - begin


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.benchmarks.b08_pipeline", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--head", type=int, default=HEAD, help="epochs of train_head (%(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of finetune_all (%(default)s)")
    options = parser.parse_args()
    print("\n".join(map(told, run(options.head, options.epochs))), flush=True)


if __name__ == "__main__":
    main()
