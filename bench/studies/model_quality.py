"""`python -m bench.studies.model_quality`: the recipe of `twofold init` beside a plain baseline, over seeds.

Tasks: `elpv`, the sample data, and the generated `texture` and `object` (bench/workloads/generated_tasks.py) at each
rate of positive images. A seed is another split of ELPV (656 test images, stratified by type and label), or other
generated images, and another start of the training. Twofold's steps run as commands, as in `dvc repro`; the baseline
(bench/peers/baseline.py) gets the same prepared images, backbone and weights, and as many CPU seconds as train_head,
finetune_all and evaluate took together, evaluate without robustness and pictures.

Every finished run is kept in bench/results/studies/model_quality/, and not repeated unless its parameters or the code
have changed. Prints the tables of all tasks and writes them beside that folder.
"""

import argparse
import csv
import hashlib
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from bench.harness.hardware import describe_machine, hardware_name
from bench.studies.tables import RESULTS, markdown, show
from bench.workloads.generated_tasks import LABELS, write_task
from bench.workloads.step_commands import ROOT, step_commands, write_demo_params
from twofold.core.code_digest import code_digest
from twofold.data.prepared import PreparedDataset
from twofold.evaluation import predictions
from twofold.metrics.calibration import expected_calibration_error
from twofold.metrics.classification import classification_metrics
from twofold.orchestration.params_file import load_yaml

NAME = "model_quality"
STEPS = ("ingest", "preprocess", "train_head", "finetune_all", "evaluate")
TRAINING = STEPS[2:]  # whose CPU seconds the baseline gets
COUNTS = {"train": 800, "validation": 300, "test": 1000}  # generated images
METRICS = ("accuracy", "accuracy_half", "roc_auc", "recall", "log_loss", "ece", "threshold")
# Deitsch et al., Automatic classification of defective photovoltaic module cells in electroluminescence images,
# Solar Energy 185 (2019): accuracy on 656 test images of another split.
PUBLISHED = "Published accuracy (Deitsch et al. 2019): SVM 82.44 %, CNN 88.42 %."
UPRIGHT = (
    *(f"{step}.orientation_free=false" for step in ("train_head", "finetune_all")),
    *(f"{step}.views=2" for step in ("finetune_all", "evaluate")),
)


class Case(NamedTuple):
    """One run: a task, the share of positive images (None: as the data has it), and a seed."""

    task: str
    rate: float | None
    seed: int

    @property
    def name(self) -> str:
        """As in the names of files."""
        return "-".join([self.task, *([f"{self.rate:g}"] if self.rate else []), str(self.seed)])


