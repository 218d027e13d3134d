"""The one training loop: the head on kept features and the whole network on images both go through it.

In: a network, where its inputs come from, groups of parameters, a plan, and a way to judge. Out: the weights of the
best epoch by validation, epoch 0 (before any step) included, and the history of all.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from torch import Tensor, nn

from twofold.artifacts import write_bytes
from twofold.augmentation import generator
from twofold.checkpoint import Checkpoint
from twofold.errors import TrainingError
from twofold.numerics import autocast
from twofold.optimisation import Average, Groups, rate_factor
from twofold.progress import say, track

Row = dict[str, float | None]
Figures = dict[str, float]
Inputs = Callable[[npt.NDArray[np.int64], torch.Generator], Tensor]
# Fields of a plan that are parameters of both steps, by the same name.
SHARED = {"epochs", "batch_size", "warmup_epochs", "label_smoothing", "ema_decay", "clip_norm", "seed"}
BETTER = {"log_loss": -1.0, "roc_auc": 1.0, "accuracy": 1.0}  # figure: the sign of an improvement


@dataclass(frozen=True)
class Plan:
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


@dataclass
class Outcome:
    """What a training has come to so far: the weights of its best epoch, and every epoch's figures."""

    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    history: list[Row] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """The last one that is done; -1 before any."""
        return len(self.history) - 1

    def figures(self, epoch: int) -> Figures:
        """The validation figures of an epoch."""
        return {name: value for name in BETTER if (value := self.history[epoch][f"validation_{name}"]) is not None}

    def best_after(self, first: int, select_by: str) -> int:
        """The best epoch from `first` on, the earliest of equals."""
        sign = BETTER[select_by]
        return max(range(first, len(self.history)), key=lambda epoch: sign * self.figures(epoch)[select_by])

    def add(self, row: Row, state: dict[str, Tensor], select_by: str) -> None:
        """Take an epoch in; it is the best one only if it is better than all before."""
        self.history.append(row)
        gain = BETTER[select_by] * (self.figures(self.epoch)[select_by] - self.figures(self.best_epoch)[select_by])
        if self.epoch == 0 or gain > 0:
            self.best_epoch = self.epoch
            self.best = {name: tensor.detach().clone() for name, tensor in state.items()}


def train(
    network: nn.Module,
    inputs: Inputs,
    targets: npt.NDArray[np.int64],
    groups: Groups,
    plan: Plan,
    *,
    judge: Callable[[], Figures],
    label: str,
    checkpoint: Checkpoint | None = None,
    log: Callable[[int, Mapping[str, float]], None] = lambda epoch, figures: None,
) -> Outcome:
    """Train a network on cross-entropy.

    Args:
        network: inputs to logits (N, 2); left in an undefined state, the weights wanted are `.best`.
        inputs: positions in `targets` and a generator for what is random -> the network's input.
        targets: (N,) 0 or 1.
        groups: of AdamW's parameters, each with its peak learning rate.
        plan: how to train.
        judge: validation figures of the network as it stands.
        label: for the person who watches.
        checkpoint: to go on from and to write after every epoch.
        log: takes every epoch's figures as it ends, those of epochs done before a kill again.

    Raises:
        TrainingError: the loss, the gradient or a validation figure is not finite.
    """
    optimizer = torch.optim.AdamW(groups, fused=True)
    average = Average(network, plan.ema_decay)
    outcome = Outcome()
    kept = checkpoint.load() if checkpoint else None
    if kept:
        outcome = _restore(kept, network, optimizer, average)
        say(f"{label}: goes on after epoch {outcome.epoch} of {plan.epochs}")
        for epoch, done in enumerate(outcome.history):
            log(epoch, _numbers(done))
    while outcome.epoch < plan.epochs:
        if plan.patience is not None and outcome.epoch - outcome.best_epoch >= plan.patience:
            break
        epoch = outcome.epoch + 1
        row: Row = {"epoch": epoch, "lr": None, "train_loss": None}
        if epoch:
            row |= _epoch(network, inputs, targets, optimizer, average, plan, epoch, label)
        with average.applied(network):
            row |= {f"validation_{name}": value for name, value in judge().items()}
        wrong = [name for name, value in _numbers(row).items() if not math.isfinite(value)]
        if wrong:
            raise TrainingError(f"{label}: {', '.join(wrong)} not finite after epoch {epoch}; {_ADVICE}")
        outcome.add(row, average.state, plan.select_by)
        log(epoch, _numbers(row))
        if checkpoint and epoch:
            checkpoint.save(_state(outcome, network, optimizer, average))
    return outcome


