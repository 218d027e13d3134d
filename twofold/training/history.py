"""What a training has come to, epoch by epoch: figures on validation, and the weights of the best one."""

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from torch import Tensor

from twofold.core.artifacts import write_bytes

Row = dict[str, float | None]
Figures = dict[str, float]
BETTER = {"log_loss": -1.0, "roc_auc": 1.0, "accuracy": 1.0}  # figure: the sign of an improvement


@dataclass
class TrainingHistory:
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


def numbers_of(row: Row) -> Figures:
    """An epoch's figures without those that it does not have."""
    return {name: value for name, value in row.items() if value is not None and name != "epoch"}


def validation_figures(targets: npt.NDArray[np.int64], probability: npt.NDArray[np.float64]) -> Figures:
    """Log loss, ROC-AUC and accuracy at 0.5 of probabilities of the positive class."""
    if not np.isfinite(probability).all():
        return dict.fromkeys(BETTER, math.nan)
    return {
        "log_loss": float(log_loss(targets, probability, labels=[0, 1])),
        "roc_auc": float(roc_auc_score(targets, probability)),
        "accuracy": float(accuracy_score(targets, probability >= 0.5)),
    }


def format_metrics(figures: Figures) -> str:
    """Validation figures in a line for the person who watches."""
    return "on validation " + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items())


def write_history(path: Path, history: list[Row]) -> None:
    """One line an epoch; epoch 0 is before the first step and has no learning rate and no training loss."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_bytes(path, stream.getvalue().encode())