def main() -> None:
    """Run what is not yet there, keep it, and print the tables."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.studies.{NAME}", description=__doc__)
    tasks = ("elpv", *LABELS)
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.03, 0.3], help="of generated positive images")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds (%(default)s)")
    parser.add_argument("--fraction", type=float, default=1, help="of the images, to try the study (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change a parameter")
    parser.add_argument("--jobs", type=int, default=1, help="runs in parallel; a GPU fits several (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results (%(default)s)")
    options = parser.parse_args()
    # Seeds first, so that an interrupted study has all tasks with fewer seeds.
    cases = [
        Case(task, rate, seed)
        for seed in range(options.seeds)
        for task in options.tasks
        for rate in ([None] if task == "elpv" else options.rates)
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = list(pool.map(lambda case: _run_or_read(case, options), cases))
    tables = []
    for task, rate in dict.fromkeys((case.task, case.rate) for case in cases):
        chosen = [run for case, run in zip(cases, runs, strict=True) if (case.task, case.rate) == (task, rate)]
        title = f"{task}, {rate:.0%} positive" if rate else task
        images = sorted({run["images"] for run in chosen})
        tables += [f"{title}, {' to '.join(map(str, images))} test images, {len(chosen)} seeds:", quality_table(chosen)]
        tables += [PUBLISHED] if task == "elpv" else []
    show(NAME, *tables, seeds=f"seeds 0 to {options.seeds - 1}", folder=options.out)


def _run_or_read(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """A run's result, from its file if it has the same parameters, size and code."""
    path = options.out / NAME / hardware_name() / f"{case.name}.json"
    with tempfile.TemporaryDirectory(prefix="twofold-quality-") as name:
        folder = Path(name)
        seeds = [f"{step}.seed={case.seed}" for step in ("train_head", "finetune_all")]
        positive = "defective" if case.task == "elpv" else LABELS[case.task][1]
        data = [f"ingest.source={folder / 'images'}", f"ingest.positive={positive}"]
        data += ["evaluate.robustness=0", "evaluate.pictures=false"]
        upright = () if case.task == "elpv" else UPRIGHT
        write_demo_params(folder / "params.yaml", *seeds, *data, *upright, *options.set)
        params = {step: load_yaml(folder / "params.yaml")[step] for step in STEPS}
        del params["ingest"]["source"]
        made_from = {"params": params, "fraction": options.fraction, "code": _code()}
        if path.exists():
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if kept["made_from"] == made_from:
                return kept
        source = write_images(case, folder / "images", options.fraction)
        run = _run(case, source, folder) | {"made_from": made_from, "machine": describe_machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(run, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    draft.rename(path)
    sides = (f"{side} {run[side]['all']['accuracy']:.3f}" for side in ("ours", "baseline"))
    print(f"{case.name}: accuracy {', '.join(sides)}; {run['seconds']}", flush=True)
    return run


def _code() -> str:
    """SHA-256 of everything that a run's result depends on besides its parameters."""
    modules = [f"twofold.steps.{step}" for step in STEPS]
    modules += ["bench.peers.baseline", "bench.workloads.generated_tasks"]
    return hashlib.sha256(" ".join(map(code_digest, modules)).encode()).hexdigest()


def write_images(case: Case, folder: Path, fraction: float) -> Path:
    """Write the task's images; of ELPV every so many rows of labels.csv."""
    if case.rate is not None:
        counts = {split: round(count * fraction) for split, count in COUNTS.items()}
        return write_task(folder, case.task, rate=case.rate, counts=counts, seed=case.seed)
    command = [sys.executable, str(ROOT / "data" / "elpv.py"), "--seed", str(case.seed), "--out", str(folder)]
    subprocess.run(command, check=True)
    header, *rows = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    kept = rows[:: round(1 / fraction)]
    (folder / "labels.csv").write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")
    return folder


def _run(case: Case, source: Path, folder: Path) -> dict[str, Any]:
    """Run the steps and then the baseline; returns the metrics of both by slice, and the CPU seconds of each."""
    params = folder / "params.yaml"
    environment = os.environ | {"TWOFOLD_LIVE": "off", "TWOFOLD_CACHE": str(folder / "cache")}
    commands = step_commands(params, folder)
    seconds = {step: _cpu_seconds(commands[step], environment) for step in STEPS}
    data, section = PreparedDataset.open(folder / "data"), load_yaml(params)["train_head"]
    budget, answers = sum(seconds[step] for step in TRAINING), folder / "baseline.npz"
    words = [data.directory, answers, section["backbone"], section["weights"]]
    words += ["free" if case.task == "elpv" else "mirrored", budget, case.seed]
    seconds["baseline"] = _cpu_seconds(["-m", "bench.peers.baseline", *map(str, words)], environment)
    test = predictions.read(folder / "evaluation" / predictions.PREDICTIONS).of("test")
    threshold = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["threshold"]
    found = np.load(answers)
    if test.sha256.tolist() != data.sha256[data.rows("test")].tolist():
        raise SystemExit(f"{case.name}: evaluate and the baseline were tested on different images")
    slices = {"all": np.full(len(test), True)}
    slices |= _elpv_slices(source, test) if case.task == "elpv" else {}
    sides = {"ours": (test.probability, threshold), "baseline": (found["probability"], 0.5)}
    results: dict[str, Any] = {
        side: {name: measure(test.target[rows], values[rows], limit) for name, rows in slices.items()}
        for side, (values, limit) in sides.items()
    }
    spent = {step: round(value, 1) for step, value in seconds.items()}
    return results | {"images": len(test), "seconds": spent, "baseline_epochs": int(found["epochs"])}


def _cpu_seconds(words: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run `python WORDS`; returns the CPU seconds, of user and system, of the process and those it waited for."""
    # Without capture, so that the progress appears on the terminal.
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: python {' '.join(words)}")
    return usage.ru_utime + usage.ru_stime


def _elpv_slices(source: Path, test: predictions.Predictions) -> dict[str, NDArray[np.bool_]]:
    """Cells whose published defect probability is 0 or 1 (`certain`), those between, and both types."""
    spec = importlib.util.find_spec("elpv_dataset")
    table = Path(spec.origin).parent / "data" / "labels.csv" if spec and spec.origin else Path("labels.csv")
    certain = {line.split()[0]: float(line.split()[1]) in (0, 1) for line in table.read_text().splitlines() if line}
    with (source / "labels.csv").open(newline="", encoding="utf-8") as stream:
        paths = [row["path"] for row in csv.DictReader(stream)]
    of_image = {hashlib.sha256((source / path).read_bytes()).hexdigest(): certain[path] for path in paths}
    known = np.array([of_image[sha256] for sha256 in test.sha256])
    types = {name: test.slices["type"] == name for name in ("mono", "poly")}
    return {"certain": known, "uncertain": ~known, **types}


def measure(target: NDArray[np.int64], probability: NDArray[np.float64], threshold: float) -> dict[str, float]:
    """The METRICS of some test images; recall and accuracy at `threshold`, accuracy_half at 1/2."""
    found = classification_metrics(target, probability, threshold)
    found["accuracy_half"] = classification_metrics(target, probability, 0.5)["accuracy"]
    found |= {"ece": expected_calibration_error(target, probability), "threshold": threshold}
    return {name: found[name] for name in METRICS if name in found}


def quality_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Mean and standard deviation of both sides over the seeds, and the mean difference with its 95 % interval."""
    rows = []
    for name in runs[0]["ours"]:
        ours, baseline = ([run[side][name] for run in runs] for side in ("ours", "baseline"))
        for side, values in (("Twofold", ours), ("baseline", baseline)):
            rows.append([f"{side}, {name}", *(_spread([value.get(metric) for value in values]) for metric in METRICS)])
        pairs = [
            [a[metric] - b[metric] for a, b in zip(ours, baseline, strict=True) if metric in a and metric in b]
            for metric in METRICS[:-1]
        ]
        rows.append([f"difference, {name}", *map(paired_interval, pairs), ""])
    return markdown(["mean ± standard deviation; difference with 95 % interval", *METRICS], rows)


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return "".join(f"{value:.3f}" for value in known)
    return f"{statistics.mean(known):.3f} ± {statistics.stdev(known):.3f}"


def paired_interval(differences: Sequence[float]) -> str:
    """The mean of paired differences with its 95 % interval, by Student's t over the seeds."""
    if len(differences) < 2:
        return "".join(f"{value:+.3f}" for value in differences)
    mean, n = statistics.mean(differences), len(differences)
    half = float(student.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


if __name__ == "__main__":
    main()
