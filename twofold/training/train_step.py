"""One step of gradient descent; on a GPU, a CUDA graph that is replayed.

In: the inputs of a step, in tensors of a shape that comes again and again. Out: the weights moved; the loss and the
norm of the gradient, left on the device, for whoever wants to read them to wait for them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twofold.model.device import autocast
from twofold.training.optimizer import Groups

Forward = Callable[..., Tensor]
Shapes = tuple[torch.Size, ...]
# Steps of a shape before it is captured: libraries choose their kernels in them, and AdamW makes its state. They are
# steps of the training like all others.
WARM_UP = 3
NOBODY = -100  # the target of what only fills a batch up to its shape, and counts in no loss


class StepResult(NamedTuple):
    """What a step found, on the device, before it moved: valid until the next step of the same shape."""

    loss: Tensor
    norm: Tensor


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    static: tuple[Tensor, ...]
    result: StepResult

    def replay(self, given: Sequence[Tensor]) -> StepResult:
        for there, here in zip(self.static, given, strict=True):
            there.copy_(here)
        self.graph.replay()
        return self.result


def cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor | None, label_smoothing: float, *, padded: bool
) -> Tensor:
    """The mean loss of those targets that are somebody's.

    Args:
        logits: (N, 2).
        targets: (N,), NOBODY only if `padded`.
        weights: of the classes, (2,).
        padded: to compute it in a way whose shapes do not depend on how many are NOBODY.
    """
    if not padded:
        return F.cross_entropy(logits, targets, weights, label_smoothing=label_smoothing)
    each = F.cross_entropy(
        logits, targets, weights, reduction="none", ignore_index=NOBODY, label_smoothing=label_smoothing
    )
    real = targets != NOBODY
    weight = real.float() if weights is None else weights[targets.clamp(min=0)] * real
    return each.sum() / weight.sum()


class TrainStep:
    """Cross-entropy, its gradient, clipped, and AdamW.

    On a GPU a step is hundreds of kernels, each of which the CPU takes longer to start than the GPU to run at small
    batches: the fourth step of each shape is recorded as a CUDA graph, and every later one is a single launch.
    """

    def __init__(
        self,
        network: nn.Module,
        forward: Forward,
        groups: Groups,
        *,
        class_weights: tuple[float, float] | None,
        label_smoothing: float,
        clip_norm: float,
        mixed_precision: bool,
    ) -> None:
        """Nothing is computed yet.

        Args:
            network: in the mode that it is to train in whenever a step is made.
            forward: inputs to logits (N, 2), through the network.
            groups: of AdamW's parameters, each with its peak learning rate.
            class_weights, label_smoothing, clip_norm, mixed_precision: as in `training.Plan`.
        """
        self.device = next(network.parameters()).device
        self._graphed = self.device.type == "cuda"
        # Without "capturable", AdamW would count its steps on the CPU, out of a graph's reach.
        self.optimizer = torch.optim.AdamW(groups, fused=True, capturable=self._graphed)
        self._parameters = list(network.parameters())
        self._forward = forward
        self._weights = torch.tensor(class_weights, device=self.device) if class_weights else None
        self._label_smoothing = label_smoothing
        self._clip_norm = clip_norm
        self._mixed_precision = mixed_precision
        self._seen: Counter[Shapes] = Counter()
        self._captured: dict[Shapes, _Captured] = {}

    @property
    def one_shape(self) -> bool:
        """Whether batches should all be of one shape: each further one is another capture and another compilation."""
        return self._graphed

    def rates(self, factor: float) -> None:
        """Multiply the peak learning rates with a factor."""
        for group in self.optimizer.param_groups:
            rate = group["peak"] * factor
            if not self._graphed:
                group["lr"] = rate
            elif isinstance(group["lr"], Tensor) and group["lr"].device == self.device:
                group["lr"].fill_(rate)  # where the graph reads it
            else:
                group["lr"] = torch.tensor(rate, device=self.device)

    def __call__(self, inputs: Sequence[Tensor], targets: Tensor) -> StepResult:
        """Make one step.

        Args:
            inputs: of `forward`, on the network's device.
            targets: (N,) int64, 0, 1 or NOBODY.
        """
        given = (*inputs, targets)
        if not self._graphed:
            return self._step(given)
        shapes = tuple(tensor.shape for tensor in given)
        if shapes in self._captured:
            return self._captured[shapes].replay(given)
        self._seen[shapes] += 1
        if self._seen[shapes] <= WARM_UP:
            return self._aside(given)
        self._captured[shapes] = self._capture(given)
        return self._captured[shapes].replay(given)

    def _step(self, given: Sequence[Tensor]) -> StepResult:
        *inputs, targets = given
        self.optimizer.zero_grad()
        with autocast(self.device) if self._mixed_precision else nullcontext():
            logits = self._forward(*inputs)
        loss = cross_entropy(logits.float(), targets, self._weights, self._label_smoothing, padded=self._graphed)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        self.optimizer.step()
        return StepResult(loss.detach(), norm.detach())

    def _aside(self, given: Sequence[Tensor]) -> StepResult:
        # On the stream that a capture will use too: autograd remembers on which one a gradient was first made.
        side, here = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)  # type: ignore[no-untyped-call]
        side.wait_stream(here)
        with torch.cuda.stream(side):
            result = self._step(given)
        here.wait_stream(side)
        return result

    def _capture(self, given: Sequence[Tensor]) -> _Captured:
        static = tuple(tensor.clone() for tensor in given)
        # Gradients that the graph makes lie in its own memory, and those of before are in the way.
        self.optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._step(static)
        return _Captured(graph, static, result)
