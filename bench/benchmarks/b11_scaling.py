"""B11: how time and memory of every step grow with the number of images.

`python -m bench.benchmarks.b11_scaling [COUNT ...]` runs it at other counts than the 1,000, 10,000 and 50,000 of `python -m bench B11`.
Generated JPEGs of 256 px, prepared at 256 px; EfficientNet-Lite0 with random weights, which costs what pretrained ones
do; fine-tuning is cut off after 200 steps, as one step costs the same at every count. Every step is a command, watched
from outside: the most memory that all its processes held together, files that are mapped not counted.
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

from bench.harness.memory import MIB, peak
from bench.harness.results import told
from bench.harness.timing import Comparison, goal_of, trial
from bench.workloads.photographs import ROOT, photographs
from twofold.orchestration.params_file import set_values

COUNTS = (1_000, 10_000, 50_000)
SIZE, STEPS, BATCH = 256, 200, 16
SETTINGS = [
    "ingest.positive=bad",
    f"preprocess.image_size={SIZE}",
    "train_head.backbone=efficientnet_lite0",
    "train_head.weights=random",
    "train_head.flips=false",  # one view: 5 KB of features an image
    "train_head.orientation_free=false",
    "train_head.epochs=10",
    "finetune_all.views=1",
    f"finetune_all.batch_size={BATCH}",
    "evaluate.views=1",
    "evaluate.robustness=0",
]
FINETUNE = (
    "from bench.benchmarks.b11_scaling import cut; cut(); from twofold.orchestration.step_cli import main; "
    "from twofold.steps.finetune_all import finetune_all; main(finetune_all)"
)


class Cost(NamedTuple):
    """Of one step at one count."""

    seconds: float
    held: int
    processes: int


def run(counts: tuple[int, ...] = COUNTS) -> list[Comparison]:
    """The five steps at every count; the last count is held against the one before it."""
    if trial():
        counts = (80, 160)
    costs = [measured(count) for count in counts]
    small, large = counts[-2:]
    found = []
    for step in costs[0]:
        last, before = costs[-1][step], costs[-2][step]
        rows = [
            f"{count:,}: {of[step].seconds:.1f} s, {of[step].held / MIB:.0f} MiB in {of[step].processes} processes"
            for count, of in zip(counts, costs, strict=True)
        ]
        found.append(
            Comparison(
                "B11",
                f"{step} of {large:,} images of {SIZE} px"
                + (f", {STEPS} steps, validation as it grows" if step == "finetune_all" else ""),
                f"{large:,} images",
                f"{large / small:g} times the seconds of {small:,} images",
                [last.seconds],
                [before.seconds * large / small],
                goal_of("B11", step),
                "every step found all images of the step before it",
                part=step,
                images=None if step == "finetune_all" else large,
                memory=last.held,
                growth=max(0.0, (last.held - before.held) / (large - small)),
                remark="; ".join(rows),
            )
        )
    return found


def measured(count: int) -> dict[str, Cost]:
    """The steps as commands, one after the other."""
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        place = Path(name)
        images = photographs(place, count, SIZE, SIZE)
        params = place / "params.yaml"
        shutil.copy(ROOT / "params.yaml", params)
        train = 0.68 * count  # what the shares in params.yaml leave for training
        epochs = max(1, math.ceil(STEPS * BATCH / train))
        set_values(params, [*SETTINGS, f"ingest.source={images}", f"finetune_all.epochs={epochs}"])
        environment = os.environ | {
            "TWOFOLD_CACHE": str(place / "memo"),
            "TWOFOLD_CHECKPOINTS": str(place / "checkpoints"),
            "TWOFOLD_LIVE": "off",
            "BENCH_SIZES_IMAGES": str(math.ceil(STEPS * BATCH / epochs)),
        }
        found = {}
        for step, words in commands(place).items():
            log = place / f"{step}.log"
            with log.open("wb") as stream:
                begin = time.perf_counter()
                process = subprocess.Popen(
                    [sys.executable, *words, "--params", str(params)],
                    cwd=ROOT,
                    env=environment,
                    stdout=stream,
                    stderr=stream,
                )
                held, most = peak(process)
                found[step] = Cost(time.perf_counter() - begin, held, most)
            if process.returncode:
                raise SystemExit(f"bench: B11: {step} of {count} images failed:\n{log.read_text()[-4000:]}")
            print(f"B11  {step} of {count:,}: {found[step].seconds:.1f} s, {held / MIB:.0f} MiB", flush=True)
        complete(place, count)
    return found


def commands(place: Path) -> dict[str, list[str]]:
    """The words after `python`."""
    raw, data, head, model = (place / name for name in ("raw", "data", "head", "model"))
    options: dict[str, dict[str, Path]] = {
        "ingest": {"raw": raw, "metrics": place / "ingest.json", "audit": place / "audit/ingest"},
        "preprocess": {
            "raw": raw,
            "data": data,
            "metrics": place / "preprocess.json",
            "audit": place / "audit/preprocess",
        },
        "train_head": {"data": data, "model": head, "metrics": place / "h.json", "audit": place / "audit/train_head"},
        "finetune_all": {"data": data, "head": head, "model": model, "metrics": place / "f.json"},
        "evaluate": {"data": data, "model": model, "evaluation": place / "evaluation", "metrics": place / "e.json"},
    }
    return {
        step: (["-c", FINETUNE] if step == "finetune_all" else ["-m", f"twofold.steps.{step}"])
        + [word for name, path in paths.items() for word in (f"--{name}", str(path))]
        for step, paths in options.items()
    }


def cut() -> None:
    """From now on a training in this process shows a network so many images an epoch and no more."""
    from twofold.training import loop

    whole = loop.train
    images = int(os.environ["BENCH_SIZES_IMAGES"])

    def train(network: Any, inputs: Any, targets: Any, *rest: Any, **named: Any) -> Any:
        return whole(network, inputs, targets[:images], *rest, **named)

    loop.train = train


def complete(place: Path, count: int) -> None:
    """Refuse figures of steps that left images out."""
    figures = {name: json.loads((place / f"{name}.json").read_text()) for name in ("ingest", "preprocess")}
    for name, of in figures.items():
        if of["images"] != count:
            raise SystemExit(f"bench: B11: {name} kept {of['images']} of {count} images; that is not the work")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.benchmarks.b11_scaling", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("counts", nargs="*", type=int, default=list(COUNTS), help="at least two, ascending")
    counts = parser.parse_args().counts
    if len(counts) < 2 or counts != sorted(set(counts)):
        parser.error(f"found {counts}; at least two counts, ascending")
    print("\n".join(map(told, run(tuple(counts)))), flush=True)


if __name__ == "__main__":
    main()
