"""B7: training batches from the prepared arrays on one core, against files in a DataLoader and against a step.

Ours reads the memory map, turns and mirrors each image in its own way, and normalises; the DataLoader decodes,
resizes, mirrors and normalises the same photographs in two processes. Beside a fine-tuning step on the same images,
the batches must be next to nothing.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.harness.hardware import on
from bench.harness.isolated_process import Apart
from bench.harness.timing import Comparison, Limit, clocked, compare, sized
from bench.peers import defaults, timm_loop
from bench.workloads.photographs import made_ready, photographs, pixel_difference, preparing, taken_in
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import BACKBONES
from twofold.model.device import make_deterministic
from twofold.model.inference import normalise
from twofold.training.augmentation import Augmentation, augment, draw_augmentation, seeded_generator

COUNT, SIZE, WORKERS = sized(1024, 64), 224, 2
BATCH = on(cpu=16, gpu=256)
AT_ONCE = sized(256, 64)
STEPS = sized(4, 1)  # of the training that the batches are held against
AUGMENTATION = Augmentation(flips=True, orientation_free=True, crop_min_area=1, brightness=0, contrast=0)


def run() -> list[Comparison]:
    """Both comparisons, on one set of photographs."""
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
        place = Path(name)
        folders = photographs(place, COUNT, 500, 375)
        taken_in(folders, "bad", place)
        data = made_ready(preparing(SIZE), place)
        apart = pixel_difference("B7", data, folders, SIZE)
        ours = Apart(made, data.directory)
        equal = f"mean difference of an unturned pixel {apart:.2f} levels (at most 1)"
        words = f"memory map, any of eight turns, normalised; batch {BATCH}, one core"
        loader = Apart(defaults.loading, folders, SIZE, BATCH, WORKERS)
        limit = Limit(copying(len(data)), "writing the finished batches once on one core, measured in this run")
        first = compare(
            "B7",
            f"{len(data)} images of 500x375 as normalised batches of {SIZE} px",
            part="loader",
            ours=(words, ours),
            peer=(f"ImageFolder, Resize, two random flips, Normalize; DataLoader with {WORKERS} workers", loader),
            equal=equal,
            images=len(data),
            limit=limit,
        )
        loader.close()
        some = min(BATCH * STEPS, int(np.count_nonzero(data.split == "train")))
        trained = Apart(timm_loop.steps, data.directory, some, BATCH)
        second = compare(
            "B7",
            f"the batches of {some} images, beside training ResNet-50 on them",
            part="step",
            ours=(words, lambda: ours(some)),
            peer=(f"{timm_loop.WORDS}; batch {BATCH}", trained),
            equal="the same images",
            images=some,
        )
        for each in (ours, trained):
            each.close()
    return [first, second]


def made(directory: Path) -> Callable[..., int]:
    """For a process apart, which computes on one core."""
    make_deterministic()  # as a training does
    torch.set_num_threads(1)
    data = PreparedDataset.open(directory)
    architecture = BACKBONES["resnet50"]

    def work(count: int = len(data)) -> int:
        total = 0
        for start in range(0, count, BATCH):
            rows = np.arange(start, min(start + BATCH, count))
            pixels = torch.from_numpy(data.pixels(rows))
            turned = augment(
                pixels, AUGMENTATION, draw_augmentation(len(pixels), AUGMENTATION, seeded_generator(0, start))
            )
            total += len(normalise(turned, architecture.mean, architecture.std))
        return total

    return work


def copying(images: int) -> float:
    """Seconds to write so many finished images once, on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    batch, other = (torch.ones(AT_ONCE, 3, SIZE, SIZE) for _ in range(2))  # far more than a cache holds
    best = min(clocked(lambda: batch.copy_(other)) for _ in range(5))
    torch.set_num_threads(threads)
    return best * images / AT_ONCE
