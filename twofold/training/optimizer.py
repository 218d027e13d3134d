"""AdamW's parameter groups by depth, the learning-rate schedule, and the exponential moving average of the weights."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from twofold.model.classifier import Classifier

Groups = list[dict[str, Any]]


def layer_decay_groups(
    classifier: Classifier,
    stages: Sequence[Sequence[str]],
    *,
    learning_rate: float,
    head_learning_rate: float,
    stage_decay: float,
    weight_decay: float,
) -> Groups:
    """Parameter groups whose learning rate falls from the backbone's top stage down to its input.

    Args:
        classifier: each of its parameters is put into exactly one group.
        stages: prefixes of the backbone's parameters' names, up to a dot, from input to output.
        learning_rate: of the top stage.
        stage_decay: factor from a stage to the one below it, in (0, 1].
        weight_decay: of the kernels; norms and biases have none.
    """
    rates = [learning_rate * stage_decay**depth for depth in range(len(stages) - 1, -1, -1)]
    members: list[list[nn.Parameter]] = [[] for _ in stages]
    for name, parameter in classifier.backbone.named_parameters():
        matches = [i for i, prefixes in enumerate(stages) if f"{name}.".startswith(tuple(prefixes))]
        if len(matches) != 1:
            raise ValueError(f"{name}: belongs to {len(matches)} stages, must belong to one")
        members[matches[0]].append(parameter)
    rates, members = [*rates, head_learning_rate], [*members, list(classifier.head.parameters())]
    return [g for rate, some in zip(rates, members, strict=True) for g in decay_groups(some, rate, weight_decay)]


def decay_groups(parameters: Sequence[nn.Parameter], learning_rate: float, weight_decay: float) -> Groups:
    """Groups of one learning rate: matrices and kernels, which decay, and norms and biases, which do not."""
    kernels = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": some, "lr": learning_rate, "peak": learning_rate, "weight_decay": decay}
        for some, decay in ((kernels, weight_decay), (others, 0.0))
        if some
    ]


def lr_factor(step: int, warmup: int, total: int) -> float:
    """The factor on the peak learning rates: linear warm-up, then a half cosine to 0.

    Args:
        step: 0 .. total - 1.
        warmup: steps until the peak; the factor of the first step is above 0.
        total: steps of the whole training.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class WeightEMA:
    """The exponential moving average of weights (Polyak & Juditsky 1992), without a bias to the initial ones."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        # state_dict() returns the network's own storage, which a step and load_state_dict change in place.
        live = network.state_dict()
        self.state = {name: tensor.detach().clone() for name, tensor in live.items()}
        floats = [name for name, tensor in live.items() if tensor.is_floating_point()]
        self._averaged = [self.state[name] for name in floats], [live[name] for name in floats]
        self._copied = [(self.state[name], tensor) for name, tensor in live.items() if name not in floats]

    def update(self) -> None:
        """Move the average towards the network's current weights."""
        self.steps += 1
        # The decay grows with the steps: a fixed one would keep the initial weights for long.
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            # A few kernels for all tensors, as in torch.optim.swa_utils.
            torch._foreach_lerp_(*self._averaged, weight)
            for own, current in self._copied:
                own.copy_(current)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Give the network the averaged weights for the length of a `with` block."""
        current = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(self.state)
        try:
            yield
        finally:
            network.load_state_dict(current)

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Restore the average from a checkpoint."""
        self.steps = steps
        for name, tensor in state.items():
            self.state[name].copy_(tensor)
