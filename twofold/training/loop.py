"""The training loop, for the head on cached features and for the whole network on images.

Takes a network, its inputs, parameter groups, a configuration and a function that computes validation metrics. Returns
the weights of the best epoch on validation, epoch 0 (before any step) included, and the history of all epochs.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from twofold.core.errors import TrainingError
from twofold.core.progress import say, track
from twofold.model.device import to_device
from twofold.training.augmentation import seeded_generator
from twofold.training.checkpoint import Checkpoint
from twofold.training.history import Metrics, Row, TrainingHistory, epoch_metrics
from twofold.training.optimizer import Groups, WeightEMA, lr_factor
from twofold.training.train_step import PADDING, Forward, TrainingConfig, TrainStep

# Fields of a TrainingConfig that are parameters of both steps under the same name.
SHARED = {"epochs", "batch_size", "warmup_epochs", "label_smoothing", "ema_decay", "clip_norm", "seed"}
# Seconds between checkpoints, and so the most that a kill can cost: if writing one takes longer than an epoch, writing
# after every epoch would be most of the work.
CHECKPOINT_SECONDS = {"cuda": 15.0}
# Steps between checks of loss and gradient, because each check waits for the GPU, which then idles.
CHECK_STEPS = {"cuda": 64}
_ADVICE = "lower the learning rate, warm up for longer, or clip the gradient at a smaller norm"


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images.

    Attributes:
        batches: which positions in the targets go into each step.
        address: (seed, number of the epoch), which seeds all its random draws.
    """

    batches: list[npt.NDArray[np.int64]]
    address: tuple[int, int]

    def random(self, step: int) -> torch.Generator:
        """The generator of a step's augmentation."""
        return seeded_generator(*self.address, step)


# The tensors that each step of an epoch puts into the forward pass, in order.
Inputs = Callable[[Epoch], Iterator[tuple[Tensor, ...]]]


def train(
    network: nn.Module,
    inputs: Inputs,
    targets: npt.NDArray[np.int64],
    groups: Groups,
    config: TrainingConfig,
    *,
    judge: Callable[[], Metrics],
    label: str,
    forward: Forward | None = None,
    checkpoint: Checkpoint | None = None,
    log: Callable[[int, Mapping[str, float]], None] = lambda epoch, metrics: None,
) -> TrainingHistory:
    """Train a network on cross-entropy.

    Args:
        network: its weights are undefined afterwards; the result is in `.best`.
        inputs: the inputs of the forward pass in each step of an epoch, on the network's device.
        targets: (N,) 0 or 1.
        groups: of AdamW's parameters, each with its peak learning rate.
        judge: computes the validation metrics of the network as it is.
        forward: from the inputs to logits (N, 2), through the network; None for the network itself.
        checkpoint: to resume from, and to write.
        log: receives the metrics of every epoch as it ends, and those of finished epochs again on resuming.

    Raises:
        TrainingError: the loss, the gradient or a validation metric is not finite.
    """
    step = TrainStep(network, forward or network, groups, config)
    average = WeightEMA(network, config.ema_decay)
    result = TrainingHistory()
    if checkpoint and (state := checkpoint.load()):
        network.load_state_dict(state["network"])
        step.optimizer.load_state_dict(state["optimizer"])
        average.load(state["average"], state["average_steps"])
        result = TrainingHistory(state["best"], state["best_epoch"], state["history"])
        say(f"{label}: resumes after epoch {result.epoch} of {config.epochs}")
        for epoch, done in enumerate(result.history):
            log(epoch, epoch_metrics(done))
    saved = time.monotonic()
    while result.epoch < config.epochs:
        if config.patience is not None and result.epoch - result.best_epoch >= config.patience:
            break
        epoch = result.epoch + 1
        row: Row = {"epoch": epoch, "lr": None, "train_loss": None}
        if epoch:
            row |= _run_epoch(network, inputs, targets, step, average, config, epoch, label)
        with average.applied(network):
            row |= {f"validation_{name}": value for name, value in judge().items()}
        invalid = [name for name, value in epoch_metrics(row).items() if not math.isfinite(value)]
        if invalid:
            raise TrainingError(f"{label}: {', '.join(invalid)} not finite after epoch {epoch}; {_ADVICE}")
        result.add(row, average.state, config.select_by)
        log(epoch, epoch_metrics(row))
        if checkpoint and epoch and time.monotonic() - saved >= CHECKPOINT_SECONDS.get(step.device.type, 0.0):
            state = {"best": result.best, "best_epoch": result.best_epoch, "history": result.history}
            state |= {"network": network.state_dict(), "optimizer": step.optimizer.state_dict()}
            checkpoint.save(state | {"average": average.state, "average_steps": average.steps})
            saved = time.monotonic()
    return result


def _run_epoch(
    network: nn.Module,
    inputs: Inputs,
    targets: npt.NDArray[np.int64],
    train_step: TrainStep,
    average: WeightEMA,
    config: TrainingConfig,
    epoch: int,
    label: str,
) -> Row:
    device = train_step.device
    network.train()
    for module in network.modules():
        if config.frozen_norms and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    steps = math.ceil(len(targets) / config.batch_size)
    order = torch.randperm(len(targets), generator=seeded_generator(config.seed, epoch)).numpy()
    batches = np.array_split(order, steps)
    # Live batch norms would include padding in their statistics.
    size = len(batches[0]) if train_step.graphed and config.frozen_norms else 0
    padded = [np.concatenate([batch, np.repeat(batch[:1], max(0, size - len(batch)))]) for batch in batches]
    passed = inputs(Epoch(padded, (config.seed, epoch)))
    passed = track(passed, f"{label} {epoch}/{config.epochs}", len(targets), per_item=config.batch_size)
    results, checked = torch.zeros(steps, 2, device=device), 0
    factor = 0.0
    for step, (tensors, batch) in enumerate(zip(passed, padded, strict=True)):
        step_targets = targets[batch]
        step_targets[len(batches[step]) :] = PADDING
        # Dropout draws from torch's own generator.
        torch.manual_seed(seeded_generator(config.seed, epoch, step, 1).initial_seed())
        factor = lr_factor((epoch - 1) * steps + step, round(config.warmup_epochs * steps), config.epochs * steps)
        train_step.set_lr(factor)
        results[step] = torch.stack(train_step(tensors, to_device(torch.from_numpy(step_targets), device)))
        average.update()
        if step % CHECK_STEPS.get(device.type, 1) == 0 or step == steps - 1:
            for number, (loss, norm) in enumerate(results[checked : step + 1].tolist(), checked + 1):
                if not math.isfinite(loss) or not math.isfinite(norm):
                    values = f"loss {loss}, norm of the gradient {norm}"
                    raise TrainingError(f"{label}: {values} in epoch {epoch}, step {number} of {steps}; {_ADVICE}")
            checked = step + 1
    total = sum(loss * len(batch) for loss, batch in zip(results[:, 0].tolist(), batches, strict=True))
    peak = max(group["peak"] for group in train_step.optimizer.param_groups)
    return {"lr": peak * factor, "train_loss": total / len(targets)}


def class_weights(rule: str, targets: npt.NDArray[np.int64]) -> tuple[float, float] | None:
    """Weights of (negative, positive), mean 1: None for "none"; "balanced" gives each class half of their sum."""
    if rule == "none":
        return None
    n, positive = len(targets), int(targets.sum())
    return n / (2 * (n - positive)), n / (2 * positive)
