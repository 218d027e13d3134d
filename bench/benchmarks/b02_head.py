"""B2: ten epochs of the head on a frozen ResNet-50, against running the base in every epoch.

Against that as most people write it (a), and in bf16 and channels_last (b).
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from bench.harness.hardware import RESNET50, on, products
from bench.harness.isolated_process import Apart
from bench.harness.timing import Comparison, Limit, compare, sized
from bench.workloads.prepared_images import generated
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import BACKBONES, build_classifier, make_head
from twofold.model.device import device, make_deterministic
from twofold.model.inference import normalise
from twofold.training.feature_extraction import extract_features
from twofold.training.history import validation_figures
from twofold.training.loop import TrainingConfig, train
from twofold.training.optimizer import decay_groups

SIZE, EPOCHS = 224, 10
TRAIN, VALIDATION = sized(on(cpu=32, gpu=3072), 8), sized(on(cpu=8, gpu=1024), 4)
BATCH = on(cpu=32, gpu=256)  # of the peers
PEERS = {"a": ("torch's defaults (fp32, NCHW)", False), "b": ("bf16 autocast, channels_last", True)}
FEATURES = BACKBONES["resnet50"].features


def run() -> list[Comparison]:
    """Random weights: speed does not depend on their values."""
    make_deterministic()
    torch.manual_seed(0)
    classifier = build_classifier("resnet50", 0.5)
    plain = build_classifier("resnet50", 0.5)
    plain.load_state_dict(classifier.state_dict())
    classifier.to(device()).to(memory_format=torch.channels_last)
    plain.to(device()).eval()
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as place:
        data = generated(Path(place) / "data", TRAIN, VALIDATION, SIZE)
        rows = {split: data.rows(split) for split in ("train", "validation")}
        targets = {split: data.target[found] for split, found in rows.items()}

        def ours() -> None:
            # A new memo each time: what is measured is the work, not the memory of it.
            os.environ["TWOFOLD_CACHE"] = tempfile.mkdtemp(dir=place)
            seen = {
                split: torch.from_numpy(extract_features(classifier, "resnet50", "bench", data, found, 0)).to(device())
                for split, found in rows.items()
            }
            head = make_head(FEATURES, 0.5).to(device())

            def judge() -> dict[str, float]:
                head.eval()
                with torch.inference_mode():
                    found = head(seen["validation"]).double().softmax(dim=1)[:, 1]
                return validation_figures(targets["validation"], found.cpu().numpy())

            train(
                head,
                lambda epoch: ((seen["train"][torch.from_numpy(chosen).to(device())],) for chosen in epoch.batches),
                targets["train"],
                decay_groups(list(head.parameters()), 1e-3, 0.01),
                plan(),
                judge=judge,
                label="head",
            )

        os.environ["TWOFOLD_CACHE"] = tempfile.mkdtemp(dir=place)
        found = extract_features(classifier, "resnet50", "bench", data, rows["validation"], 0)
        with torch.no_grad():
            batch = normalise(torch.from_numpy(data.pixels(rows["validation"])).to(device()), *statistics())
            other = plain.features(batch.contiguous()).cpu().numpy()
        likeness = float((found * other).sum() / np.sqrt((found**2).sum() * (other**2).sum()))
        if likeness < 0.999:
            raise SystemExit(f"B2: the cosine of both sides' features is {likeness:.5f}; that is not the same work")
        seconds, rate = products(RESNET50 * (TRAIN + VALIDATION))
        limit = Limit(seconds, f"the base once over {TRAIN + VALIDATION} images of 8.2 GFLOP at {rate}")
        return [against(part, ours, data.directory, likeness, limit) for part in PEERS]


def against(part: str, ours: Callable[[], None], data: Path, likeness: float, limit: Limit) -> Comparison:
    """Ours beside one of the peers."""
    words, mixed = PEERS[part]
    every_epoch = Apart(peer, data, mixed)
    found = compare(
        "B2",
        f"train_head, {EPOCHS} epochs, ResNet-50, {TRAIN} + {VALIDATION} images of {SIZE} px",
        part=part,
        ours=("features once, then the head on them", ours),
        peer=(f"the frozen base in every epoch, batch {BATCH}; {words}", every_epoch),
        warm_up=lambda: [ours(), every_epoch(1)],  # type: ignore[func-returns-value]
        equal=f"cosine of the features {likeness:.5f} (at least 0.999)",
        images=TRAIN + VALIDATION,
        limit=limit,
    )
    every_epoch.close()
    return found


def peer(directory: Path, mixed: bool) -> Callable[..., None]:
    """The base in every epoch, in a process of its own; `mixed` is bf16 and channels_last."""
    torch.manual_seed(0)
    data = PreparedDataset.open(directory)
    order = torch.channels_last if mixed else torch.contiguous_format
    plain = build_classifier("resnet50", 0.5).to(device()).to(memory_format=order).eval()

    def work(epochs: int = EPOCHS) -> None:
        head = make_head(FEATURES, 0.5).to(device())
        optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
        for _ in range(epochs):
            for split in ("train", "validation"):
                head.train(split == "train")
                found = data.rows(split)
                for start in range(0, len(found), BATCH):
                    chosen = found[start : start + BATCH]
                    pixels = torch.from_numpy(data.pixels(chosen)).to(device())
                    images = normalise(pixels, *statistics()).contiguous(memory_format=order)
                    with torch.no_grad(), torch.autocast(device().type, dtype=torch.bfloat16, enabled=mixed):
                        features = plain.features(images)
                    loss = F.cross_entropy(head(features.float()), torch.from_numpy(data.target[chosen]).to(device()))
                    if split == "train":
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()

    return work


def statistics() -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation that the base was pretrained with."""
    return BACKBONES["resnet50"].mean, BACKBONES["resnet50"].std


def plan() -> TrainingConfig:
    """The head's training as in params.yaml, ten epochs of it."""
    return TrainingConfig(
        epochs=EPOCHS,
        patience=None,
        batch_size=32,
        warmup_epochs=1,
        label_smoothing=0,
        class_weights=None,
        ema_decay=0,
        clip_norm=1,
        frozen_norms=True,
        mixed_precision=False,
        select_by="log_loss",
        seed=0,
    )
