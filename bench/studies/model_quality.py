"""`python -m bench.studies.model_quality`: five seeds of the demo's recipe on the sample data, beside the published figures.

For each seed another split of ELPV (656 test images, stratified by type and label) and another start of the training:
the steps run as commands, exactly as `dvc repro` runs them. Out: a table, and bench/results/<hardware>/quality.json.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from bench.harness.results import save
from twofold.orchestration.params_file import set_values

ROOT = Path(__file__).resolve().parents[2]
# Deitsch et al., Automatic classification of defective photovoltaic module cells in electroluminescence images,
# Solar Energy 185 (2019): accuracy on 656 test images.
PUBLISHED = {"SVM (Deitsch et al. 2019)": 0.8244, "CNN (Deitsch et al. 2019)": 0.8842}
FIGURES = ("accuracy", "roc_auc", "f1", "precision", "recall")


def main() -> None:
    """Run the seeds, print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.studies.model_quality", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="beside demo.params")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time; a GPU has room for several (%(default)s)")
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="twofold-quality-") as place, ThreadPoolExecutor(options.jobs) as pool:
        for found in pool.map(lambda seed: one(Path(place) / str(seed), seed, options.set), range(options.seeds)):
            runs.append(found)
            figures = ", ".join(f"{name} {found[name]:.3f}" for name in FIGURES)
            print(f"seed {found['seed']}: {figures}, {found['seconds']:.0f} s", flush=True)
    save("quality", {"runs": runs, "set": options.set})
    print(table(runs))


def one(place: Path, seed: int, extra: list[str]) -> dict[str, Any]:
    """The six steps' first five for one seed; returns metrics.json."""
    begin = time.monotonic()
    place.mkdir()
    params = place / "params.yaml"
    shutil.copy(ROOT / "params.yaml", params)
    demo = [line for line in (ROOT / "scripts" / "demo.params").read_text().split("\n") if line and line[0] != "#"]
    seeds = [f"train_head.seed={seed}", f"finetune_all.seed={seed}", f"ingest.source={place / 'elpv'}"]
    set_values(params, demo + seeds + extra)
    run(sys.executable, str(ROOT / "data" / "elpv.py"), "--seed", str(seed), "--out", str(place / "elpv"))
    audit = place / "audit"
    raw, data, head = place / "raw", place / "data", place / "head"
    step("ingest", params, raw=raw, metrics=place / "ingest.json", audit=audit / "ingest")
    step("preprocess", params, raw=raw, data=data, metrics=place / "preprocess.json", audit=audit / "preprocess")
    step("train_head", params, data=data, model=head, metrics=place / "head.json", audit=audit / "train_head")
    step(
        "finetune_all",
        params,
        data=place / "data",
        head=place / "head",
        model=place / "model",
        metrics=place / "finetuned.json",
    )
    step(
        "evaluate",
        params,
        data=place / "data",
        model=place / "model",
        evaluation=place / "evaluation",
        metrics=place / "metrics.json",
    )
    figures: dict[str, Any] = json.loads((place / "metrics.json").read_text())
    finetuned = json.loads((place / "finetuned.json").read_text())
    return figures | {"seed": seed, "seconds": time.monotonic() - begin, "finetuned": finetuned}


def step(name: str, params: Path, **paths: Path) -> None:
    """One step as a command."""
    words = [word for option, path in paths.items() for word in (f"--{option}", str(path))]
    run(sys.executable, "-m", f"twofold.steps.{name}", "--params", str(params), *words)


def run(*words: str) -> None:
    """A command in the project's folder; its own progress goes to the terminal."""
    subprocess.run(words, check=True, cwd=ROOT, env=os.environ | {"TWOFOLD_LIVE": "off"})


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown: mean over the seeds with its 95 % interval (Student's t over seeds), all cells, mono and poly."""
    lines = [
        f"| 656 test images a seed, {len(runs)} seeds | " + " | ".join(FIGURES) + " |",
        "|---" * (len(FIGURES) + 1) + "|",
    ]
    parts = {"all": runs, **{kind: [slice_of(run, kind) for run in runs] for kind in ("mono", "poly")}}
    for part, values in parts.items():
        lines.append(f"| Twofold, {part} | " + " | ".join(mean([v[name] for v in values]) for name in FIGURES) + " |")
    lines += [f"| {name} | {100 * value:.2f} % |" + " |" * (len(FIGURES) - 1) for name, value in PUBLISHED.items()]
    return "\n".join(lines)


def slice_of(run: dict[str, Any], kind: str) -> dict[str, Any]:
    """The figures of mono or poly cells alone."""
    found: dict[str, Any] = run["slices"]["type"][kind]
    return found


def mean(values: list[float]) -> str:
    """Mean and half-width of its 95 % interval."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()
