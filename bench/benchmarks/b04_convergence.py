"""B4: fine-tuning every weight until a ROC-AUC is reached that the head alone does not reach: wall time.

`python -m bench.benchmarks.b04_convergence [--target 0.92]` runs it with another target than `python -m bench B4`. On the sample data,
EfficientNet-Lite0 from its packaged weights; all sides start from the same trained head and are asked after every
epoch for the ROC-AUC of the validation and the test images together, in one view. A round is a seed; the clock of a
side runs from its first step until it is there, judging included.
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

from bench.harness.hardware import on
from bench.harness.isolated_process import Apart
from bench.harness.results import told
from bench.harness.timing import Comparison, compare, sized, trial
from bench.peers import timm_loop
from bench.workloads.paced_training import STILL, TURNED, OverError, arithmetic
from bench.workloads.photographs import ROOT, cells, made_ready, preparing, taken_in
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import BACKBONES, Classifier
from twofold.model.device import autocast, device, make_deterministic
from twofold.model.inference import normalise, probabilities
from twofold.orchestration.params_file import load_yaml
from twofold.steps.train_head import TrainHead, train_head
from twofold.training.data_loader import TrainingBatches
from twofold.training.loop import SHARED, TrainingConfig, train
from twofold.training.optimizer import layer_decay_groups, lr_factor
from twofold.training.pretrained_weights import pretrained

NAME, SIZE = "efficientnet_lite0", 192
BACKBONE = BACKBONES[NAME]
TARGET = 0.92
EPOCHS = sized(10, 1)
ROUNDS = 1  # of a quarter of an hour; a round more is a seed more
BATCH, PEER_BATCH = on(cpu=16, gpu=64), on(cpu=32, gpu=64)
WORDS = {
    "a": "fp32, NCHW, Adam 1e-4 held, live norms",
    "b": "timm's AdamW 2e-4 with a cosine, bf16 autocast, channels_last, live norms",
}


def run(target: float = TARGET) -> list[Comparison]:
    """One seed beside either peer."""
    make_deterministic()
    if trial():
        target = 0.5  # which any network passes
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        place = Path(name)
        os.environ["TWOFOLD_CACHE"], os.environ["TWOFOLD_LIVE"] = str(place / "memo"), "off"
        taken_in(cells(place), "defective", place)
        data = made_ready(preparing(SIZE), place)
        start = headed(data, place)
        return [against(part, data, start, target) for part in WORDS]


def headed(data: PreparedDataset, place: Path) -> Path:
    """The whole model with its head trained, as every side begins."""
    section: dict[str, Any] = load_yaml(ROOT / "params.yaml")["train_head"]
    section |= {"backbone": NAME, "weights": "packaged", "audit": dict.fromkeys(section["audit"], "ignore")}
    if trial():
        section |= {"flips": False, "orientation_free": False, "epochs": 2}
    written = {"metrics": place / "head.json", "audit": place / "audit-head"}
    train_head(TrainHead.model_validate(section), data.directory, model=place / "head", **written)
    classifier, _ = pretrained(NAME, "packaged", 0.5)
    classifier.head.load_state_dict(load_file(place / "head" / "head.safetensors"))
    save_file(classifier.state_dict(), place / "start.safetensors")
    return place / "start.safetensors"


def against(part: str, data: PreparedDataset, start: Path, target: float) -> Comparison:
    """Ours, which must reach the target, beside one of the peers."""
    reached: dict[str, list[tuple[int, float]]] = {"ours": [], "peer": []}
    other = Apart(peer, data.directory, start, part, target)

    def ours() -> None:
        reached["ours"].append(tuned(data, start, target, seed=len(reached["ours"])))

    def theirs() -> None:
        found: Any = other(len(reached["peer"]))
        reached["peer"].append(found)

    found = compare(
        "B4",
        f"{NAME}, {len(data.rows('train'))} training images of {SIZE} px, until a ROC-AUC of {target}",
        part=part,
        ours=(f"the training loop as in params.yaml over at most {EPOCHS} epochs, batch {BATCH}", ours),
        peer=(f"{WORDS[part]}, batch {PEER_BATCH}", theirs),
        warm_up=lambda: None,  # what is trained once is waited for once
        rounds=ROUNDS,
        equal="",  # known when all have run
        same_work=False,
    )
    other.close()
    words = {side: ", ".join(told_of(*each) for each in of) for side, of in reached.items()}
    return replace(found, equal=f"ROC-AUC after epochs, a seed each: ours {words['ours']}; the peer {words['peer']}")


def told_of(epoch: int, auc: float) -> str:
    """How far a side came, in words; epoch 0 stands for a target that was not reached."""
    if epoch:
        return f"{auc:.4f} after {epoch}"
    return f"{auc:.4f} at best and not there in {EPOCHS}, all of which count, so that the ratio is at least this"


def tuned(data: PreparedDataset, start: Path, target: float, seed: int) -> tuple[int, float]:
    """Fine-tune as the step does until the target is reached; (epoch, ROC-AUC)."""
    section: dict[str, Any] = load_yaml(ROOT / "params.yaml")["finetune_all"] | {"epochs": EPOCHS, "seed": seed}
    classifier = loaded(start).to(memory_format=torch.channels_last)
    rows, judged = data.rows("train"), judging(data)
    shown = TrainingBatches(classifier, data, rows, TURNED, mean=BACKBONE.mean, std=BACKBONE.std, batch_size=BATCH)
    found: list[float] = []

    def judge() -> dict[str, float]:
        if not found:  # before the first step there is nothing to judge
            found.append(0.0)
            return STILL
        batches = (data.pixels(judged[i : i + BATCH]) for i in range(0, len(judged), BATCH))
        with autocast(device()):
            scores = probabilities(
                classifier, batches, mean=BACKBONE.mean, std=BACKBONE.std, views=1, precision="float32"
            )
        found.append(float(roc_auc_score(data.target[judged], scores)))
        if found[-1] >= target:
            raise OverError
        return STILL

    plan = TrainingConfig(
        **{key: section[key] for key in SHARED} | {"batch_size": BATCH},
        patience=None,
        class_weights=None,
        frozen_norms=True,
        mixed_precision=True,
        select_by="log_loss",
    )
    rates = layer_decay_groups(
        classifier,
        BACKBONE.stages,
        **{key: section[key] for key in ("learning_rate", "head_learning_rate", "stage_decay", "weight_decay")},
    )
    try:
        with arithmetic(classifier):
            train(
                classifier,
                shown.inputs,
                data.target[rows],
                rates,
                plan,
                judge=judge,
                label="fine-tuning",
                forward=shown.forward,
            )
    except OverError:
        return len(found) - 1, found[-1]
    raise SystemExit(f"bench: B4: ours came to {max(found):.4f} in {EPOCHS} epochs, not to {target}")


def peer(directory: Path, start: Path, part: str, target: float) -> Callable[[int], tuple[int, float]]:
    """The same in a process of its own, (a) with defaults or (b) as timm's train.py has it; (0, best) if it fails."""
    data = PreparedDataset.open(directory)
    rows, judged = data.rows("train"), judging(data)
    mixed = part == "b"
    order = torch.channels_last if mixed else torch.contiguous_format

    def images(chosen: npt.NDArray[np.int64], random: np.random.Generator | None) -> torch.Tensor:
        pixels = data.pixels(chosen)
        if random is not None:
            for number, (mirrored, turned) in enumerate(random.integers(0, 2, (len(chosen), 2))):
                pixels[number] = pixels[number, :: 1 - 2 * mirrored, :: 1 - 2 * turned]
        batch = normalise(torch.from_numpy(pixels).to(device()), BACKBONE.mean, BACKBONE.std)
        return batch.contiguous(memory_format=order)

    def work(seed: int) -> tuple[int, float]:
        random = np.random.default_rng(seed)
        torch.manual_seed(seed)
        torch.backends.cudnn.benchmark = mixed  # as train.py sets it
        network = loaded(start).to(memory_format=order)
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
                wanted = torch.from_numpy(data.target[chosen]).to(device())
                with torch.autocast(device().type, dtype=torch.bfloat16, enabled=mixed):
                    loss = F.cross_entropy(network(images(chosen, random)), wanted)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            network.eval()
            scores = []
            with torch.no_grad(), torch.autocast(device().type, dtype=torch.bfloat16, enabled=mixed):
                for first in range(0, len(judged), PEER_BATCH):
                    logits = network(images(judged[first : first + PEER_BATCH], None))
                    scores.append(logits.float().softmax(dim=1)[:, 1].cpu())
            best = max(best, float(roc_auc_score(data.target[judged], torch.cat(scores).numpy())))
            if best >= target:
                return epoch + 1, best
        return 0, best

    return work


def loaded(start: Path) -> Classifier:
    """The model that every side begins with, on the device."""
    classifier, _ = pretrained(NAME, "packaged", 0.5)
    classifier.load_state_dict(load_file(start))
    return classifier.to(device())


def judging(data: PreparedDataset) -> npt.NDArray[np.int64]:
    """The rows by which every side is judged."""
    return np.concatenate([data.rows("validation"), data.rows("test")])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.benchmarks.b04_convergence", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--target", type=float, default=TARGET, help="ROC-AUC (%(default)s)")
    print("\n".join(map(told, run(parser.parse_args().target))), flush=True)


if __name__ == "__main__":
    main()
