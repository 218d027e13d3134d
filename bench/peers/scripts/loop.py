"""Shared by scripts 3, 4 and 5: a DataLoader of class folders and a pass over it, with torch's defaults."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from twofold.data.process_pool import worker_count
from twofold.model.device import device


def loader(folder: Path, *, train: bool) -> DataLoader[Any]:
    """Normalised batches of 32; for training shuffled and randomly flipped."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, RandomVerticalFlip, ToTensor

    turned = [RandomHorizontalFlip(), RandomVerticalFlip()] if train else []
    data = ImageFolder(str(folder), Compose([*turned, ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]))
    return DataLoader(data, batch_size=32, shuffle=train, num_workers=worker_count())


def epoch(model: nn.Module, batches: DataLoader[Any], optimizer: torch.optim.Optimizer | None = None) -> float:
    """One pass, with optimizer steps if there is an optimizer; returns the mean loss."""
    total, count = 0.0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for images, targets in batches:
            # ImageFolder numbers the classes by name: defective is 0 there and 1 here.
            wanted = 1 - targets.to(device())
            loss = F.cross_entropy(model(images.to(device())), wanted)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total += loss.item() * len(images)
            count += len(images)
    return total / count
