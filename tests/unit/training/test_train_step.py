"""The training step on a CPU, including the parts for a GPU that run there."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twofold.training.optimizer import decay_groups
from twofold.training.train_step import PADDING, TrainStep, cross_entropy

LOGITS = torch.tensor([[2.0, -1.0], [0.3, 0.4], [-1.0, 0.5], [0.0, 3.0], [9.0, -9.0]])
TARGETS = torch.tensor([0, 1, 1, 0, 1])


def test_a_loss_by_hand():
    # log(1 + e^-3) and log(1 + e^3), weighted 1 and 3.
    logits, targets = torch.tensor([[3.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 1])
    low, high = math.log1p(math.exp(-3)), math.log1p(math.exp(3))
    for padded in (True, False):
        found = cross_entropy(logits, targets, torch.tensor([1.0, 3.0]), 0.0, padded=padded)
        assert found.item() == pytest.approx((low + 3 * high) / 4)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.7, 1.9])])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_padding_counts_in_no_loss_and_in_no_gradient(weights, smoothing):
    filled = TARGETS.clone()
    filled[3:] = PADDING
    logits = LOGITS.clone().requires_grad_()
    loss = cross_entropy(logits, filled, weights, smoothing, padded=True)
    expected = F.cross_entropy(LOGITS[:3], TARGETS[:3], weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert not logits.grad[3:].any()
    assert logits.grad[:3].any()


def zero_step(**changes):
    """A step of a network whose weights (2, 2) are 0."""
    network = nn.Linear(2, 2, bias=False)
    network.weight.data.zero_()
    options = {"class_weights": None, "label_smoothing": 0.0, "clip_norm": 1e9, "mixed_precision": False} | changes
    return network, TrainStep(network, network, decay_groups([network.weight], 0.1, 0.0), **options)


def test_a_step_moves_by_the_learning_rate_and_returns_loss_and_norm():
    network, step = zero_step()
    step.set_lr(0.5)
    loss, norm = step((torch.tensor([[1.0, 0.0]]),), torch.tensor([1]))
    assert loss.item() == pytest.approx(math.log(2))
    assert norm.item() == pytest.approx(math.sqrt(0.5))  # +0.5 and -0.5 in the first column
    # AdamW's first step is the learning rate in the gradient's direction.
    torch.testing.assert_close(network.weight.data, torch.tensor([[-0.05, 0.0], [0.05, 0.0]]))


def test_adamw_gets_the_clipped_gradient():
    network, step = zero_step(clip_norm=0.1)
    norm = step((torch.tensor([[1.0, 0.0]]),), torch.tensor([1])).norm
    assert norm.item() == pytest.approx(math.sqrt(0.5))  # before clipping
    # Its first moment is (1 - .9) times the gradient.
    assert step.optimizer.state[network.weight]["exp_avg"].norm().item() == pytest.approx(0.1 * 0.1, rel=1e-4)


def test_the_loss_of_a_step_has_class_weights_and_label_smoothing():
    network, step = zero_step(class_weights=(1.0, 3.0), label_smoothing=0.2)
    network.weight.data[0, 0] = 3.0  # logits 3 and 0
    low, high = math.log1p(math.exp(-3)), math.log1p(math.exp(3))
    loss = step((torch.tensor([[1.0, 0.0]]),), torch.tensor([0])).loss
    assert loss.item() == pytest.approx(0.8 * low + 0.1 * (low + 3 * high))
