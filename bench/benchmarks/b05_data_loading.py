"""B5: the time that a training from the prepared arrays spends on reading, augmenting and normalising its images."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from bench.harness.timing import Comparison, compare
from bench.workloads.paced_training import RESNET50, SIZE, PacedTraining, epoch_size, finetune_batches, random_resnet50
from bench.workloads.prepared_images import generated
from twofold.model.device import device, make_deterministic
from twofold.model.inference import normalise
from twofold.training.loop import Epoch


def run() -> list[Comparison]:
    """Compare epochs of the product's training loop with the same epochs on one batch."""
    make_deterministic()
    batch = epoch_size().batch
    images = 2 * epoch_size().images  # a difference of 1 % does not show in the shorter epochs of B3
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as folder:
        data = generated(Path(folder) / "data", images, 2, SIZE)
        rows = data.rows("train")
        targets = data.target[rows]
        classifier = random_resnet50()
        batches = finetune_batches(classifier, data, batch)
        ours = PacedTraining(classifier, batches.inputs, targets, batch, batches.forward)
        pixels = torch.from_numpy(data.pixels(rows[:batch])).to(device())
        ready = normalise(pixels, RESNET50.mean, RESNET50.std)

        def inputs(epoch: Epoch) -> Iterator[tuple[Tensor, ...]]:
            return ((ready[: len(chosen)],) for chosen in epoch.batches)

        peer = PacedTraining(random_resnet50(), inputs, targets, batch)
        source = "the GPU" if batches.feed.resident else "the memory map"
        comparison = compare(
            "B5",
            f"an epoch of {images} images of {SIZE} px, all layers of ResNet-50, batch {batch}",
            ours=(f"every image read from {source}, randomly rotated and flipped, normalised", ours),
            peer=("the same normalised batch, on the device, in every step", peer),
            images=images,
            equal="the same loop and steps; only the source of the images differs",
        )
        for training in (ours, peer):
            training.close()
    return [comparison]
