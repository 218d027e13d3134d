"""B4: wall time of fine-tuning all weights until a ROC-AUC that the head alone does not reach.

`python -m bench.benchmarks.b04_convergence [--target 0.92]` sets another target than `python -m bench B4`. Trains
EfficientNet-Lite0 on the sample data; all sides start from its packaged weights with the same trained head. After every
epoch, each side computes the ROC-AUC of the validation and test images together, in one view. A round is a seed; its
time runs from the first step until the target is reached, validation included.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from bench.harness.hardware import by_device
from bench.harness.isolated_process import IsolatedProcess
from bench.harness.results import format_comparison
from bench.harness.timing import Comparison, compare, is_trial, work_size
from bench.peers import timm_loop
from bench.workloads.paced_training import CONSTANT_METRICS, TrainingStoppedError, finetune_batches, finetuning_numerics
from bench.workloads.photographs import preprocess_params, run_ingest, run_preprocess, write_cells
from bench.workloads.step_commands import ROOT
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import BACKBONES, Classifier
from twofold.model.device import autocast, device, make_deterministic
from twofold.model.inference import normalise, probabilities
from twofold.orchestration.params_file import load_yaml
from twofold.steps.train_head import TrainHead, train_head
from twofold.training.loop import SHARED, train
from twofold.training.optimizer import layer_decay_groups, lr_factor
from twofold.training.pretrained_weights import pretrained
from twofold.training.train_step import TrainingConfig

NAME, SIZE = "efficientnet_lite0", 192
BACKBONE = BACKBONES[NAME]
TARGET = 0.92
EPOCHS = work_size(10, 1)
ROUNDS = 1  # of a quarter of an hour each
BATCH, PEER_BATCH = by_device(cpu=16, gpu=64), by_device(cpu=32, gpu=64)
PEERS = {
    "a": "fp32, NCHW, Adam 1e-4 constant, live norms",
    "b": "timm's AdamW 2e-4 with a cosine, bf16 autocast, channels_last, live norms",
}


def run(target: float = TARGET) -> list[Comparison]:
    """Compare with either peer."""
    make_deterministic()
    if is_trial():
        target = 0.5  # which any network reaches
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        os.environ["TWOFOLD_CACHE"], os.environ["TWOFOLD_LIVE"] = str(folder / "cache"), "off"
        run_ingest(write_cells(folder), "defective", folder)
        data = run_preprocess(preprocess_params(SIZE), folder)
        start = _train_head(data, folder)
        return [_compare_with(part, data, start, target) for part in PEERS]


def _train_head(data: PreparedDataset, folder: Path) -> Path:
    """Train the head; returns the file of the whole model's weights, with which every side starts."""
    section: dict[str, Any] = load_yaml(ROOT / "params.yaml")["train_head"]
    section |= {"backbone": NAME, "weights": "packaged", "audit": dict.fromkeys(section["audit"], "ignore")}
    if is_trial():
        section |= {"flips": False, "orientation_free": False, "epochs": 2}
    written = {"metrics": folder / "head.json", "audit": folder / "audit-head"}
    train_head(TrainHead.model_validate(section), data.directory, model=folder / "head", **written)
    classifier, _ = pretrained(NAME, "packaged", 0.5)
    classifier.head.load_state_dict(load_file(folder / "head" / "head.safetensors"))
    save_file(classifier.state_dict(), folder / "start.safetensors")
    return folder / "start.safetensors"


def _compare_with(part: str, data: PreparedDataset, start: Path, target: float) -> Comparison:
    reached: dict[str, list[tuple[int, float]]] = {"ours": [], "peer": []}
    process = IsolatedProcess(_peer, data.directory, start, part, target)

    def ours() -> None:
        reached["ours"].append(_finetune(data, start, target, seed=len(reached["ours"])))

    def peer() -> None:
        result: Any = process(len(reached["peer"]))
        reached["peer"].append(result)

    comparison = compare(
        "B4",
        f"{NAME}, {len(data.rows('train'))} training images of {SIZE} px, until a ROC-AUC of {target}",
        part=part,
        ours=(f"the training loop as in params.yaml over at most {EPOCHS} epochs, batch {BATCH}", ours),
        peer=(f"{PEERS[part]}, batch {PEER_BATCH}", peer),
        warm_up=lambda: None,  # a user trains once, without one
        rounds=ROUNDS,
        equal="",  # known after the runs
        same_work=False,
    )
    process.close()
    words = {side: ", ".join(_describe(*each) for each in results) for side, results in reached.items()}
    return replace(comparison, equal=f"ROC-AUC after epochs, per seed: ours {words['ours']}; the peer {words['peer']}")


def _describe(epoch: int, auc: float) -> str:
    """What a side reached; epoch 0: it did not reach the target."""
    if epoch:
        return f"{auc:.4f} after {epoch}"
    return f"{auc:.4f} at best, below the target after all {EPOCHS}, so the ratio is a lower bound"


