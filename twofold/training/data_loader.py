"""Training images as a network is shown them: fetched ahead of the step, changed at random, normalised.

In: a classifier, prepared images, an augmentation. Out: what `training.train` asks for: the inputs of each step, and
the forward pass that begins with them. The random draws are made on the CPU; the arithmetic on pixels belongs to the
forward pass, so that a GPU runs it in the step's own graph, but for scaling them down, which decides the graph's shape.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twofold.data.prepared import Prepared
from twofold.model.classifier import Classifier
from twofold.model.device import sent
from twofold.model.inference import normalise
from twofold.training.augmentation import Augmentation, Draws, changed, draw
from twofold.training.feed import Feed
from twofold.training.loop import Epoch
from twofold.training.resolution import Resolution, scaled_down


class Shown:
    """Rows of prepared images, shown to a classifier that trains."""

    def __init__(
        self,
        classifier: Classifier,
        images: Prepared,
        rows: npt.NDArray[np.int64],
        augmentation: Augmentation,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        resolution: Resolution | None = None,
    ) -> None:
        """Where the classifier is on a GPU, the images are copied there if they fit.

        Args:
            classifier: on the device to train on.
            images: prepared.
            rows: of the training images.
            augmentation: what may be done to them.
            mean, std: per channel, pixels in 0..1.
            batch_size: at most.
            resolution: how large the images of an epoch are; None for as they are prepared.
        """
        self._classifier, self._augmentation = classifier, augmentation
        self._resolution, self._size = resolution, images.size
        self._device = next(classifier.parameters()).device
        self._mean, self._std = (torch.tensor(values, device=self._device) for values in (mean, std))
        self.feed = Feed(images, rows, self._device, batch_size)

    def inputs(self, epoch: Epoch) -> Iterator[tuple[Tensor, ...]]:
        """Of each step: pixels (n, S, S, C) uint8, and what was drawn for them."""
        size = self._resolution.size(epoch.address[1]) if self._resolution else self._size
        for step, pixels in enumerate(self.feed(epoch.batches)):
            drawn = draw(len(pixels), self._augmentation, epoch.random(step))
            yield scaled_down(pixels, size), *(sent(tensor, self._device) for tensor in drawn)

    def forward(self, pixels: Tensor, *drawn: Tensor) -> Tensor:
        """Logits (n, 2) of the changed images."""
        with torch.autocast(self._device.type, enabled=False):
            images = normalise(changed(pixels, self._augmentation, Draws(*drawn)), self._mean, self._std)
        logits: Tensor = self._classifier(images)
        return logits
