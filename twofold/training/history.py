"""The history of a training: validation metrics of every epoch, and the weights of the best one."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from torch import Tensor

from twofold.core.artifacts import write_csv

Row = dict[str, float | None]
Metrics = dict[str, float]
SIGN = {"log_loss": -1.0, "roc_auc": 1.0, "accuracy": 1.0}  # of an improvement


@dataclass
class TrainingHistory:
    """The weights of the best epoch so far, and the metrics of every epoch."""

    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    history: list[Row] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """The last finished epoch; -1 before any."""
        return len(self.history) - 1

    def metrics(self, epoch: int) -> Metrics:
        """The validation metrics of an epoch."""
        return {name: value for name in SIGN if (value := self.history[epoch][f"validation_{name}"]) is not None}

    def best_after(self, first: int, select_by: str) -> int:
        """The best epoch from `first` on, the earliest of equals."""
        return max(range(first, len(self.history)), key=lambda epoch: self._score(epoch, select_by))

    def add(self, row: Row, state: dict[str, Tensor], select_by: str) -> None:
        """Add an epoch; it becomes the best one only if it is better than all before."""
        self.history.append(row)
        if self.epoch == 0 or self._score(self.epoch, select_by) > self._score(self.best_epoch, select_by):
            self.best_epoch = self.epoch
            self.best = {name: tensor.detach().clone() for name, tensor in state.items()}

    def _score(self, epoch: int, select_by: str) -> float:
        return SIGN[select_by] * self.metrics(epoch)[select_by]


def epoch_metrics(row: Row) -> Metrics:
    """The metrics that an epoch has."""
    return {name: value for name, value in row.items() if value is not None and name != "epoch"}


def validation_metrics(
    targets: npt.NDArray[np.int64], probability: npt.NDArray[np.float64], weights: tuple[float, float] | None = None
) -> Metrics:
    """Log loss with class weights (negative, positive), ROC-AUC and accuracy; all NaN if a probability is not finite.

    The accuracy is at the threshold that undoes the weights: positive / (negative + positive), 0.5 without weights.
    """
    if not np.isfinite(probability).all():
        return dict.fromkeys(SIGN, math.nan)
    negative, positive = weights or (1.0, 1.0)
    return {
        "log_loss": float(
            log_loss(targets, probability, sample_weight=np.where(targets == 1, positive, negative), labels=[0, 1])
        ),
        "roc_auc": float(roc_auc_score(targets, probability)),
        "accuracy": float(accuracy_score(targets, probability >= positive / (negative + positive))),
    }


def format_metrics(metrics: Metrics) -> str:
    """Validation metrics as text for a log line."""
    return "on validation " + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())


def write_history(path: Path, history: list[Row]) -> None:
    """Write one CSV line per epoch; epoch 0 is before the first step and has no learning rate and no training loss."""
    header = list(history[0])
    write_csv(path, header, [[row[name] for name in header] for row in history])