def _finetune(data: PreparedDataset, start: Path, target: float, seed: int) -> tuple[int, float]:
    """Fine-tune as the step does until the target is reached; returns (epoch, ROC-AUC)."""
    section: dict[str, Any] = load_yaml(ROOT / "params.yaml")["finetune_all"] | {"epochs": EPOCHS, "seed": seed}
    classifier = _load(start).to(memory_format=torch.channels_last)
    scored = _scored_rows(data)
    batches = finetune_batches(classifier, data, BATCH, BACKBONE)
    aucs: list[float] = []

    def judge() -> dict[str, float]:
        if not aucs:  # called before the first step
            aucs.append(0.0)
            return CONSTANT_METRICS
        images = (data.pixels(scored[i : i + BATCH]) for i in range(0, len(scored), BATCH))
        with autocast(device()):
            scores = probabilities(
                classifier, images, mean=BACKBONE.mean, std=BACKBONE.std, views=1, precision="float32"
            )
        aucs.append(float(roc_auc_score(data.target[scored], scores)))
        if aucs[-1] >= target:
            raise TrainingStoppedError
        return CONSTANT_METRICS

    config = TrainingConfig(
        **{key: section[key] for key in SHARED} | {"batch_size": BATCH},
        patience=None,
        class_weights=None,
        frozen_norms=True,
        mixed_precision=True,
        select_by="log_loss",
    )
    rates = {key: section[key] for key in ("learning_rate", "head_learning_rate", "stage_decay", "weight_decay")}
    groups = layer_decay_groups(classifier, BACKBONE.stages, **rates)
    targets = data.target[data.rows("train")]
    try:
        with finetuning_numerics(classifier):
            train(classifier, batches.inputs, targets, groups, config, judge=judge, label="B4", forward=batches.forward)
    except TrainingStoppedError:
        return len(aucs) - 1, aucs[-1]
    raise SystemExit(f"bench: B4: ours reached {max(aucs):.4f} in {EPOCHS} epochs, not {target}")


def _peer(directory: Path, start: Path, part: str, target: float) -> Callable[[int], tuple[int, float]]:
    """Prepare a peer, (a) with defaults or (b) as timm's train.py; it returns (0, best) if it misses the target."""
    data = PreparedDataset.open(directory)
    rows, scored = data.rows("train"), _scored_rows(data)
    mixed = part == "b"
    order = torch.channels_last if mixed else torch.contiguous_format

    def images(chosen: npt.NDArray[np.int64], random: np.random.Generator | None) -> torch.Tensor:
        pixels = data.pixels(chosen)
        if random is not None:
            for number, (vertical, horizontal) in enumerate(random.integers(0, 2, (len(chosen), 2))):
                pixels[number] = pixels[number, :: 1 - 2 * vertical, :: 1 - 2 * horizontal]
        batch = normalise(torch.from_numpy(pixels).to(device()), BACKBONE.mean, BACKBONE.std)
        return batch.contiguous(memory_format=order)

    def work(seed: int) -> tuple[int, float]:
        random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        torch.backends.cudnn.benchmark = mixed  # as train.py sets it
        network = _load(start).to(memory_format=order)
        rate = 2e-4 if mixed else 1e-4
        optimizer = timm_loop.optimizer(network, rate) if mixed else torch.optim.Adam(network.parameters(), lr=rate)
        batches = -(-len(rows) // PEER_BATCH)
        best = 0.0
        for epoch in range(EPOCHS):
            network.train()
            for step, chosen in enumerate(np.array_split(random.permutation(rows), batches)):
                if mixed:
                    for group in optimizer.param_groups:
                        group["lr"] = rate * lr_factor(epoch * batches + step, batches // 2, EPOCHS * batches)
                targets = torch.from_numpy(data.target[chosen]).to(device())
                with torch.autocast(device().type, dtype=torch.bfloat16, enabled=mixed):
                    loss = F.cross_entropy(network(images(chosen, random)), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            network.eval()
            scores = []
            with torch.no_grad(), torch.autocast(device().type, dtype=torch.bfloat16, enabled=mixed):
                for first in range(0, len(scored), PEER_BATCH):
                    logits = network(images(scored[first : first + PEER_BATCH], None))
                    scores.append(logits.float().softmax(dim=1)[:, 1].cpu())
            best = max(best, float(roc_auc_score(data.target[scored], torch.cat(scores).numpy())))
            if best >= target:
                return epoch + 1, best
        return 0, best

    return work


def _load(start: Path) -> Classifier:
    classifier, _ = pretrained(NAME, "packaged", 0.5)
    classifier.load_state_dict(load_file(start))
    return classifier.to(device())


def _scored_rows(data: PreparedDataset) -> npt.NDArray[np.int64]:
    return np.concatenate([data.rows("validation"), data.rows("test")])


def main() -> None:
    """Run the benchmark with a target of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.benchmarks.b04_convergence", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--target", type=float, default=TARGET, help="ROC-AUC (%(default)s)")
    print("\n".join(map(format_comparison, run(parser.parse_args().target))), flush=True)


if __name__ == "__main__":
    main()
