"""Pixels of training images on the device, ahead of the step that needs them.

In: prepared images, rows of them, a device. Out: batch after batch as uint8. On a GPU the whole set lies in its
memory if it fits there beside the training; else a thread reads batches from the memory map into pinned memory, and
they are copied while earlier steps run. On the CPU a batch is read when its step begins.
"""

import queue
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from twofold.data.prepared import Prepared
from twofold.model.device import sent

Chosen = Sequence[npt.NDArray[np.int64]]
AHEAD = 4  # batches read ahead of the step
UPLOAD = 1 << 28  # bytes copied at a time
BESIDE = 1 << 32  # bytes for the network, its gradients, AdamW's state and an average
PER_PIXEL = 2048  # bytes that a training step keeps for a pixel of its batch; ResNet-50 with live norms takes 900


class Feed:
    """Batches of the pixels of some rows."""

    def __init__(
        self,
        images: Prepared,
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
            return (self._all[sent(torch.from_numpy(chosen), self._device)] for chosen in batches)
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
