"""B5: what a training from the prepared arrays loses by having to fetch, change and normalise its images."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from bench.harness.timing import Comparison, compare
from bench.workloads.paced_training import RESNET50, SIZE, TURNED, Paced, classifier, size
from bench.workloads.prepared_images import generated
from twofold.model.device import make_deterministic
from twofold.model.inference import normalise
from twofold.training.data_loader import TrainingBatches
from twofold.training.loop import Epoch


def run() -> list[Comparison]:
    """An epoch of the product's loop a round, on both sides; only the images differ."""
    make_deterministic()
    each = size()
    images = 2 * each.images  # what is looked for is a hundredth; B3's epoch is too short for that
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as place:
        data = generated(Path(place) / "data", images, 2, SIZE)
        rows = data.rows("train")
        targets = data.target[rows]
        trained = classifier()
        shown = TrainingBatches(
            trained, data, rows, TURNED, mean=RESNET50.mean, std=RESNET50.std, batch_size=each.batch
        )
        ours = Paced(trained, shown.inputs, targets, each.batch, shown.forward)
        other = classifier()
        pixels = torch.from_numpy(data.pixels(rows[: each.batch])).to(next(other.parameters()).device)
        ready = normalise(pixels, RESNET50.mean, RESNET50.std)

        def inputs(epoch: Epoch) -> Iterator[tuple[Tensor, ...]]:
            return ((ready[: len(chosen)],) for chosen in epoch.batches)

        same = Paced(other, inputs, targets, each.batch)
        found = compare(
            "B5",
            f"an epoch of {images} images of {SIZE} px, all layers of ResNet-50, batch {each.batch}",
            ours=(
                f"every image fetched from {'the GPU' if shown.feed.resident else 'the memory map'}, turned at random, "
                "normalised",
                ours,
            ),
            peer=("one normalised batch that lies on the device, in every step", same),
            images=images,
            equal="the same loop, the same steps; only where their images come from differs",
        )
        for paced in (ours, same):
            paced.close()
    return [found]
