"""`python -m bench.studies.recipe_choices`: what would make the fine-tuning better, judged on validation images alone.

The tasks and seeds are those of `bench.studies.model_quality`; the test images are never looked at. Ingest, preprocess
and train_head run once a seed; each variant of finetune_all then starts from the same head:

- rate_low, rate_high: half and twice the learning rates;
- longer: ten epochs, of which the best on validation is kept;
- mixup, cutmix: of half of the batches, with the Beta distribution's parameter 0.2 and 1.0 (timm's own Mixup);
- doubtful: a training image's loss is multiplied by the out-of-fold probability of its label (at least 0.2), as the
  audit of labels has it, and divided by the mean;
- last_weights, last_probabilities: the mean over the last three epochs, of one training;
- two_weights, two_probabilities: the mean over rate_low and rate_high (Wortsman et al. 2022, "Model soups");
- views_N: test-time augmentation.

Every number is the difference to the recipe of `twofold init` on the same seed; log loss and accuracy are after Platt
scaling with the same validation images, which flatters all variants alike. Every finished training is kept beside the
results of the other studies and not repeated.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.mixup import Mixup
from torch import Tensor

from bench.harness.hardware import describe_machine, hardware_name
from bench.studies.model_quality import UPRIGHT, Case, paired_interval, write_images
from bench.studies.tables import RESULTS, markdown, show
from bench.workloads.generated_tasks import LABELS
from bench.workloads.step_commands import ROOT, step_commands, write_demo_params
from twofold.audit.label_issues import out_of_fold_probabilities
from twofold.core.code_digest import code_digest
from twofold.data.prepared import PreparedDataset
from twofold.metrics.classification import classification_metrics
from twofold.metrics.platt_scaling import fit_platt_scaling
from twofold.model.classifier import find_backbone
from twofold.model.device import device
from twofold.model.inference import VIEWS, probabilities
from twofold.orchestration.params_file import read
from twofold.steps import finetune_all
from twofold.training import data_loader, loop, train_step
from twofold.training.feature_extraction import extract_features
from twofold.training.pretrained_weights import pretrained

NAME = "recipe_choices"
METRICS = ("log_loss", "roc_auc", "accuracy")
LAST = 3  # epochs that last_weights and last_probabilities average
LEAST = 0.2  # weight of a training image whose label is doubtful, before the division by the mean
State = dict[str, Tensor]


class Variant(NamedTuple):
    """A training: changes of parameters (factors of learning rates, values of others), and what else is done."""

    rates: float = 1.0
    epochs: int | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    doubtful: bool = False


TRAININGS = {
    "recipe": Variant(),
    "rate_low": Variant(rates=0.5),
    "rate_high": Variant(rates=2.0),
    "longer": Variant(epochs=10),
    "mixup": Variant(mixup=0.2),
    "cutmix": Variant(cutmix=1.0),
    "doubtful": Variant(doubtful=True),
}


class Trained(NamedTuple):
    """The averaged weights after every epoch, the number of the kept epoch, and the CPU seconds."""

    states: list[State]
    kept: int
    seconds: float


def main() -> None:
    """Run what is not yet there, keep it, and print a table a task."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.studies.{NAME}", description=__doc__)
    tasks = ("elpv", *LABELS)
    parser.add_argument("--tasks", nargs="+", choices=tasks, default=tasks)
    parser.add_argument("--rate", type=float, default=0.3, help="of generated positive images (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (%(default)s)")
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, default=[*TRAININGS])
    parser.add_argument("--fraction", type=float, default=1, help="of the images, to try the study (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results (%(default)s)")
    options = parser.parse_args()
    if device().type != "cpu":
        parser.error("a GPU replays its first steps, without what a variant changes; set TWOFOLD_DEVICE=cpu")
    cases = [
        Case(task, None if task == "elpv" else options.rate, seed)
        for seed in range(options.seeds)
        for task in options.tasks
    ]
    runs = [(case, _run_or_read(case, options)) for case in cases]
    tables = []
    for task in options.tasks:
        found = [run for case, run in runs if case.task == task]
        tables += [f"{task}, {found[0]['images']} validation images, {len(found)} seeds:", choices_table(found)]
    show(NAME, *tables, seeds=f"seeds 0 to {options.seeds - 1}", folder=options.out)


