"""Training images as a network is shown them: fetched ahead of the step, changed at random, normalised.

In: a classifier, prepared images, an augmentation. Out: what `training.train` asks for: the inputs of each step, and
the forward pass that begins with them. The random draws are made on the CPU; the arithmetic on pixels belongs to the
forward pass, so that a GPU runs it in the step's own graph, but for scaling them down, which decides the graph's shape.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import Classifier
from twofold.model.device import to_device
from twofold.model.inference import normalise
from twofold.training.augmentation import Augmentation, AugmentationDraws, augment, draw_augmentation
from twofold.training.loop import Epoch

Chosen = Sequence[npt.NDArray[np.int64]]
AHEAD = 4  # batches read ahead of the step
UPLOAD = 1 << 28  # bytes copied at a time
BESIDE = 1 << 32  # bytes for the network, its gradients, AdamW's state and an average
PER_PIXEL = 2048  # bytes that a training step keeps for a pixel of its batch; ResNet-50 with live norms takes 900
ROUNDING = 1e-9  # 0.29 x 100 is a little less than 29


@dataclass(frozen=True)
class ProgressiveResizing:
    """How large training images are.

    Attributes:
        start: pixels a side of the first epochs, below `end`.
        end: of the others: that of the prepared images.
        at: share of the epochs, above 0 and below 1, that are small ones at most.
        epochs: of the whole training.
    """

    start: int
    end: int
    at: float
    epochs: int

    def size(self, epoch: int) -> int:
        """Pixels a side in an epoch, 1 to `epochs`."""
        return self.start if epoch <= self.at * self.epochs + ROUNDING else self.end


class TrainingBatches:
    """Rows of prepared images, shown to a classifier that trains."""

    def __init__(
        self,
        classifier: Classifier,
        images: PreparedDataset,
        rows: npt.NDArray[np.int64],
        augmentation: Augmentation,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        resolution: ProgressiveResizing | None = None,
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
        self.feed = Prefetcher(images, rows, self._device, batch_size)

    def inputs(self, epoch: Epoch) -> Iterator[tuple[Tensor, ...]]:
        """Of each step: pixels (n, S, S, C) uint8, and what was drawn for them."""
        size = self._resolution.size(epoch.address[1]) if self._resolution else self._size
        for step, pixels in enumerate(self.feed(epoch.batches)):
            drawn = draw_augmentation(len(pixels), self._augmentation, epoch.random(step))
            yield scaled_down(pixels, size), *(to_device(tensor, self._device) for tensor in drawn)

    def forward(self, pixels: Tensor, *drawn: Tensor) -> Tensor:
        """Logits (n, 2) of the changed images."""
        with torch.autocast(self._device.type, enabled=False):
            images = normalise(augment(pixels, self._augmentation, AugmentationDraws(*drawn)), self._mean, self._std)
        logits: Tensor = self._classifier(images)
        return logits


class Prefetcher:
    """Batches of the pixels of some rows."""

    def __init__(
        self,
        images: PreparedDataset,
        rows: npt.NDArray[np.int64],
        device: torch.device,
        batch_size: int,
        *,
        resident: bool | None = None,
    ) -> None:
        """Copy the images to the GPU, if there is one and they fit.

        Args:
            images: prepared.
            rows: row numbers; what is asked for later are positions among these.
            device: where the batches go.
            batch_size: at most.
            resident: whether to keep all on the GPU; None to find out whether they fit.
        """
        self._images, self._rows, self._device, self._size = images, rows, device, batch_size
        fits = resident if resident is not None else device.type == "cuda" and self._fits()
        self._all = self._upload() if fits else None

    @property
    def resident(self) -> bool:
        """Whether all images lie in the device's memory."""
        return self._all is not None

    def __call__(self, batches: Chosen) -> Iterator[Tensor]:
        """The pixels (n, S, S, C) uint8 of each batch, on the device; a batch is positions among the rows."""
        if self._all is not None:
            return (self._all[to_device(torch.from_numpy(chosen), self._device)] for chosen in batches)
        if self._device.type == "cuda":
            return self._ahead(batches)
        return (torch.from_numpy(self._images.pixels(self._rows[chosen])) for chosen in batches)

    def _shape(self, n: int) -> tuple[int, int, int, int]:
        return n, self._images.size, self._images.size, self._images.channels

    def _fits(self) -> bool:
        free, _ = torch.cuda.mem_get_info(self._device)
        step = self._size * self._images.size**2 * PER_PIXEL
        return int(np.prod(self._shape(len(self._rows)))) <= free - BESIDE - step

    def _upload(self) -> Tensor:
        whole = torch.empty(self._shape(len(self._rows)), dtype=torch.uint8, device=self._device)
        step = max(1, UPLOAD // int(np.prod(self._shape(1))))
        for start in range(0, len(self._rows), step):
            some = torch.from_numpy(self._images.pixels(self._rows[start : start + step]))
            whole[start : start + step] = some.to(self._device)
        return whole

    def _ahead(self, batches: Chosen) -> Iterator[Tensor]:
        """A ring of pinned buffers: read by a thread, copied on a stream of their own."""
        here, copying = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        ring: queue.Queue[tuple[Tensor, torch.cuda.Event | None]] = queue.Queue()
        for _ in range(AHEAD):
            ring.put((torch.empty(self._shape(self._size), dtype=torch.uint8, pin_memory=True), None))
        ready: queue.Queue[tuple[Tensor, int] | BaseException] = queue.Queue()
        ended = threading.Event()

        def read() -> None:
            try:
                for chosen in batches:
                    buffer, copied = ring.get()
                    if ended.is_set():
                        return
                    if copied is not None:
                        copied.synchronize()
                    buffer[: len(chosen)].numpy()[...] = self._images.pixels(self._rows[chosen])
                    ready.put((buffer, len(chosen)))
            except BaseException as error:  # raised again where the batch is awaited
                ready.put(error)

        reader = threading.Thread(target=read, name="twofold-feed", daemon=True)
        reader.start()
        try:
            for _ in batches:
                found = ready.get()
                if isinstance(found, BaseException):
                    raise found
                buffer, n = found
                with torch.cuda.stream(copying):
                    pixels = buffer[:n].to(self._device, non_blocking=True)
                    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
                    copied.record()
                here.wait_event(copied)
                pixels.record_stream(here)
                ring.put((buffer, copied))
                yield pixels
        finally:
            ended.set()
            ring.put((torch.empty(0), None))  # wakes a reader that waits for room
            reader.join()


def scaled_down(pixels: Tensor, size: int) -> Tensor:
    """(N, S, S, C) uint8 -> (N, size, size, C) uint8, antialiased bilinear; as they are if S is `size`.

    Computed in float32 and rounded once; a level may differ where two devices add in another order.
    """
    if pixels.shape[1] == size:
        return pixels
    planes = pixels.permute(0, 3, 1, 2).float()
    small = F.interpolate(planes, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return small.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
