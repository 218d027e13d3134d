import pytest
import torch
import torch.nn.functional as F
from torch import nn

from twofold.model.classifier import BACKBONES, build_classifier
from twofold.model.fused_classifier import conv_bn_pairs
from twofold.training.conv_bn_folding import depthwise_in_float32, folded_batchnorm


@pytest.fixture(params=BACKBONES)
def classifier(request):
    """A network with non-trivial batch norms in evaluation mode: frozen statistics."""
    torch.manual_seed(0)
    made = build_classifier(request.param, 0.0).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.3, 0.7)
            module.bias.data.normal_(0, 0.1)
    return made


def gradients(classifier):
    torch.manual_seed(1)
    images, targets = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 1, 0])
    classifier.zero_grad()
    logits = classifier(images)
    F.cross_entropy(logits, targets).backward()
    return logits.detach(), {name: p.grad.clone() for name, p in classifier.named_parameters()}


def test_folding_keeps_the_logits_and_gradients(classifier):
    logits, plain = gradients(classifier)
    norms = [module for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)]
    with folded_batchnorm(classifier.backbone):
        assert all(norm.forward.__func__ is not type(norm).forward for norm in norms)
        found, cheap = gradients(classifier)
    torch.testing.assert_close(found, logits, atol=1e-4, rtol=1e-4)
    scale = max(gradient.norm() for gradient in plain.values())
    for name in plain:
        assert (cheap[name] - plain[name]).norm() <= 1e-3 * plain[name].norm() + 1e-5 * scale, name


def test_after_the_block_everything_is_as_before(classifier):
    before, _ = gradients(classifier)
    with folded_batchnorm(classifier.backbone), depthwise_in_float32(classifier.backbone):
        gradients(classifier)
    after, _ = gradients(classifier)
    assert torch.equal(before, after)
    assert not any("forward" in module.__dict__ for module in classifier.modules())


def test_every_batch_norm_has_the_convolution_before_it(classifier):
    norms = [module for module in classifier.modules() if isinstance(module, nn.BatchNorm2d)]
    found = conv_bn_pairs(classifier.backbone)
    assert [norm for _, norm in found] == norms
    assert len({id(convolution) for convolution, _ in found}) == len(norms)


class Shortcut(nn.Module):
    """A convolution that a batch norm reads, and the sum behind it too."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images):
        maps = self.conv(images)
        return self.norm(maps) + maps


class Standardised(nn.Conv2d):
    """A convolution with another kernel than its weight: a scale on the weight has no effect."""

    def forward(self, images):
        return F.conv2d(images, self.weight / self.weight.norm(), self.bias)


def test_a_batch_norm_that_is_not_alone_behind_a_convolution_is_left_as_it_is():
    shared = nn.Conv2d(3, 3, 1)
    for network in (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)),
        nn.Sequential(shared, nn.BatchNorm2d(3), shared),
        Shortcut(),
        nn.Sequential(Standardised(3, 4, 1), nn.BatchNorm2d(4)),
    ):
        assert conv_bn_pairs(network) == []


def test_depthwise_convolutions_compute_in_float32_and_return_bfloat16():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.Conv2d(8, 8, 1, bias=False))
    images = torch.randn(2, 8, 9, 9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16), depthwise_in_float32(network):
        exact = network[0](images)
        assert network[1](exact).dtype == torch.bfloat16
    assert exact.dtype == torch.bfloat16
    assert torch.equal(exact, network[0](images.float()).bfloat16())
    with depthwise_in_float32(network):
        assert network(images.float()).dtype == torch.float32  # without autocast, nothing changes
