"""B11: time and memory of every step as the number of images grows.

`python -m bench.benchmarks.b11_scaling [COUNT ...]` uses other numbers than the 1,000, 10,000 and 50,000 of
`python -m bench B11`. The images are generated JPEGs of 256 px, prepared at 256 px. EfficientNet-Lite0 has random
weights, which do not change the speed. Fine-tuning stops after 200 steps, as a step takes as long at every count. Every
step runs as a command; its memory is the peak of all its processes together, without mapped files.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.harness.memory import MIB, peak_memory
from bench.harness.results import format_comparison
from bench.harness.timing import Comparison, goal_of, is_trial
from bench.workloads.jpeg_files import make_photographs
from bench.workloads.step_commands import ROOT, step_commands
from twofold.orchestration.params_file import set_values

COUNTS = (1_000, 10_000, 50_000)
SIZE, STEPS, BATCH = 256, 200, 16
SETTINGS = [
    "ingest.positive=bad",
    f"preprocess.image_size={SIZE}",
    "train_head.backbone=efficientnet_lite0",
    "train_head.weights=random",
    "train_head.flips=false",  # one view: 5 KB of features per image
    "train_head.orientation_free=false",
    "train_head.epochs=10",
    "finetune_all.views=1",
    f"finetune_all.batch_size={BATCH}",
    "evaluate.views=1",
    "evaluate.robustness=0",
]
FINETUNE = (
    "from bench.benchmarks.b11_scaling import limit_epoch; limit_epoch(); "
    "from twofold.orchestration.step_cli import main; "
    "from twofold.steps.finetune_all import finetune_all; main(finetune_all)"
)


class Cost(NamedTuple):
    """Time and memory of one step at one count."""

    seconds: float
    memory: int
    processes: int


def run(counts: tuple[int, ...] = COUNTS) -> list[Comparison]:
    """Run the five steps at every count, and compare the last count with the one before it."""
    if is_trial():
        counts = (80, 160)
    costs = [_measure_steps(count) for count in counts]
    small, large = counts[-2:]
    comparisons = []
    for step in costs[0]:
        last, before = costs[-1][step], costs[-2][step]
        rows = [
            f"{count:,}: {cost.seconds:.1f} s, {cost.memory / MIB:.0f} MiB in {cost.processes} processes"
            for count, cost in zip(counts, [each[step] for each in costs], strict=True)
        ]
        comparisons.append(
            Comparison(
                "B11",
                f"{step} of {large:,} images of {SIZE} px"
                + (f", {STEPS} steps, all validation images" if step == "finetune_all" else ""),
                f"{large:,} images",
                f"{large / small:g} times the seconds of {small:,} images",
                [last.seconds],
                [before.seconds * large / small],
                goal_of("B11", step),
                "every step got all images of the step before it",
                part=step,
                images=None if step == "finetune_all" else large,
                memory=last.memory,
                growth=max(0.0, (last.memory - before.memory) / (large - small)),
                remark="; ".join(rows),
            )
        )
    return comparisons


def _measure_steps(count: int) -> dict[str, Cost]:
    """Run the steps as commands, one after the other."""
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        images = make_photographs(folder, count, SIZE, SIZE)
        params = folder / "params.yaml"
        shutil.copy(ROOT / "params.yaml", params)
        train = 0.68 * count  # the share of the training split in params.yaml
        epochs = max(1, math.ceil(STEPS * BATCH / train))
        set_values(params, [*SETTINGS, f"ingest.source={images}", f"finetune_all.epochs={epochs}"])
        environment = os.environ | {
            "TWOFOLD_CACHE": str(folder / "cache"),
            "TWOFOLD_CHECKPOINTS": str(folder / "checkpoints"),
            "TWOFOLD_LIVE": "off",
            "BENCH_SIZES_IMAGES": str(math.ceil(STEPS * BATCH / epochs)),
        }
        commands = step_commands(params, folder)
        commands["finetune_all"][:2] = ["-c", FINETUNE]
        del commands["register"]
        costs = {}
        for step, words in commands.items():
            log = folder / f"{step}.log"
            with log.open("wb") as stream:
                begin = time.perf_counter()
                process = subprocess.Popen(
                    [sys.executable, *words], cwd=ROOT, env=environment, stdout=stream, stderr=stream
                )
                memory, processes = peak_memory(process)
                costs[step] = Cost(time.perf_counter() - begin, memory, processes)
            if process.returncode:
                raise SystemExit(f"bench: B11: {step} of {count} images failed:\n{log.read_text()[-4000:]}")
            print(f"B11  {step} of {count:,}: {costs[step].seconds:.1f} s, {memory / MIB:.0f} MiB", flush=True)
        for step in ("ingest", "preprocess"):
            kept = json.loads((folder / f"{step}.json").read_text())["images"]
            if kept != count:
                raise SystemExit(f"bench: B11: {step} kept {kept} of {count} images; this is not the same work")
    return costs


def limit_epoch() -> None:
    """Limit every later training of this process to a number of images per epoch, that of BENCH_SIZES_IMAGES."""
    from twofold.training import loop

    train = loop.train
    images = int(os.environ["BENCH_SIZES_IMAGES"])

    def train_part(network: Any, inputs: Any, targets: Any, *positional: Any, **keywords: Any) -> Any:
        return train(network, inputs, targets[:images], *positional, **keywords)

    loop.train = train_part


def main() -> None:
    """Run the benchmark with the counts of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.benchmarks.b11_scaling", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("counts", nargs="*", type=int, default=list(COUNTS), help="at least two, ascending")
    counts = parser.parse_args().counts
    if len(counts) < 2 or counts != sorted(set(counts)):
        parser.error(f"counts are {counts}; give at least two, ascending")
    print("\n".join(map(format_comparison, run(tuple(counts)))), flush=True)


if __name__ == "__main__":
    main()
