"""The peer of most tutorials: torch's and torchvision's defaults, fp32, NCHW, files read by Pillow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import build_classifier
from twofold.model.device import device

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Images(Dataset[Any]):
    """Prepared images one by one: (C, S, S) float32, normalised, and the target."""

    def __init__(self, directory: Path, count: int) -> None:
        from torchvision.transforms import Compose, Grayscale, Normalize, ToPILImage, ToTensor

        self._data = PreparedDataset.open(directory)
        self._count = count
        self._transform = Compose([ToPILImage(), Grayscale(3), ToTensor(), Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._data.pixels([number])[0]), int(self._data.target[number])


def as_loaded(directory: Path, count: int, batch: int, workers: int) -> DataLoader[Any]:
    """A DataLoader of the first `count` prepared images."""
    return DataLoader(Images(directory, count), batch_size=batch, num_workers=workers)


def scoring(
    directory: Path, weights: Path, count: int, batch: int, workers: int
) -> Callable[[], npt.NDArray[np.float64]]:
    """Prepare the evaluation loop, which returns the probabilities, for a separate process."""
    network = build_classifier("resnet50", 0.5)
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.to(device()).eval()
    loader = as_loaded(directory, count, batch, workers)

    def work() -> npt.NDArray[np.float64]:
        found = []
        with torch.no_grad():
            for images, _ in loader:
                logits = network(images.to(device()))
                found.append(torch.softmax(logits, dim=1)[:, 1].cpu())
        result: npt.NDArray[np.float64] = torch.cat(found).double().numpy()
        return result

    return work


def loading(folders: Path, size: int, batch: int, workers: int) -> Callable[[], int]:
    """Prepare an epoch of batches from class folders, randomly flipped and normalised, for a separate process."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import (
        Compose,
        Normalize,
        RandomHorizontalFlip,
        RandomVerticalFlip,
        Resize,
        ToTensor,
    )

    turned = [Resize((size, size)), RandomHorizontalFlip(), RandomVerticalFlip(), ToTensor(), Normalize(MEAN, STD)]
    data = ImageFolder(str(folders), Compose(turned))
    loader = DataLoader(data, batch_size=batch, shuffle=True, num_workers=workers)

    def work() -> int:
        return sum(len(images) for images, _ in loader)

    return work
