"""The one training loop: the head on kept features and the whole network on images both go through it.

In: a network, where its inputs come from, groups of parameters, a plan, and a way to judge. Out: the weights of the
best epoch by validation, epoch 0 (before any step) included, and the history of all.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from twofold.core.errors import TrainingError
from twofold.core.progress import say, track
from twofold.model.device import to_device
from twofold.training.augmentation import seeded_generator
from twofold.training.checkpoint import Checkpoint
from twofold.training.history import Figures, Row, TrainingHistory, numbers_of
from twofold.training.optimizer import Groups, WeightEMA, lr_factor
from twofold.training.train_step import NOBODY, Forward, TrainStep

# Fields of a plan that are parameters of both steps, by the same name.
SHARED = {"epochs", "batch_size", "warmup_epochs", "label_smoothing", "ema_decay", "clip_norm", "seed"}
# Seconds from one checkpoint to the next, which is all that a kill can cost: where an epoch takes less than writing it,
# every epoch's would be most of the work.
KEPT = {"cuda": 15.0}
# Steps after which loss and gradient are looked at: to look is to wait for a GPU, which then waits for the next step.
READ = {"cuda": 64}


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how to train.

    Attributes:
        epochs: at most.
        patience: epochs without an improvement after which to stop; None to go on to the end.
        batch_size: at most; an epoch is cut into batches that differ by one image at most.
        warmup_epochs: until the peak of the learning rate; may be a part of one.
        label_smoothing: share of the label spread over both classes, in 0..1.
        class_weights: (negative, positive) in the loss; None for 1 and 1.
        ema_decay: of the average of the weights that is judged and kept; 0 for the weights themselves.
        clip_norm: greatest norm of the gradient of all parameters.
        frozen_norms: batch norms keep the statistics that they came with.
        mixed_precision: bfloat16 where the device has it; else float32.
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


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images.

    Attributes:
        batches: which positions in the targets go into each step.
        address: (seed, number of the epoch); all that is random in it depends on this and on the step.
    """

    batches: list[npt.NDArray[np.int64]]
    address: tuple[int, int]

    def random(self, step: int) -> torch.Generator:
        """What a step's augmentation draws from."""
        return seeded_generator(*self.address, step)


# The tensors that go into the forward pass of each step of an epoch, one after the other.
Inputs = Callable[[Epoch], Iterator[tuple[Tensor, ...]]]


def train(
    network: nn.Module,
    inputs: Inputs,
    targets: npt.NDArray[np.int64],
    groups: Groups,
    plan: TrainingConfig,
    *,
    judge: Callable[[], Figures],
    label: str,
    forward: Forward | None = None,
    checkpoint: Checkpoint | None = None,
    log: Callable[[int, Mapping[str, float]], None] = lambda epoch, figures: None,
) -> TrainingHistory:
    """Train a network on cross-entropy.

    Args:
        network: left in an undefined state, the weights wanted are `.best`.
        inputs: what each step of an epoch puts into the forward pass, on the network's device, ahead of the step.
        targets: (N,) 0 or 1.
        groups: of AdamW's parameters, each with its peak learning rate.
        plan: how to train.
        judge: validation figures of the network as it stands.
        label: for the person who watches.
        forward: inputs to logits (N, 2), through the network; None if that is all that the network does.
        checkpoint: to go on from and to write after every epoch.
        log: takes every epoch's figures as it ends, those of epochs done before a kill again.

    Raises:
        TrainingError: the loss, the gradient or a validation figure is not finite.
    """
    descent = TrainStep(
        network,
        forward or network,
        groups,
        class_weights=plan.class_weights,
        label_smoothing=plan.label_smoothing,
        clip_norm=plan.clip_norm,
        mixed_precision=plan.mixed_precision,
    )
    average = WeightEMA(network, plan.ema_decay)
    outcome = TrainingHistory()
    kept = checkpoint.load() if checkpoint else None
    if kept:
        outcome = _restore(kept, network, descent.optimizer, average)
        say(f"{label}: goes on after epoch {outcome.epoch} of {plan.epochs}")
        for epoch, done in enumerate(outcome.history):
            log(epoch, numbers_of(done))
    last = time.monotonic()
    while outcome.epoch < plan.epochs:
        if plan.patience is not None and outcome.epoch - outcome.best_epoch >= plan.patience:
            break
        epoch = outcome.epoch + 1
        row: Row = {"epoch": epoch, "lr": None, "train_loss": None}
        if epoch:
            row |= _epoch(network, inputs, targets, descent, average, plan, epoch, label)
        with average.applied(network):
            row |= {f"validation_{name}": value for name, value in judge().items()}
        wrong = [name for name, value in numbers_of(row).items() if not math.isfinite(value)]
        if wrong:
            raise TrainingError(f"{label}: {', '.join(wrong)} not finite after epoch {epoch}; {_ADVICE}")
        outcome.add(row, average.state, plan.select_by)
        log(epoch, numbers_of(row))
        if checkpoint and epoch and time.monotonic() - last >= KEPT.get(descent.device.type, 0.0):
            checkpoint.save(_state(outcome, network, descent.optimizer, average))
            last = time.monotonic()
    return outcome