def choices_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """The recipe's means, and every variant's mean difference to it with its 95 % interval over the seeds."""
    recipe = [run["variants"]["recipe"] for run in runs]
    seconds = statistics.mean(run["seconds"] for run in recipe)
    means = [f"{statistics.mean(run[metric] for run in recipe):.4f}" for metric in METRICS]
    rows = [["recipe", *means, f"{seconds:.0f} s"]]
    for name in runs[0]["variants"]:
        variant = [run["variants"][name] for run in runs]
        pairs = [[a[metric] - b[metric] for a, b in zip(variant, recipe, strict=True)] for metric in METRICS]
        cost = statistics.mean(run["seconds"] for run in variant) / seconds
        rows += [[name, *map(paired_interval, pairs), f"{cost:.2f}x"]] if name != "recipe" else []
    return markdown(["", *METRICS, "CPU of the training"], rows)


def _run_or_read(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """The metrics of every variant of a case; from its file, if it has the same trainings, size and code."""
    path = options.out / NAME / hardware_name() / f"{case.name}.json"
    digest = code_digest("twofold.steps.finetune_all")
    made_from = {"trainings": options.trainings, "fraction": options.fraction, "code": digest}
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if kept["made_from"] == made_from:
            return kept
    with tempfile.TemporaryDirectory(prefix="twofold-recipe-") as name:
        study = _Study(case, Path(name), options.fraction)
        trained = {each: study.train(TRAININGS[each]) for each in options.trainings}
        variants = dict(study.variants(trained))
    run = {"variants": variants, "images": len(study.target), "made_from": made_from, "machine": describe_machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(run, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    draft.rename(path)
    print(f"{case.name}: {variants['recipe']}", flush=True)
    return run


class _Study:
    """A case's prepared images and trained head, and trainings that start from them."""

    def __init__(self, case: Case, folder: Path, fraction: float) -> None:
        """Run the steps before finetune_all."""
        self.folder, params = folder, folder / "params.yaml"
        os.environ |= {"TWOFOLD_LIVE": "off", "TWOFOLD_CACHE": str(folder / "cache")}
        seeds = [f"{step}.seed={case.seed}" for step in ("train_head", "finetune_all")]
        positive = "defective" if case.task == "elpv" else LABELS[case.task][1]
        data = [f"ingest.source={folder / 'images'}", f"ingest.positive={positive}"]
        write_demo_params(params, *seeds, *data, *(() if case.task == "elpv" else UPRIGHT))
        write_images(case, folder / "images", fraction)
        commands = step_commands(params, folder)
        for step in ("ingest", "preprocess", "train_head"):
            subprocess.run([sys.executable, *commands[step]], cwd=ROOT, check=True)
        self.sections, self.data = read(params), PreparedDataset.open(folder / "data")
        self.rows = self.data.rows("validation")
        self.target = self.data.target[self.rows]

    def train(self, variant: Variant) -> Trained:
        """Run finetune_all with what the variant changes, and keep the weights of all epochs."""
        params = cast(finetune_all.FinetuneAll, self.sections["finetune_all"])
        rates = {key: getattr(params, key) * variant.rates for key in ("learning_rate", "head_learning_rate")}
        params = params.model_copy(update=rates | ({"epochs": variant.epochs} if variant.epochs else {}))
        states: list[State] = []
        histories: list[Any] = []
        original = loop.train

        def train(network: torch.nn.Module, *words: Any, judge: Any, **named: Any) -> Any:
            def keep() -> Any:
                states.append({name: value.detach().clone() for name, value in network.state_dict().items()})
                return judge()

            histories.append(original(network, *words, judge=keep, **named))
            return histories[0]

        begin = time.process_time()
        os.environ["TWOFOLD_CHECKPOINTS"] = tempfile.mkdtemp(dir=self.folder)  # variants have equal parameters
        out = Path(tempfile.mkdtemp(dir=self.folder))
        with mock.patch.object(loop, "train", train), self._changed(variant):
            finetune_all.finetune_all(
                params, self.folder / "data", self.folder / "head", model=out / "model", metrics=out / "metrics.json"
            )
        return Trained(states, histories[0].best_epoch, time.process_time() - begin)

    @contextmanager
    def _changed(self, variant: Variant) -> Iterator[None]:
        """Training batches that are mixed, or whose images have weights."""
        if not (variant.mixup or variant.cutmix or variant.doubtful):
            yield
            return
        weights = torch.from_numpy(self._label_confidence()).float() if variant.doubtful else None
        mix = None if variant.doubtful else Mixup(variant.mixup, variant.cutmix, prob=0.5, num_classes=2)
        inputs, forward, entropy = (
            data_loader.TrainingBatches.inputs,
            data_loader.TrainingBatches.forward,
            train_step.cross_entropy,
        )
        drawn: list[Any] = []  # of the batch whose loss comes next: its share of the mixed labels, or its weights

        def weighted_inputs(batches: Any, epoch: loop.Epoch) -> Iterator[tuple[Tensor, ...]]:
            np.random.seed(epoch.address)  # timm draws from numpy's own generator
            for batch, tensors in zip(epoch.batches, inputs(batches, epoch), strict=True):
                drawn[:] = [] if weights is None else [weights[torch.from_numpy(batch)]]
                yield tensors

        def mixed_forward(batches: Any, pixels: Tensor, *draws: Tensor) -> Tensor:
            if mix is not None:
                pixels = pixels.permute(0, 3, 1, 2).float()
                drawn[:] = [mix._mix_batch(pixels)]
                pixels = pixels.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
            return forward(batches, pixels, *draws)

        def changed_entropy(logits: Tensor, targets: Tensor, classes: Tensor | None, smoothing: float) -> Tensor:
            if mix is not None:
                own, other = (entropy(logits, each, classes, smoothing) for each in (targets, targets.flip(0)))
                return own * float(drawn[0]) + other * (1 - float(drawn[0]))
            each = torch.nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
            return (each * cast(Tensor, drawn[0])).mean()

        with (
            mock.patch.object(data_loader.TrainingBatches, "inputs", weighted_inputs),
            mock.patch.object(data_loader.TrainingBatches, "forward", mixed_forward),
            mock.patch.object(train_step, "cross_entropy", changed_entropy),
        ):
            yield

    def _label_confidence(self) -> NDArray[np.float64]:
        """The weight of each training image, mean 1: the out-of-fold probability of its label, at least LEAST."""
        section, rows = self.sections["train_head"], self.data.rows("train")
        made, base = pretrained(section.backbone, section.weights, 0.0, self.data.size)  # type: ignore[attr-defined]
        vectors = extract_features(made, section.backbone, base, self.data, rows, 0)  # type: ignore[attr-defined]
        target, group = self.data.target[rows], self.data.column("group")[rows]
        positive = out_of_fold_probabilities([vectors], np.arange(len(rows)), target, group)
        confidence = np.maximum(LEAST, np.where(target == 1, positive, 1 - positive))
        return np.asarray(confidence / confidence.mean())

    def variants(self, trained: Mapping[str, Trained]) -> Iterator[tuple[str, dict[str, float]]]:
        """The metrics of all trainings, and of what can be made of their weights."""
        recipe = trained["recipe"]
        for name, each in trained.items():
            yield name, self._measure(self._predict(each.states[each.kept]), each.seconds)
        kept, last = recipe.states[recipe.kept], recipe.states[-LAST:]
        free = self.sections["finetune_all"].orientation_free  # type: ignore[attr-defined]
        for views in VIEWS if free else (1, 2):
            yield f"views_{views}", self._measure(self._predict(kept, views), recipe.seconds)
        yield "last_weights", self._measure(self._predict(_mean(last)), recipe.seconds)
        yield "last_probabilities", self._measure(np.mean([*map(self._predict, last)], axis=0), recipe.seconds)
        if {"rate_low", "rate_high"} <= trained.keys():
            pair = [trained[name] for name in ("rate_low", "rate_high")]
            states, seconds = [each.states[each.kept] for each in pair], sum(each.seconds for each in pair)
            yield "two_weights", self._measure(self._predict(_mean(states)), seconds)
            yield "two_probabilities", self._measure(np.mean([*map(self._predict, states)], axis=0), seconds)

    def _predict(self, state: State, views: int | None = None) -> NDArray[np.float64]:
        head, params = self.sections["train_head"], self.sections["finetune_all"]
        name = head.backbone  # type: ignore[attr-defined]
        network, _ = pretrained(name, head.weights, 0.0, self.data.size)  # type: ignore[attr-defined]
        network.load_state_dict(state)
        architecture = find_backbone(name, self.data.size)
        batches = (self.data.pixels(self.rows[first : first + 16]) for first in range(0, len(self.rows), 16))
        facts: dict[str, Any] = {"mean": architecture.mean, "std": architecture.std, "precision": "float32"}
        return probabilities(network, batches, views=views or params.views, **facts)  # type: ignore[attr-defined]

    def _measure(self, probability: NDArray[np.float64], seconds: float) -> dict[str, float]:
        calibrated = fit_platt_scaling(self.target, probability).calibrate(probability)
        found = classification_metrics(self.target, calibrated, 0.5)
        return {metric: found[metric] for metric in METRICS} | {"seconds": round(seconds, 1)}


def _mean(states: Sequence[State]) -> State:
    """The mean of the weights; of counters, the last."""
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[-1].items()
    }


if __name__ == "__main__":
    main()
