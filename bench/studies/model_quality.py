"""`python -m bench.studies.model_quality`: metrics of the demo's recipe on the sample data over five seeds.

Each seed is another split of ELPV (656 test images, stratified by type and label) and another start of the training.
The steps run as commands, exactly as in `dvc repro`. Prints a table with published results and writes
bench/results/<hardware>/quality.json.
"""

import argparse
import json
import math
import os
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
from bench.workloads.step_commands import ROOT, step_commands, write_demo_params

# Deitsch et al., Automatic classification of defective photovoltaic module cells in electroluminescence images,
# Solar Energy 185 (2019): accuracy on 656 test images.
PUBLISHED = {"SVM (Deitsch et al. 2019)": 0.8244, "CNN (Deitsch et al. 2019)": 0.8842}
METRICS = ("accuracy", "roc_auc", "f1", "precision", "recall")


def main() -> None:
    """Run the seeds, write the result and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.studies.model_quality", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (%(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change a value of demo.params"
    )
    parser.add_argument("--jobs", type=int, default=1, help="seeds in parallel; a GPU fits several (%(default)s)")
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="twofold-quality-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        for run in pool.map(lambda seed: _run_seed(Path(folder) / str(seed), seed, options.set), range(options.seeds)):
            runs.append(run)
            metrics = ", ".join(f"{name} {run[name]:.3f}" for name in METRICS)
            print(f"seed {run['seed']}: {metrics}, {run['seconds']:.0f} s", flush=True)
    save("quality", {"runs": runs, "set": options.set})
    print(_table(runs))


def _run_seed(folder: Path, seed: int, changes: list[str]) -> dict[str, Any]:
    """Run the first five steps for one seed; returns all metrics with the seed, the seconds and finetuned.json."""
    begin = time.monotonic()
    folder.mkdir()
    params = folder / "params.yaml"
    seeds = [f"train_head.seed={seed}", f"finetune_all.seed={seed}", f"ingest.source={folder / 'elpv'}"]
    write_demo_params(params, *seeds, *changes)
    commands = step_commands(params, folder)
    del commands["register"]
    make_data = [str(ROOT / "data" / "elpv.py"), "--seed", str(seed), "--out", str(folder / "elpv")]
    for words in (make_data, *commands.values()):
        # Without capture, so that the progress appears on the terminal.
        subprocess.run([sys.executable, *words], check=True, cwd=ROOT, env=os.environ | {"TWOFOLD_LIVE": "off"})
    metrics: dict[str, Any] = json.loads((folder / "evaluation" / "metrics.json").read_text())
    finetuned = json.loads((folder / "finetuned.json").read_text())
    return metrics | {"seed": seed, "seconds": time.monotonic() - begin, "finetuned": finetuned}


def _table(runs: list[dict[str, Any]]) -> str:
    """Markdown: the mean over the seeds with its 95 % interval (Student's t), for all cells, mono and poly."""
    lines = [
        f"| 656 test images per seed, {len(runs)} seeds | " + " | ".join(METRICS) + " |",
        "|---" * (len(METRICS) + 1) + "|",
    ]
    slices = {"all": runs, **{kind: [run["slices"]["type"][kind] for run in runs] for kind in ("mono", "poly")}}
    for name, values in slices.items():
        cells = [_mean([value[metric] for value in values]) for metric in METRICS]
        lines.append(f"| Twofold, {name} | " + " | ".join(cells) + " |")
    lines += [f"| {name} | {100 * value:.2f} % |" + " |" * (len(METRICS) - 1) for name, value in PUBLISHED.items()]
    return "\n".join(lines)


def _mean(values: list[float]) -> str:
    """The mean and the half-width of its 95 % interval."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    half = student.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()