_ADVICE = "lower the learning rate, warm up for longer, or clip the gradient at a smaller norm"


def _epoch(
    network: nn.Module,
    inputs: Inputs,
    targets: npt.NDArray[np.int64],
    descent: TrainStep,
    average: WeightEMA,
    plan: TrainingConfig,
    epoch: int,
    label: str,
) -> Row:
    device = descent.device
    _training_mode(network, plan.frozen_norms)
    steps = math.ceil(len(targets) / plan.batch_size)
    order = torch.randperm(len(targets), generator=seeded_generator(plan.seed, epoch)).numpy()
    batches = np.array_split(order, steps)
    # Live batch norms would take what fills a batch up into their statistics.
    size = len(batches[0]) if descent.one_shape and plan.frozen_norms else 0
    passage = Epoch([_filled(chosen, size) for chosen in batches], (plan.seed, epoch))
    shown = track(inputs(passage), f"{label} {epoch}/{plan.epochs}", len(targets), per_item=plan.batch_size)
    found, looked = torch.zeros(steps, 2, device=device), 0
    every = READ.get(device.type, 1)
    factor = 0.0
    for step, (given, chosen) in enumerate(zip(shown, passage.batches, strict=True)):
        wanted = targets[chosen]
        wanted[len(batches[step]) :] = NOBODY
        # Dropout draws from torch's own generator.
        torch.manual_seed(seeded_generator(plan.seed, epoch, step, 1).initial_seed())
        factor = lr_factor((epoch - 1) * steps + step, round(plan.warmup_epochs * steps), plan.epochs * steps)
        descent.rates(factor)
        found[step] = torch.stack(descent(given, to_device(torch.from_numpy(wanted), device)))
        average.update()
        if step % every == 0 or step == steps - 1:
            _finite(found[looked : step + 1], looked, f"in epoch {epoch}, step {{}} of {steps}", label)
            looked = step + 1
    total = sum(loss * len(chosen) for loss, chosen in zip(found[:, 0].tolist(), batches, strict=True))
    peak = max(group["peak"] for group in descent.optimizer.param_groups)
    return {"lr": peak * factor, "train_loss": total / len(targets)}


def _filled(chosen: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    return np.concatenate([chosen, np.repeat(chosen[:1], max(0, size - len(chosen)))])


def _finite(found: Tensor, before: int, where: str, label: str) -> None:
    """Stop at the first step whose loss or gradient is not finite; this waits for the device."""
    for step, (loss, norm) in enumerate(found.tolist(), before + 1):
        if not math.isfinite(loss) or not math.isfinite(norm):
            said = f"loss {loss}, norm of the gradient {norm}"
            raise TrainingError(f"{label}: {said} {where.format(step)}; {_ADVICE}")


def _training_mode(network: nn.Module, frozen_norms: bool) -> None:
    network.train()
    for module in network.modules():
        if frozen_norms and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def class_weights(rule: str, targets: npt.NDArray[np.int64]) -> tuple[float, float] | None:
    """Weights of (negative, positive): None for "none"; for "balanced", both classes weigh the same in sum."""
    if rule == "none":
        return None
    n, positive = len(targets), int(targets.sum())
    return n / (2 * (n - positive)), n / (2 * positive)


def _state(
    outcome: TrainingHistory, network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightEMA
) -> dict[str, Any]:
    return {
        "best": outcome.best,
        "best_epoch": outcome.best_epoch,
        "history": outcome.history,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.state,
        "average_steps": average.steps,
    }


def _restore(
    kept: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightEMA
) -> TrainingHistory:
    network.load_state_dict(kept["network"])
    optimizer.load_state_dict(kept["optimizer"])
    average.load(kept["average"], kept["average_steps"])
    return TrainingHistory(kept["best"], kept["best_epoch"], kept["history"])
