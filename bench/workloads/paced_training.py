"""The product's own training loop, paused after every epoch until the next one is requested."""

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

from bench.harness.hardware import by_device, synchronize
from bench.harness.timing import work_size
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import BACKBONES, Backbone, Classifier, build_classifier
from twofold.model.device import device
from twofold.model.torch_compile import compiled, should_compile
from twofold.training.augmentation import Augmentation
from twofold.training.conv_bn_folding import depthwise_in_float32, folded_batchnorm
from twofold.training.data_loader import TrainingBatches
from twofold.training.loop import Inputs, train
from twofold.training.optimizer import layer_decay_groups
from twofold.training.train_step import TrainingConfig

CONSTANT_METRICS = {"log_loss": 1.0, "roc_auc": 0.5, "accuracy": 0.5}
AUGMENTATION = Augmentation(flips=True, orientation_free=True, crop_min_area=1, brightness=0, contrast=0)
RESNET50 = BACKBONES["resnet50"]
M = TypeVar("M", bound=nn.Module)
SIZE = 224
BLOCKS, BRANCH_SCALE = 16, 0.25  # residual branches of a ResNet-50, and the weight of their last norm
ENDLESS = 10**6  # epochs; also enough steps to make compiling worthwhile on any device


@dataclass(frozen=True)
class EpochSize:
    """Images per epoch and per step."""

    images: int
    batch: int


def epoch_size() -> EpochSize:
    """An epoch for this hardware: at the best batch size of a CPU, a GPU would be idle."""
    return by_device(cpu=EpochSize(work_size(64, 32), 16), gpu=EpochSize(work_size(4096, 512), 256))


class TrainingStoppedError(Exception):
    """Ends a training from its validation."""


class PacedTraining:
    """`loop.train` in a thread; each call lets it run one more epoch."""

    def __init__(
        self,
        classifier: Classifier,
        inputs: Inputs,
        targets: npt.NDArray[np.int64],
        batch: int,
        forward: Callable[..., Tensor] | None = None,
    ) -> None:
        """Start the training and wait until its first epoch is next.

        Args:
            classifier: a ResNet-50; its norms are frozen and folded, as in params.yaml.
            inputs, targets, forward: as for `loop.train`.
            batch: largest number of images per step.
        """
        self._go: queue.Queue[bool] = queue.Queue()
        self._done: queue.Queue[BaseException | None] = queue.Queue()
        fuse = should_compile(device(), ENDLESS, batch, SIZE)

        def judge() -> dict[str, float]:
            synchronize()
            self._done.put(None)
            if not self._go.get():
                raise TrainingStoppedError
            return CONSTANT_METRICS

        def work() -> None:
            rates = {"learning_rate": 1e-6, "head_learning_rate": 1e-6, "stage_decay": 0.8, "weight_decay": 0.05}
            groups = layer_decay_groups(classifier, RESNET50.stages, **rates)
            network = forward or classifier
            try:
                with finetuning_numerics(classifier):
                    train(
                        classifier,
                        inputs,
                        targets,
                        groups,
                        training_config(batch),
                        judge=judge,
                        label="fine-tuning",
                        forward=compiled(network, "fine-tuning") if fuse else network,
                    )
            except BaseException as error:
                self._done.put(error)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()
        self._wait()

    def __call__(self) -> None:
        """Run one epoch."""
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


def finetune_batches(
    classifier: Classifier, data: PreparedDataset, batch: int, architecture: Backbone = RESNET50
) -> TrainingBatches:
    """The training images of prepared data, augmented by AUGMENTATION."""
    mean, std = architecture.mean, architecture.std
    return TrainingBatches(classifier, data, data.rows("train"), AUGMENTATION, mean=mean, std=std, batch_size=batch)


def finetune_epochs(classifier: Classifier, data: PreparedDataset, batch: int) -> PacedTraining:
    """The fine-tuning of a ResNet-50 on prepared data; each call runs one epoch."""
    batches = finetune_batches(classifier, data, batch)
    return PacedTraining(classifier, batches.inputs, data.target[data.rows("train")], batch, batches.forward)


def finetuning_numerics(classifier: Classifier) -> ExitStack:
    """The numerics of the finetune_all step."""
    stack = ExitStack()
    stack.enter_context(folded_batchnorm(classifier.backbone))
    if device().type == "cpu":
        stack.enter_context(depthwise_in_float32(classifier.backbone))
    return stack


def random_resnet50() -> Classifier:
    """A ResNet-50 with random weights from a fixed seed; pretrained ones are not faster or slower."""
    torch.manual_seed(0)
    classifier = scale_residual_branches(build_classifier("resnet50", 0.5))
    return classifier.to(device()).to(memory_format=torch.channels_last)


def scale_residual_branches(network: M) -> M:
    """Give the residual branches of a new ResNet-50 nonzero outputs, like those of a trained one.

    Their last norm is initialised with zero weights, and a GPU multiplies zeros faster than other numbers.
    """
    norms = [module for name, module in network.named_modules() if name.endswith(".bn3")]
    if len(norms) != BLOCKS:
        raise ValueError(f"{len(norms)} residual branches end in a norm named bn3; a ResNet-50 has {BLOCKS}")
    for norm in norms:
        nn.init.constant_(norm.get_parameter("weight"), BRANCH_SCALE)
    return network


def training_config(batch: int) -> TrainingConfig:
    """The values of params.yaml, without an end."""
    return TrainingConfig(
        epochs=ENDLESS,
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
