"""One optimizer step: loss, gradient, clipping and AdamW; on a GPU a CUDA graph that is replayed.

Loss and gradient norm stay on the device, so that only a caller that reads them waits for them.
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
# Ordinary training steps of a shape before it is captured, in which libraries choose kernels and AdamW makes its state.
WARM_UP = 3
PADDING = -100  # the target of images that only fill up a batch; the loss ignores them


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how to train.

    Attributes:
        epochs: at most.
        patience: stop after this many epochs without an improvement; None for all epochs.
        batch_size: at most; the batches of an epoch differ by one image at most.
        warmup_epochs: until the peak of the learning rate; may be fractional.
        label_smoothing: share of the label spread over both classes, in 0..1.
        class_weights: (negative, positive) in the loss; None for 1 and 1.
        ema_decay: of the average of the weights that is evaluated and kept; 0 for the weights themselves.
        clip_norm: greatest norm of the gradient of all parameters.
        frozen_norms: whether batch norms keep their statistics.
        mixed_precision: bfloat16 if the device has it; otherwise float32.
        select_by: log_loss, roc_auc or accuracy on validation.
        seed: of order, dropout and augmentation.
    """

    epochs: int
    patience: int | None
    batch_size: int
    warmup_epochs: float
    label_smoothing: float
    class_weights: tuple[float, float] | None
    ema_decay: float
    clip_norm: float
    frozen_norms: bool
    mixed_precision: bool
    select_by: str
    seed: int


class StepResult(NamedTuple):
    """Loss and gradient norm before the update, on the device; valid until the next step of the same shape."""

    loss: Tensor
    norm: Tensor


@dataclass(frozen=True)
class _CapturedStep:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]
    result: StepResult

    def replay(self, inputs: Sequence[Tensor]) -> StepResult:
        for own, new in zip(self.inputs, inputs, strict=True):
            own.copy_(new)
        self.graph.replay()
        return self.result


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None, label_smoothing: float) -> Tensor:
    """The mean over the targets that are not PADDING of an image's loss times the weight of its class.

    torch's own weighted mean divides by the weights in the batch, so that a rare class weighs little in the few batches
    that it is in; and it gives the share of a label that smoothing moves the weight of the class it is moved to.

    Args:
        logits: (N, 2).
        targets: (N,), with PADDING; the shapes of the computation do not depend on how much.
        weights: of the classes, (2,).
    """
    each = F.cross_entropy(logits, targets, reduction="none", ignore_index=PADDING, label_smoothing=label_smoothing)
    if weights is not None:
        each = each * weights[targets.clamp(min=0)]
    return each.sum() / (targets != PADDING).sum()


class TrainStep:
    """Cross-entropy, its clipped gradient, and AdamW.

    On a GPU a step is hundreds of kernels, and at small batches starting a kernel takes the CPU longer than running it
    takes the GPU. So the fourth step of each shape is captured as a CUDA graph; each later one is a single launch.
    """

    def __init__(self, network: nn.Module, forward: Forward, groups: Groups, config: TrainingConfig) -> None:
        """Prepare the optimizer, without computing anything.

        Args:
            network: the caller sets its modules to training or evaluation mode before each step.
            forward: inputs to logits (N, 2), through the network.
            groups: of AdamW's parameters, each with its peak learning rate.
        """
        self.device = next(network.parameters()).device
        # If steps become CUDA graphs, all batches should have one shape: each shape costs a capture and a compilation.
        self.graphed = self.device.type == "cuda"
        # Without "capturable", AdamW would count its steps on the CPU, which a graph cannot do.
        self.optimizer = torch.optim.AdamW(groups, fused=True, capturable=self.graphed)
        self._parameters = list(network.parameters())
        self._forward = forward
        self._config = config
        weights = config.class_weights
        self._weights = torch.tensor(weights, device=self.device) if weights else None
        self._steps: Counter[Shapes] = Counter()
        self._captured: dict[Shapes, _CapturedStep] = {}

    def set_lr(self, factor: float) -> None:
        """Set the learning rates to their peaks times a factor."""
        for group in self.optimizer.param_groups:
            rate = group["peak"] * factor
            if not self.graphed:
                group["lr"] = rate
            elif isinstance(group["lr"], Tensor) and group["lr"].device == self.device:
                group["lr"].fill_(rate)  # in place, where the graph reads it
            else:
                group["lr"] = torch.tensor(rate, device=self.device)

    def __call__(self, inputs: Sequence[Tensor], targets: Tensor) -> StepResult:
        """Make one step with the inputs of `forward` and targets (N,) int64 (0, 1 or PADDING), all on the device."""
        tensors = (*inputs, targets)
        if not self.graphed:
            return self._step(tensors)
        shapes = tuple(tensor.shape for tensor in tensors)
        if shapes not in self._captured:
            self._steps[shapes] += 1
            if self._steps[shapes] <= WARM_UP:
                return self._warm_up(tensors)
            self._captured[shapes] = self._capture(tensors)
        return self._captured[shapes].replay(tensors)

    def _step(self, tensors: Sequence[Tensor]) -> StepResult:
        *inputs, targets = tensors
        self.optimizer.zero_grad()
        with autocast(self.device) if self._config.mixed_precision else nullcontext():
            logits = self._forward(*inputs)
        loss = cross_entropy(logits.float(), targets, self._weights, self._config.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._parameters, self._config.clip_norm)
        self.optimizer.step()
        return StepResult(loss.detach(), norm.detach())

    def _warm_up(self, tensors: Sequence[Tensor]) -> StepResult:
        # On a side stream, as a capture uses one: autograd remembers the stream on which a gradient was first made.
        side, current = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            result = self._step(tensors)
        current.wait_stream(side)
        return result

    def _capture(self, tensors: Sequence[Tensor]) -> _CapturedStep:
        inputs = tuple(tensor.clone() for tensor in tensors)
        # The graph keeps gradients in its own memory, so those of earlier steps must be freed.
        self.optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self._step(inputs)
        return _CapturedStep(graph, inputs, result)
