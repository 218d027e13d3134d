"""B8: the whole pipeline on the sample data, every step a command, against six plain scripts with torch's defaults.

`python -m bench.benchmarks.b08_pipeline [--head N] [--epochs N]` sets other epochs than `python -m bench B8`. Both
sides start with an empty cache and an empty tracking store and run every step in a new Python; the time is from the
start of the first to the end of the last. Both load the packaged EfficientNet-Lite0. Without MLflow, both sides leave
out the sixth step, and the result states it.
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

from bench.harness.hardware import by_device
from bench.harness.results import format_comparison
from bench.harness.timing import Comparison, compare, is_trial, measure_seconds, work_size
from bench.workloads.photographs import write_cells
from bench.workloads.step_commands import ROOT, step_commands, write_demo_params
from twofold.orchestration.params_file import load_yaml

SIZE = 192
HEAD, EPOCHS = work_size(10, 1), work_size(3, 1)
BATCH = by_device(cpu=16, gpu=64)
MAX_AUC_LOSS = 0.002  # by which our ROC-AUC may be below the peer's
Seconds = dict[str, float]  # by step


def run(head: int = HEAD, epochs: int = EPOCHS) -> list[Comparison]:
    """Compare one round."""
    tracked = importlib.util.find_spec("mlflow") is not None
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        source = write_cells(folder)
        count = len(list((source / "images").iterdir()))
        seconds: dict[str, Seconds] = {}

        def ours() -> None:
            out = _empty_folder(folder / "ours")
            commands = step_commands(_write_params(source, out, head, epochs), out)
            seconds["ours"] = _run_commands(commands, out, tracked)

        def peer() -> None:
            out = _empty_folder(folder / "peer")
            seconds["peer"] = _run_commands(_peer_commands(source, out, head, epochs), out, tracked)

        comparison = compare(
            "B8",
            f"{count:,} images of 300x300 to {SIZE} px, EfficientNet-Lite0, {head} epochs of the head, {epochs} of all"
            + ("" if tracked else "; the sixth step is left out on both sides, as MLflow is not installed"),
            ours=(f"the six steps as commands, batch {BATCH}", ours),
            peer=("bench/peers/scripts, batch 32", peer),
            warm_up=lambda: None,  # a user waits for the first run too
            rounds=1,
            equal="",  # known after the runs
            images=count,
        )
        return [_add_details(comparison, folder, seconds)]


def _add_details(c: Comparison, folder: Path, seconds: dict[str, Seconds]) -> Comparison:
    """Compare the ROC-AUC of both sides, and add the seconds of every step."""
    ours, peer = _roc_auc(folder / "ours" / "metrics.json"), _roc_auc(folder / "peer" / "evaluation" / "metrics.json")
    if ours < peer - MAX_AUC_LOSS and not is_trial():
        raise SystemExit(f"bench: B8: our ROC-AUC is {ours:.4f}, the peer's {peer:.4f}; this is not the same result")
    steps = "; ".join(
        f"{side}: " + ", ".join(f"{step} {time:.1f} s" for step, time in times.items())
        for side, times in seconds.items()
    )
    importing = measure_seconds(
        lambda: subprocess.run([sys.executable, "-c", "import torch, timm, sklearn.metrics"], check=True)
    )
    equal = f"ROC-AUC on 656 test images {ours:.4f}, the peer's {peer:.4f} (at most {MAX_AUC_LOSS} less)"
    return replace(c, equal=equal, remark=f"{steps}; each step that uses torch needs {importing:.1f} s to import it")


def _empty_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _write_params(source: Path, out: Path, head: int, epochs: int) -> Path:
    """Write the demo's parameters with these epochs, and without patience, as the peer has none."""
    path = out / "params.yaml"
    changes = [f"ingest.source={source}", f"train_head.epochs={head}", f"train_head.patience={head}"]
    write_demo_params(path, *changes, f"finetune_all.epochs={epochs}", f"finetune_all.batch_size={BATCH}")
    assert load_yaml(path)["preprocess"]["image_size"] == SIZE
    return path


def _peer_commands(source: Path, out: Path, head: int, epochs: int) -> dict[str, list[str]]:
    data = out / "data"
    arguments: dict[str, list[object]] = {
        "split": [source, out / "split"],
        "resize": [out / "split", data, SIZE],
        "head": [data, out / "head.pt", head],
        "finetune": [data, out / "head.pt", out / "model.pt", epochs],
        "evaluate": [data, out / "model.pt", out / "evaluation"],
        "register": [out / "model.pt", out / "evaluation"],
    }
    return {name: ["-m", f"bench.peers.scripts.{name}", *map(str, words)] for name, words in arguments.items()}


def _run_commands(commands: dict[str, list[str]], out: Path, tracked: bool) -> Seconds:
    """Run the commands one after the other, `register` only if `tracked`; returns the wall seconds of each process."""
    environment = os.environ | {
        "TWOFOLD_CACHE": str(out / "cache"),
        "TWOFOLD_CHECKPOINTS": str(out / "checkpoints"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{out / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    if not tracked:
        del commands["register"]
        environment["TWOFOLD_LIVE"] = "off"
    seconds = {}
    for name, words in commands.items():
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *words], cwd=out, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"bench: B8: {name} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        seconds[name] = time.perf_counter() - begin
        # So that a run that is stopped early shows the finished steps.
        print(f"B8: {out.name}: {name} {seconds[name]:.1f} s", flush=True)
    return seconds


def _roc_auc(path: Path) -> float:
    metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return float(metrics["roc_auc"])


def main() -> None:
    """Run the benchmark with epochs of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.benchmarks.b08_pipeline", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--head", type=int, default=HEAD, help="epochs of train_head (%(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of finetune_all (%(default)s)")
    options = parser.parse_args()
    print("\n".join(map(format_comparison, run(options.head, options.epochs))), flush=True)


if __name__ == "__main__":
    main()
