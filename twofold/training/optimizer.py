"""How weights move: groups of parameters, the learning rate over time, the average of the weights.

In: a classifier and rates. Out: AdamW's parameter groups, a factor for each step, an average to evaluate with.
"""

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
        classifier: every parameter of which is put into exactly one group.
        stages: name prefixes of the backbone's parameters, from input to output.
        learning_rate: of the top stage.
        head_learning_rate: of the head.
        stage_decay: factor from a stage to the one below it, in (0, 1].
        weight_decay: of the kernels; norms and biases have none.
    """
    rates = [learning_rate * stage_decay**below for below in range(len(stages) - 1, -1, -1)]
    members: list[list[nn.Parameter]] = [[] for _ in stages]
    for name, parameter in classifier.backbone.named_parameters():
        places = [i for i, prefixes in enumerate(stages) if name.startswith(tuple(prefixes))]
        if len(places) != 1:
            raise ValueError(f"{name}: belongs to {len(places)} stages, must belong to one")
        members[places[0]].append(parameter)
    rates.append(head_learning_rate)
    members.append(list(classifier.head.parameters()))
    return [g for rate, some in zip(rates, members, strict=True) for g in decay_groups(some, rate, weight_decay)]


def decay_groups(parameters: Sequence[nn.Parameter], learning_rate: float, weight_decay: float) -> Groups:
    """Two groups of one learning rate: matrices and kernels, which decay, and norms and biases, which do not."""
    decays = [p for p in parameters if p.ndim > 1]
    stays = [p for p in parameters if p.ndim <= 1]
    both = [(decays, weight_decay), (stays, 0.0)]
    return [
        {"params": some, "lr": learning_rate, "peak": learning_rate, "weight_decay": decay}
        for some, decay in both
        if some
    ]


def lr_factor(step: int, warmup: int, total: int) -> float:
    """What the peak learning rates are multiplied with: linear warm-up, then a half cosine to 0.

    Args:
        step: 0 .. total - 1.
        warmup: steps until the peak; the first step already moves.
        total: steps of the whole training.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class WeightEMA:
    """The exponential moving average of a network's weights (Polyak & Juditsky 1992), without the early ones' bias."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        # state_dict() gives the network's own storage, which a step and load_state_dict change in place.
        live = network.state_dict()
        self.state = {name: tensor.detach().clone() for name, tensor in live.items()}
        moving = [name for name, tensor in live.items() if tensor.is_floating_point()]
        self._moving = [self.state[name] for name in moving], [live[name] for name in moving]
        self._counting = [(self.state[name], tensor) for name, tensor in live.items() if name not in set(moving)]

    def update(self) -> None:
        """Move towards the network's present weights."""
        self.steps += 1
        # A fixed decay would hold on to the start for as long as its memory reaches.
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(*self._moving, weight)  # as torch.optim.swa_utils does: a few kernels for all of them
            for mine, theirs in self._counting:
                mine.copy_(theirs)

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """Let the network have the average's weights for as long as the block lasts."""
        present = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(self.state)
        try:
            yield
        finally:
            network.load_state_dict(present)

    def load(self, state: dict[str, Tensor], steps: int) -> None:
        """Go on from an average that was kept."""
        self.steps = steps
        for name, tensor in state.items():
            self.state[name].copy_(tensor)
