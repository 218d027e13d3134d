"""B7: training batches from the prepared arrays on one core, against files in a DataLoader and a training step.

We read the memory map, rotate or mirror each image at random, and normalise. The DataLoader decodes, resizes, mirrors
and normalises the same photographs in two processes. Compared with a fine-tuning step on the same images, the batches
must take almost no time.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.harness.hardware import by_device
from bench.harness.isolated_process import IsolatedProcess
from bench.harness.timing import Comparison, Limit, compare, measure_seconds, work_size
from bench.peers import defaults, timm_loop
from bench.workloads.jpeg_files import make_photographs
from bench.workloads.paced_training import AUGMENTATION, RESNET50, SIZE
from bench.workloads.photographs import pixel_difference, preprocess_params, run_ingest, run_preprocess
from twofold.data.prepared import PreparedDataset
from twofold.model.device import make_deterministic
from twofold.model.inference import normalise
from twofold.training.augmentation import augment, draw_augmentation, seeded_generator

COUNT, WORKERS = work_size(1024, 64), 2
BATCH = by_device(cpu=16, gpu=256)
COPY_IMAGES = work_size(256, 64)
STEPS = work_size(4, 1)  # of the training that the batches are compared with


def run() -> list[Comparison]:
    """Run both comparisons on the same photographs."""
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
        folder = Path(name)
        images = make_photographs(folder, COUNT)
        run_ingest(images, "bad", folder)
        data = run_preprocess(preprocess_params(SIZE), folder)
        difference = pixel_difference("B7", data, images, SIZE)
        ours = IsolatedProcess(_read_batches, data.directory)
        words = f"memory map, random rotations and flips, normalised; batch {BATCH}, one core"
        loader = IsolatedProcess(defaults.loading, images, SIZE, BATCH, WORKERS)
        limit = Limit(_copy_time(len(data)), "writing the finished batches once on one core, measured in this run")
        first = compare(
            "B7",
            f"{len(data)} images of 500x375 as normalised batches of {SIZE} px",
            part="loader",
            ours=(words, ours),
            peer=(f"ImageFolder, Resize, two random flips, Normalize; DataLoader with {WORKERS} workers", loader),
            equal=f"mean pixel difference before augmentation {difference:.2f} levels (at most 1)",
            images=len(data),
            limit=limit,
        )
        loader.close()
        count = min(BATCH * STEPS, int(np.count_nonzero(data.split == "train")))
        training = IsolatedProcess(timm_loop.steps, data.directory, count, BATCH)
        second = compare(
            "B7",
            f"the batches of {count} images, against training ResNet-50 on them",
            part="step",
            ours=(words, lambda: ours(count)),
            peer=(f"{timm_loop.WORDS}; batch {BATCH}", training),
            equal="the same images",
            images=count,
        )
        for process in (ours, training):
            process.close()
    return [first, second]


def _read_batches(directory: Path) -> Callable[..., int]:
    """Prepare our side, which runs in a separate process on one core."""
    make_deterministic()  # as in a training
    torch.set_num_threads(1)
    data = PreparedDataset.open(directory)

    def work(count: int = len(data)) -> int:
        total = 0
        for start in range(0, count, BATCH):
            pixels = torch.from_numpy(data.pixels(np.arange(start, min(start + BATCH, count))))
            draws = draw_augmentation(len(pixels), AUGMENTATION, seeded_generator(0, start))
            total += len(normalise(augment(pixels, AUGMENTATION, draws), RESNET50.mean, RESNET50.std))
        return total

    return work


def _copy_time(images: int) -> float:
    """Seconds to write this many finished images once on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    batch, other = (torch.ones(COPY_IMAGES, 3, SIZE, SIZE) for _ in range(2))  # much larger than the CPU's caches
    best = min(measure_seconds(lambda: batch.copy_(other)) for _ in range(5))
    torch.set_num_threads(threads)
    return best * images / COPY_IMAGES
