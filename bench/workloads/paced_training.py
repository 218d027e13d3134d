"""The product's own training loop, held after every epoch until it is called for the next."""

import queue
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.harness.hardware import wait
from bench.harness.timing import sized
from twofold.model.classifier import BACKBONES, Classifier, build_classifier
from twofold.model.device import device
from twofold.model.torch_compile import compiled, should_compile
from twofold.training.augmentation import Augmentation
from twofold.training.conv_bn_folding import depthwise_in_float32, folded_batchnorm
from twofold.training.loop import Inputs, TrainingConfig, train
from twofold.training.optimizer import layer_decay_groups

STILL = {"log_loss": 1.0, "roc_auc": 0.5, "accuracy": 0.5}
TURNED = Augmentation(flips=True, orientation_free=True, crop_min_area=1, brightness=0, contrast=0)
RESNET50 = BACKBONES["resnet50"]
M = TypeVar("M", bound=nn.Module)
SIZE = 224
BLOCKS, BRANCH = 16, 0.25  # residual branches of a ResNet-50, and the factor that each then ends in
LONG = 10**6  # steps of a training that is worth compiling anywhere


@dataclass(frozen=True)
class Size:
    """Images of an epoch and of a step."""

    images: int
    batch: int


def size() -> Size:
    """What fits the hardware: a GPU is idle at the batch that a CPU likes best."""
    return Size(sized(4096, 512), 256) if device().type == "cuda" else Size(sized(64, 32), 16)


class OverError(Exception):
    """The benchmark is over."""


class Paced:
    """`training.train` in a thread; each call lets it do one epoch more."""

    def __init__(
        self,
        classifier: Classifier,
        inputs: Inputs,
        targets: npt.NDArray[np.int64],
        batch: int,
        forward: Callable[..., Tensor] | None = None,
    ) -> None:
        """Wait until it stands before its first epoch.

        Args:
            classifier: a ResNet-50; norms are frozen and folded, as in params.yaml.
            inputs, targets, forward: as `training.train` takes them.
            batch: images a step at most.
        """
        self._go: queue.Queue[bool] = queue.Queue()
        self._done: queue.Queue[BaseException | None] = queue.Queue()
        fuse = should_compile(device(), LONG, batch, SIZE)

        def judge() -> dict[str, float]:
            wait()
            self._done.put(None)
            if not self._go.get():
                raise OverError
            return STILL

        def work() -> None:
            rates = layer_decay_groups(
                classifier,
                RESNET50.stages,
                learning_rate=1e-6,
                head_learning_rate=1e-6,
                stage_decay=0.8,
                weight_decay=0.05,
            )
            shown = forward or classifier
            try:
                with arithmetic(classifier):
                    train(
                        classifier,
                        inputs,
                        targets,
                        rates,
                        plan(batch),
                        judge=judge,
                        label="fine-tuning",
                        forward=compiled(shown, "fine-tuning") if fuse else shown,
                    )
            except BaseException as error:
                self._done.put(error)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        self._wait()

    def __call__(self) -> None:
        """One epoch."""
        self._go.put(True)
        self._wait()

    def close(self) -> None:
        """End the training."""
        self._go.put(False)
        self._thread.join()

    def _wait(self) -> None:
        error = self._done.get()
        if error is not None:
            raise error


def arithmetic(classifier: Classifier) -> ExitStack:
    """What the finetune_all step computes with."""
    stack = ExitStack()
    stack.enter_context(folded_batchnorm(classifier.backbone))
    if device().type == "cpu":
        stack.enter_context(depthwise_in_float32(classifier.backbone))
    return stack


def classifier() -> Classifier:
    """A ResNet-50 with random weights, which cost what pretrained ones do, always the same ones."""
    torch.manual_seed(0)
    return passing(build_classifier("resnet50", 0.5)).to(device()).to(memory_format=torch.channels_last)


def passing(network: M) -> M:
    """Let the residual branches of a fresh ResNet-50 pass something on, as those of a trained one do.

    They end in a factor of zero, and a GPU multiplies zeros faster than other numbers.
    """
    last = [module for name, module in network.named_modules() if name.endswith(".bn3")]
    if len(last) != BLOCKS:
        raise ValueError(f"{len(last)} residual branches end in a norm named bn3, {BLOCKS} do in a ResNet-50")
    for norm in last:
        nn.init.constant_(norm.get_parameter("weight"), BRANCH)
    return network


def plan(batch: int) -> TrainingConfig:
    """As in params.yaml, without an end."""
    return TrainingConfig(
        epochs=LONG,
        patience=None,
        batch_size=batch,
        warmup_epochs=0,
        label_smoothing=0.05,
        class_weights=None,
        ema_decay=0.995,
        clip_norm=1,
        frozen_norms=True,
        mixed_precision=True,
        select_by="log_loss",
        seed=0,
    )
