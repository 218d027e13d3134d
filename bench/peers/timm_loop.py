"""The stronger peer: timm's train.py with --amp --amp-dtype bfloat16 --channels-last, as a loop.

timm's wheel contains no script. This loop uses timm's model, optimizer and settings on memory-mapped images, so that it
decodes nothing. No torch.compile, as train.py uses it only with --torchcompile; norms are live.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from twofold.data.prepared import PreparedDataset
from twofold.model.device import device

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WORDS = "timm: bf16 autocast, channels_last, create_optimizer_v2 AdamW, live norms, no augmentation"


def model(name: str = "resnet50", classes: int = 2) -> nn.Module:
    """A model with random weights on the device, channels_last, in training mode."""
    import timm

    if device().type == "cuda":
        torch.backends.cudnn.benchmark = True  # as train.py sets it
    made: nn.Module = timm.create_model(name, num_classes=classes)
    return made.to(device()).to(memory_format=torch.channels_last).train()


def optimizer(network: nn.Module, rate: float) -> torch.optim.Optimizer:
    """AdamW of timm, without decay of norms and biases."""
    from timm.optim._optim_factory import create_optimizer_v2

    made: torch.optim.Optimizer = create_optimizer_v2(network, opt="adamw", lr=rate, weight_decay=0.05)
    return made


def step(network: nn.Module, images: torch.Tensor, targets: torch.Tensor, rule: torch.optim.Optimizer) -> None:
    """Forward and loss under autocast, backward, update, in the order of train.py."""
    with torch.autocast(device().type, dtype=torch.bfloat16):
        loss = F.cross_entropy(network(images), targets)
    rule.zero_grad()
    loss.backward()
    rule.step()


def as_input(pixels: torch.Tensor) -> torch.Tensor:
    """(N, S, S, C) uint8 -> (N, 3, S, S) float32 normalised, channels_last, on the device, as timm's PrefetchLoader."""
    mean, std = (torch.tensor(values, device=device()).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))
    images = pixels.to(device(), non_blocking=True).permute(0, 3, 1, 2).expand(-1, 3, -1, -1).float()
    return images.sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def steps(directory: Path, images: int, batch: int) -> Callable[[], None]:
    """Prepare steps over `images` prepared images, `batch` per step, for a separate process."""
    torch.manual_seed(0)
    data = PreparedDataset.open(directory)
    rows = data.rows("train")
    network = model()
    rule = optimizer(network, 1e-6)

    def work() -> None:
        for start in range(0, images, batch):
            chosen = rows[start : min(start + batch, images)]
            targets = torch.from_numpy(data.target[chosen]).to(device())
            step(network, as_input(torch.from_numpy(data.pixels(chosen))), targets, rule)

    return work
