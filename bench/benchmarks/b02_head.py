"""B2: ten epochs of the head on a frozen ResNet-50, against running the base in every epoch.

Peer (a) is the code of most tutorials; (b) uses bf16 and channels_last.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from bench.harness.hardware import RESNET50_FLOPS, by_device, matmul_time
from bench.harness.isolated_process import IsolatedProcess
from bench.harness.timing import Comparison, Limit, compare, work_size
from bench.workloads.paced_training import RESNET50, SIZE, training_config
from bench.workloads.prepared_images import generated
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import build_classifier, make_head
from twofold.model.device import device, make_deterministic
from twofold.model.inference import normalise
from twofold.training.feature_extraction import extract_features
from twofold.training.history import validation_metrics
from twofold.training.loop import train
from twofold.training.optimizer import decay_groups

EPOCHS = 10
TRAIN, VALIDATION = work_size(by_device(cpu=32, gpu=3072), 8), work_size(by_device(cpu=8, gpu=1024), 4)
BATCH = by_device(cpu=32, gpu=256)  # of the peers
PEERS = {"a": ("torch's defaults (fp32, NCHW)", False), "b": ("bf16 autocast, channels_last", True)}


def run() -> list[Comparison]:
    """Compare with random weights, which do not change the speed."""
    make_deterministic()
    torch.manual_seed(0)
    classifier = build_classifier("resnet50", 0.5)
    plain = build_classifier("resnet50", 0.5)
    plain.load_state_dict(classifier.state_dict())
    classifier.to(device()).to(memory_format=torch.channels_last)
    plain.to(device()).eval()
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as folder:
        data = generated(Path(folder) / "data", TRAIN, VALIDATION, SIZE)
        rows = {split: data.rows(split) for split in ("train", "validation")}
        targets = {split: data.target[numbers] for split, numbers in rows.items()}
        # The head's training in params.yaml, with ten epochs.
        config = replace(training_config(32), epochs=EPOCHS, warmup_epochs=1, label_smoothing=0, ema_decay=0)
        config = replace(config, mixed_precision=False)

        def extract(split: str) -> npt.NDArray[np.float32]:
            return extract_features(classifier, "resnet50", "bench", data, rows[split], 0)

        def ours() -> None:
            os.environ["TWOFOLD_CACHE"] = tempfile.mkdtemp(dir=folder)  # so that every round computes the features
            features = {split: torch.from_numpy(extract(split)).to(device()) for split in rows}
            head = make_head(RESNET50.features, 0.5).to(device())

            def judge() -> dict[str, float]:
                head.eval()
                with torch.inference_mode():
                    probability = head(features["validation"]).double().softmax(dim=1)[:, 1]
                return validation_metrics(targets["validation"], probability.cpu().numpy())

            train(
                head,
                lambda epoch: ((features["train"][torch.from_numpy(chosen).to(device())],) for chosen in epoch.batches),
                targets["train"],
                decay_groups(list(head.parameters()), 1e-3, 0.01),
                config,
                judge=judge,
                label="head",
            )

        os.environ["TWOFOLD_CACHE"] = tempfile.mkdtemp(dir=folder)
        features = extract("validation")
        with torch.no_grad():
            pixels = torch.from_numpy(data.pixels(rows["validation"])).to(device())
            batch = normalise(pixels, RESNET50.mean, RESNET50.std)
            reference = plain.features(batch.contiguous()).cpu().numpy()
        cosine = float((features * reference).sum() / np.sqrt((features**2).sum() * (reference**2).sum()))
        if cosine < 0.999:
            raise SystemExit(f"B2: the cosine of both sides' features is {cosine:.5f}; this is not the same work")
        seconds, rate = matmul_time(RESNET50_FLOPS * (TRAIN + VALIDATION))
        limit = Limit(seconds, f"the base once over {TRAIN + VALIDATION} images of 8.2 GFLOP at {rate}")
        return [_compare_with(part, ours, data.directory, cosine, limit) for part in PEERS]


def _compare_with(part: str, ours: Callable[[], None], data: Path, cosine: float, limit: Limit) -> Comparison:
    words, mixed = PEERS[part]
    peer = IsolatedProcess(_peer, data, mixed)
    comparison = compare(
        "B2",
        f"train_head, {EPOCHS} epochs, ResNet-50, {TRAIN} + {VALIDATION} images of {SIZE} px",
        part=part,
        ours=("features once, then the head on them", ours),
        peer=(f"the frozen base in every epoch, batch {BATCH}; {words}", peer),
        warm_up=lambda: [ours(), peer(1)],  # type: ignore[func-returns-value]
        equal=f"cosine of the features {cosine:.5f} (at least 0.999)",
        images=TRAIN + VALIDATION,
        limit=limit,
    )
    peer.close()
    return comparison


def _peer(directory: Path, mixed: bool) -> Callable[..., None]:
    """Prepare the peer, which runs the base in every epoch; `mixed`: in bf16 and channels_last."""
    torch.manual_seed(0)
    data = PreparedDataset.open(directory)
    order = torch.channels_last if mixed else torch.contiguous_format
    plain = build_classifier("resnet50", 0.5).to(device()).to(memory_format=order).eval()

    def work(epochs: int = EPOCHS) -> None:
        head = make_head(RESNET50.features, 0.5).to(device())
        optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)
        for _ in range(epochs):
            for split in ("train", "validation"):
                head.train(split == "train")
                rows = data.rows(split)
                for start in range(0, len(rows), BATCH):
                    chosen = rows[start : start + BATCH]
                    pixels = torch.from_numpy(data.pixels(chosen)).to(device())
                    images = normalise(pixels, RESNET50.mean, RESNET50.std).contiguous(memory_format=order)
                    with torch.no_grad(), torch.autocast(device().type, dtype=torch.bfloat16, enabled=mixed):
                        features = plain.features(images)
                    loss = F.cross_entropy(head(features.float()), torch.from_numpy(data.target[chosen]).to(device()))
                    if split == "train":
                        optimizer.zero_grad()
                        loss.backward()
                        optimizer.step()

    return work
