"""The training step on a CPU, including the parts for a GPU that run there."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support.training_maker import CONFIG
from twofold.model import device
from twofold.training.loop import class_weights
from twofold.training.optimizer import decay_groups
from twofold.training.train_step import PADDING, StepResult, TrainStep, _CapturedStep, cross_entropy

LOGITS = torch.tensor([[2.0, -1.0], [0.3, 0.4], [-1.0, 0.5], [0.0, 3.0], [9.0, -9.0]])
TARGETS = torch.tensor([0, 1, 1, 0, 1])


def test_a_loss_by_hand():
    # log(1 + e^-3) and log(1 + e^3), weighted 1 and 3, over two images.
    logits, targets = torch.tensor([[3.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 1])
    low, high = math.log1p(math.exp(-3)), math.log1p(math.exp(3))
    found = cross_entropy(logits, targets, torch.tensor([1.0, 3.0]), 0.0)
    assert found.item() == pytest.approx((low + 3 * high) / 2)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.7, 1.9])])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_padding_counts_in_no_loss_and_in_no_gradient(weights, smoothing):
    filled = TARGETS.clone()
    filled[3:] = PADDING
    logits = LOGITS.clone().requires_grad_()
    loss = cross_entropy(logits, filled, weights, smoothing)
    each = F.cross_entropy(LOGITS[:3], TARGETS[:3], label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(loss, (each * (torch.ones(2) if weights is None else weights)[TARGETS[:3]]).mean())
    loss.backward()
    assert not logits.grad[3:].any()
    assert logits.grad[:3].any()


@pytest.mark.parametrize("size", [16, 20])  # images in a step; of 20, the last four are padding
def test_balanced_weights_give_a_rare_class_half_of_an_epochs_loss(size):
    targets = torch.tensor([1] * 24 + [0] * 776)[torch.randperm(800, generator=torch.Generator().manual_seed(0))]
    weights = torch.tensor(class_weights("balanced", targets.numpy()))
    share = torch.zeros(2)
    for batch in targets.split(16):
        filled = F.pad(batch, (0, size - 16), value=PADDING)
        # Undecided about every image, the gradient of a logit is half of the image's weight in the step.
        logits = torch.zeros(size, 2, requires_grad=True)
        cross_entropy(logits, filled, weights, 0.0).backward()
        share.index_add_(0, batch, 2 * logits.grad[:16, 1].abs())
    assert share.tolist() == pytest.approx([800 / 16 / 2] * 2, rel=1e-5)


def zero_step(**changes):
    """A step of a network whose weights (2, 2) are 0."""
    network = nn.Linear(2, 2, bias=False)
    network.weight.data.zero_()
    options = {"class_weights": None, "label_smoothing": 0.0, "clip_norm": 1e9, "mixed_precision": False} | changes
    return network, TrainStep(network, network, decay_groups([network.weight], 0.1, 0.0), replace(CONFIG, **options))


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
    step.set_lr(0.0)
    low, high = math.log1p(math.exp(-3)), math.log1p(math.exp(3))
    loss = step((torch.tensor([[1.0, 0.0]]),), torch.tensor([0])).loss
    assert loss.item() == pytest.approx(0.9 * low + 0.1 * high)
    # Smoothing moves a tenth to each class; the weight is that of the image, not of the class it moves to.
    loss = step((torch.tensor([[1.0, 0.0]]),), torch.tensor([1])).loss
    assert loss.item() == pytest.approx(3 * (0.9 * high + 0.1 * low))


def test_a_step_uses_its_own_gradient_alone():
    _, step = zero_step()
    step.set_lr(0.0)
    norms = [step((torch.tensor([[1.0, 0.0]]),), torch.tensor([1])).norm.item() for _ in range(2)]
    assert norms == pytest.approx([math.sqrt(0.5)] * 2)


@pytest.mark.parametrize("mixed", [False, True])
def test_only_mixed_precision_computes_the_logits_in_16_bits(mixed, monkeypatch):
    monkeypatch.setattr(device, "has_bf16", lambda where: True)
    network, step = zero_step(mixed_precision=mixed)
    seen = []
    step._forward = lambda images: seen.append(network(images)) or seen[-1]
    assert step((torch.tensor([[1.0, 0.0]]),), torch.tensor([1])).loss.dtype == torch.float32
    assert [logits.dtype for logits in seen] == [torch.bfloat16 if mixed else torch.float32]


def test_the_fourth_step_of_each_shape_is_captured_and_later_ones_are_replayed():
    _, step = zero_step()
    step.graphed = True
    made = []
    step._warm_up = lambda tensors: made.append(("warm-up", len(tensors[0])))
    step._capture = lambda tensors: (
        made.append(("capture", len(tensors[0])))
        or SimpleNamespace(replay=lambda tensors: made.append(("replay", len(tensors[0]))))
    )
    for count in (5, 5, 4, 5, 5, 5, 4):
        step((torch.zeros(count, 2),), torch.zeros(count, dtype=torch.long))
    assert [kind for kind, count in made if count == 5] == [*["warm-up"] * 3, "capture", "replay", "replay"]
    assert [kind for kind, count in made if count == 4] == ["warm-up"] * 2


def test_a_replay_reads_the_new_inputs_where_the_graph_does():
    own, new = (torch.zeros(2), torch.zeros(3)), (torch.ones(2), torch.full((3,), 2.0))
    result, read = StepResult(torch.tensor(1.0), torch.tensor(2.0)), []
    graph = SimpleNamespace(replay=lambda: read.append([each.tolist() for each in own]))
    assert _CapturedStep(graph, own, result).replay(new) is result
    assert read == [[[1, 1], [2, 2, 2]]]
    with pytest.raises(ValueError, match="shorter"):
        _CapturedStep(graph, own, result).replay(new[:1])


def test_the_learning_rate_of_a_graph_is_changed_in_place():
    _, step = zero_step()
    step.graphed = True
    (group,) = [group for group in step.optimizer.param_groups if group["params"]]
    step.set_lr(0.5)
    first = group["lr"]
    assert first.item() == pytest.approx(0.05)
    step.set_lr(0.1)
    assert group["lr"] is first
    assert first.item() == pytest.approx(0.01)
