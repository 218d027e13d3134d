"""A plain strong baseline: a pretrained backbone with a linear layer, fine-tuned with AdamW until a budget is used.

Norms are frozen, images are flipped, the learning rate warms up over the first epoch and then follows a cosine, and the
epoch of the lowest validation log loss is kept. One view, no calibration, no average of weights; the threshold is 1/2.
`DATA OUT.npz BACKBONE WEIGHTS ORIENTATION BUDGET SEED` reads prepared data and writes `epochs` and the `probability` of
each test image. The budget is CPU seconds of this process, from its start, with imports and the test: the first epoch
is measured, and the number of epochs chosen that comes closest to the budget.
"""

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import BACKBONES
from twofold.model.device import device
from twofold.model.inference import normalise
from twofold.training.pretrained_weights import pretrained

BATCH, RATE, DECAY = 16, 3e-4, 0.05
FLIPS = {"free": (2, 3), "mirrored": (3,), "fixed": ()}  # axes of (N, C, H, W), by orientation as in `twofold init`


class Baseline:
    """The network with its data and optimizer."""

    def __init__(self, data: PreparedDataset, backbone: str, weights: str, orientation: str) -> None:
        made, _ = pretrained(backbone, weights, 0)
        self.data, self.facts, self.flips = data, BACKBONES[backbone], FLIPS[orientation]
        self.network = nn.Sequential(made.backbone, nn.Linear(self.facts.features, 2))
        self.network.to(device()).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=RATE, weight_decay=DECAY)

    def fit(self, budget: float) -> int:
        """Train until `budget` CPU seconds of this process are used; returns the number of epochs."""
        number, epochs, best, kept = 0, 1, math.inf, {}
        while number < epochs:
            begin = time.process_time()
            self._train_epoch(number, epochs)
            validating = time.process_time()
            target = torch.from_numpy(self.data.target[self.data.rows("validation")]).double()
            loss = float(F.binary_cross_entropy(torch.from_numpy(self.predict("validation")), target))
            if loss < best:
                best, kept = loss, {name: value.clone() for name, value in self.network.state_dict().items()}
            now = time.process_time()
            if number == 0:
                test = (now - validating) * len(self.data.rows("test")) / len(target)
                epochs += max(0, round((budget - now - test) / (now - begin)))
            number += 1
        self.network.load_state_dict(kept)
        return epochs

    def predict(self, split: str) -> NDArray[np.float64]:
        """Probabilities of a split's images, in float32 and one view."""
        self.network.eval()
        rows = self.data.rows(split)
        with torch.inference_mode():
            logits = [self.network(self._images(rows[first : first + BATCH])) for first in range(0, len(rows), BATCH)]
        return np.asarray(torch.cat(logits).double().softmax(dim=1)[:, 1].cpu().numpy())

    def _train_epoch(self, number: int, epochs: int) -> None:
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        rows = self.data.rows("train")
        steps = max(1, len(rows) // BATCH)
        for step, chosen in enumerate(np.array_split(rows[torch.randperm(len(rows)).numpy()], steps)):
            done = number + (step + 1) / steps
            cosine = (1 + math.cos(math.pi * (done - 1) / max(1, epochs - 1))) / 2
            self.optimizer.param_groups[0]["lr"] = RATE * (done if number == 0 else cosine)
            images = self._images(chosen)
            for axis in self.flips:
                mirrored = torch.rand(len(images), device=images.device) < 0.5
                images[mirrored] = images[mirrored].flip(axis)
            # On a CPU, float32: EfficientNet's depthwise convolutions make a step in bfloat16 take 1.6 times as long.
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device().type == "cuda"):
                logits = self.network(images)
            loss = F.cross_entropy(logits.float(), torch.from_numpy(self.data.target[chosen]).to(device()))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def _images(self, rows: NDArray[np.int64]) -> torch.Tensor:
        pixels = torch.from_numpy(self.data.pixels(rows)).to(device())
        return normalise(pixels, self.facts.mean, self.facts.std).contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    data, out, backbone, weights, orientation, budget, seed = sys.argv[1:]
    torch.manual_seed(int(seed))
    baseline = Baseline(PreparedDataset.open(Path(data)), backbone, weights, orientation)
    np.savez(out, epochs=baseline.fit(float(budget)), probability=baseline.predict("test"))
