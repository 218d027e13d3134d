"""Convolutions made cheaper while they train, without changing what they learn.

In: a network. Out: the same network, for as long as a `with` block lasts, with other arithmetic inside.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from twofold.model.fused_classifier import conv_bn_pairs

Forward = Callable[[Tensor], Tensor]


@contextmanager
def folded_batchnorm(network: nn.Module) -> Iterator[None]:
    """Fold every frozen batch norm into the convolution before it, anew at each call and under autograd.

    A batch norm with fixed statistics is y = scale * x + shift with scale = weight / sqrt(variance + eps) and
    shift = bias - mean * scale, so convolving with `scale * kernel` and adding `shift` gives the same output and, by
    the chain rule, the same gradients of kernel, weight and bias; the pass over the feature map is saved. (Ioffe &
    Szegedy 2015, section 3.1.)
    """
    with ExitStack() as patches:
        for convolution, norm in conv_bn_pairs(network):
            patches.enter_context(_patched(convolution, _fold(convolution, norm)))
            # timm's batch norms carry the activation that follows them.
            patches.enter_context(_patched(norm, getattr(norm, "act", nn.Identity()).forward))
        yield


@contextmanager
def depthwise_in_float32(network: nn.Module) -> Iterator[None]:
    """Compute depthwise convolutions in float32 while gradients are recorded under autocast.

    On the CPU their bfloat16 gradient is slow; without gradients bfloat16 is the faster one.
    """
    with ExitStack() as patches:
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                patches.enter_context(_patched(module, _in_float32(module.forward)))
        yield


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Forward:
    # The convolution's own forward with another kernel and bias: padding and stride stay its own business.
    plain = type(convolution) is nn.Conv2d
    twin = copy.copy(convolution)
    twin._parameters = {}

    def forward(images: Tensor) -> Tensor:
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None  # noqa: S101  (for the type checker)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        kernel = convolution.weight * scale.view(-1, 1, 1, 1)
        shift = norm.bias - mean * scale
        if convolution.bias is not None:
            shift = shift + convolution.bias * scale
        if plain:
            # Nothing is set on a module: a compiler sees one expression.
            output: Tensor = convolution._conv_forward(images, kernel, shift)
        else:
            twin.weight, twin.bias = kernel, shift
            output = type(convolution).forward(twin, images)
        return output

    return forward


def _in_float32(convolve: Forward) -> Forward:
    def forward(images: Tensor) -> Tensor:
        # Without a gradient to come, bfloat16 is the faster one here too.
        if not torch.is_autocast_enabled(images.device.type) or not torch.is_grad_enabled():
            return convolve(images)
        with torch.autocast(images.device.type, enabled=False):
            return convolve(images.float()).to(images.dtype)

    return forward


@contextmanager
def _patched(module: nn.Module, forward: Forward) -> Iterator[None]:
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