_ADVICE = "lower the learning rate, warm up for longer, or clip the gradient at a smaller norm"


def _epoch(
    network: nn.Module,
    inputs: Inputs,
    targets: npt.NDArray[np.int64],
    optimizer: torch.optim.Optimizer,
    average: Average,
    plan: Plan,
    epoch: int,
    label: str,
) -> Row:
    device = next(network.parameters()).device
    weights = torch.tensor(plan.class_weights, device=device) if plan.class_weights else None
    _training_mode(network, plan.frozen_norms)
    steps = math.ceil(len(targets) / plan.batch_size)
    order = torch.randperm(len(targets), generator=generator(plan.seed, epoch)).numpy()
    batches = track(
        np.array_split(order, steps), f"{label} {epoch}/{plan.epochs}", len(targets), per_item=plan.batch_size
    )
    factor, total = 0.0, 0.0
    for step, chosen in enumerate(batches):
        random = generator(plan.seed, epoch, step)
        # Dropout draws from torch's own generator.
        torch.manual_seed(generator(plan.seed, epoch, step, 1).initial_seed())
        factor = rate_factor((epoch - 1) * steps + step, round(plan.warmup_epochs * steps), plan.epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        wanted = torch.from_numpy(targets[chosen]).to(device)
        images = inputs(chosen, random)
        with autocast(device) if plan.mixed_precision else nullcontext():
            logits = network(images)
        loss = F.cross_entropy(logits.float(), wanted, weight=weights, label_smoothing=plan.label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(network.parameters(), plan.clip_norm)
        if not math.isfinite(loss.item()) or not math.isfinite(norm.item()):
            found = f"loss {loss.item()}, norm of the gradient {norm.item()}"
            raise TrainingError(f"{label}: {found} in epoch {epoch}, step {step + 1} of {steps}; {_ADVICE}")
        optimizer.step()
        average.update(network)
        total += loss.item() * len(chosen)
    peak = max(group["peak"] for group in optimizer.param_groups)
    return {"lr": peak * factor, "train_loss": total / len(targets)}


def _training_mode(network: nn.Module, frozen_norms: bool) -> None:
    network.train()
    for module in network.modules():
        if frozen_norms and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def validation_figures(targets: npt.NDArray[np.int64], probability: npt.NDArray[np.float64]) -> Figures:
    """Log loss, ROC-AUC and accuracy at 0.5 of probabilities of the positive class."""
    if not np.isfinite(probability).all():
        return dict.fromkeys(BETTER, math.nan)
    return {
        "log_loss": float(log_loss(targets, probability, labels=[0, 1])),
        "roc_auc": float(roc_auc_score(targets, probability)),
        "accuracy": float(accuracy_score(targets, probability >= 0.5)),
    }


def class_weights(rule: str, targets: npt.NDArray[np.int64]) -> tuple[float, float] | None:
    """Weights of (negative, positive): None for "none"; for "balanced", both classes weigh the same in sum."""
    if rule == "none":
        return None
    n, positive = len(targets), int(targets.sum())
    return n / (2 * (n - positive)), n / (2 * positive)


def told(figures: Figures) -> str:
    """Validation figures in a line for the person who watches."""
    return "on validation " + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items())


def write_history(path: Path, history: list[Row]) -> None:
    """One line an epoch; epoch 0 is before the first step and has no learning rate and no training loss."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_bytes(path, stream.getvalue().encode())


def _numbers(row: Row) -> Figures:
    return {name: value for name, value in row.items() if value is not None and name != "epoch"}


def _state(outcome: Outcome, network: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> dict[str, Any]:
    return {
        "best": outcome.best,
        "best_epoch": outcome.best_epoch,
        "history": outcome.history,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.state,
        "average_steps": average.steps,
    }


def _restore(kept: dict[str, Any], network: nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> Outcome:
    network.load_state_dict(kept["network"])
    optimizer.load_state_dict(kept["optimizer"])
    average.load(kept["average"], kept["average_steps"])
    return Outcome(kept["best"], kept["best_epoch"], kept["history"])
