"""Cheaper convolutions for training, in `with` blocks, without changing what the network learns."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from twofold.model.fused_classifier import conv_bn_pairs

Forward = Callable[[Tensor], Tensor]


def folded_batchnorm(network: nn.Module) -> AbstractContextManager[None]:
    """Fold every frozen batch norm into the convolution before it, at each call and under autograd.

    A batch norm with fixed statistics is y = scale * x + shift with scale = weight / sqrt(variance + eps) and
    shift = bias - mean * scale, so convolving with `scale * kernel` and adding `shift` gives the same output and, by
    the chain rule, the same gradients of kernel, weight and bias, without another pass over the feature map. (Ioffe &
    Szegedy 2015, section 3.1.)
    """
    replacements: list[tuple[nn.Module, Forward]] = []
    for convolution, norm in conv_bn_pairs(network):
        # timm's batch norms include the activation that follows them.
        activation = getattr(norm, "act", nn.Identity())
        replacements += [(convolution, _folded_forward(convolution, norm)), (norm, activation.forward)]
    return _replaced_forwards(replacements)


def depthwise_in_float32(network: nn.Module) -> AbstractContextManager[None]:
    """Compute depthwise convolutions in float32 while gradients are recorded under autocast.

    On a CPU their bfloat16 gradient is slow; without gradients bfloat16 is faster.
    """
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    return _replaced_forwards([(module, _float32_forward(module.forward)) for module in depthwise])


def _folded_forward(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> Forward:
    # The convolution's own forward with another kernel and bias keeps its padding and stride.
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
            # Without an assignment to a module, a compiler gets one expression.
            output: Tensor = convolution._conv_forward(images, kernel, shift)
        else:
            twin.weight, twin.bias = kernel, shift
            output = type(convolution).forward(twin, images)
        return output

    return forward


def _float32_forward(convolve: Forward) -> Forward:
    def forward(images: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(images.device.type) or not torch.is_grad_enabled():
            return convolve(images)
        with torch.autocast(images.device.type, enabled=False):
            return convolve(images.float()).to(images.dtype)

    return forward


@contextmanager
def _replaced_forwards(replacements: Sequence[tuple[nn.Module, Forward]]) -> Iterator[None]:
    """Replace the modules' forward for the length of a `with` block."""
    previous = [(module, module.__dict__.get("forward")) for module, _ in replacements]
    for module, forward in replacements:
        module.forward = forward
    try:
        yield
    finally:
        for module, before in previous:
            del module.forward
            if before is not None:
                module.forward = before
