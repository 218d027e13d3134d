"""Training batches on the device: prefetched, scaled down, augmented and normalised.

Takes a classifier, prepared images and an augmentation, and gives `loop.train` the inputs of each step and the forward
pass on them. Random draws are made on the CPU. The arithmetic on pixels belongs to the forward pass, so that a GPU runs
it in the step's own graph, except for scaling down, which changes the graph's shape.
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

Batches = Sequence[npt.NDArray[np.int64]]
PREFETCHED = 4  # batches
UPLOAD_BYTES = 1 << 28  # copied at a time
RESERVED_BYTES = 1 << 32  # for the network, its gradients, AdamW's state and a weight average
BYTES_PER_PIXEL = 2048  # that a training step keeps for its batch; ResNet-50 with live norms needs 900
ROUNDING = 1e-9  # 0.29 * 100 is slightly below 29


@dataclass(frozen=True)
class ProgressiveResizing:
    """The size of training images by epoch.

    Attributes:
        start: pixels per side in the first epochs, below `end`.
        end: pixels per side in the other epochs: that of the prepared images.
        at: greatest share of the epochs, above 0 and below 1, with small images.
        epochs: of the whole training.
    """

    start: int
    end: int
    at: float
    epochs: int

    def size(self, epoch: int) -> int:
        """Pixels per side in an epoch, 1 to `epochs`."""
        return self.start if epoch <= self.at * self.epochs + ROUNDING else self.end


class TrainingBatches:
    """The batches of a training, from rows of prepared images."""

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
        """Copy the images to the classifier's device if that is a GPU and they fit.

        Args:
            rows: of the training images.
            mean, std: per channel, pixels in 0..1.
            batch_size: at most.
            resolution: the size of the images by epoch; None for the prepared size.
        """
        self._classifier, self._augmentation = classifier, augmentation
        self._resolution, self._size = resolution, images.size
        self._device = next(classifier.parameters()).device
        self._mean, self._std = (torch.tensor(values, device=self._device) for values in (mean, std))
        self.feed = Prefetcher(images, rows, self._device, batch_size)

    def inputs(self, epoch: Epoch) -> Iterator[tuple[Tensor, ...]]:
        """The pixels (n, S, S, C) uint8 of each step, and their augmentation draws."""
        size = self._resolution.size(epoch.address[1]) if self._resolution else self._size
        for step, pixels in enumerate(self.feed(epoch.batches)):
            draws = draw_augmentation(len(pixels), self._augmentation, epoch.random(step))
            yield scale_down(pixels, size), *(to_device(tensor, self._device) for tensor in draws)

    def forward(self, pixels: Tensor, *draws: Tensor) -> Tensor:
        """Logits (n, 2) of the augmented images."""
        with torch.autocast(self._device.type, enabled=False):
            images = normalise(augment(pixels, self._augmentation, AugmentationDraws(*draws)), self._mean, self._std)
        logits: Tensor = self._classifier(images)
        return logits


class Prefetcher:
    """Batches of pixels on the device, read while the GPU computes."""

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
            rows: row numbers; a batch is a list of positions among them.
            batch_size: at most.
            resident: whether to keep all images on the GPU; None to keep them if they fit.
        """
        self._images, self._rows, self._device, self._batch_size = images, rows, device, batch_size
        self.resident = device.type == "cuda" and self._fits() if resident is None else resident
        self._all = self._upload() if self.resident else None

    def __call__(self, batches: Batches) -> Iterator[Tensor]:
        """The pixels (n, S, S, C) uint8 of each batch, on the device."""
        if self._all is not None:
            return (self._all[to_device(torch.from_numpy(batch), self._device)] for batch in batches)
        if self._device.type == "cuda":
            return self._prefetch(batches)
        return (self._read(batch) for batch in batches)

    def _read(self, batch: npt.NDArray[np.int64] | slice) -> Tensor:
        return torch.from_numpy(self._images.pixels(self._rows[batch]))

    def _shape(self, n: int) -> tuple[int, int, int, int]:
        return n, self._images.size, self._images.size, self._images.channels

    def _fits(self) -> bool:
        free, _ = torch.cuda.mem_get_info(self._device)
        step = self._batch_size * self._images.size**2 * BYTES_PER_PIXEL
        return int(np.prod(self._shape(len(self._rows)))) <= free - RESERVED_BYTES - step

    def _upload(self) -> Tensor:
        whole = torch.empty(self._shape(len(self._rows)), dtype=torch.uint8, device=self._device)
        step = max(1, UPLOAD_BYTES // int(np.prod(self._shape(1))))
        for start in range(0, len(self._rows), step):
            part = slice(start, start + step)
            whole[part] = self._read(part).to(self._device)
        return whole

    def _prefetch(self, batches: Batches) -> Iterator[Tensor]:
        """Read into a ring of pinned buffers in a thread, and copy them to the GPU on a stream of their own."""
        current, copying = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        ring: queue.Queue[tuple[Tensor, torch.cuda.Event | None]] = queue.Queue()
        for _ in range(PREFETCHED):
            ring.put((torch.empty(self._shape(self._batch_size), dtype=torch.uint8, pin_memory=True), None))
        ready: queue.Queue[tuple[Tensor, int] | BaseException] = queue.Queue()
        ended = threading.Event()

        def read() -> None:
            try:
                for batch in batches:
                    buffer, copied = ring.get()
                    if ended.is_set():
                        return
                    if copied is not None:
                        copied.synchronize()
                    buffer[: len(batch)].numpy()[...] = self._images.pixels(self._rows[batch])
                    ready.put((buffer, len(batch)))
            except BaseException as error:  # raised again by the consumer
                ready.put(error)

        reader = threading.Thread(target=read, name="twofold-feed", daemon=True)
        reader.start()
        try:
            for _ in batches:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                buffer, n = item
                with torch.cuda.stream(copying):
                    pixels = buffer[:n].to(self._device, non_blocking=True)
                    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
                    copied.record()
                current.wait_event(copied)
                pixels.record_stream(current)
                ring.put((buffer, copied))
                yield pixels
        finally:
            ended.set()
            ring.put((torch.empty(0), None))  # wakes a reader that waits for a buffer
            reader.join()


def scale_down(pixels: Tensor, size: int) -> Tensor:
    """(N, S, S, C) uint8 -> (N, size, size, C) uint8, antialiased bilinear; unchanged if S is `size`.

    Computed in float32 and rounded once; devices that add in another order may differ by one level.
    """
    if pixels.shape[1] == size:
        return pixels
    planes = pixels.permute(0, 3, 1, 2).float()
    small = F.interpolate(planes, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return small.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
