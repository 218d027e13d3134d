"""A faster copy of a classifier for inference, with constant weights, that gives the same answers.

Takes a classifier, which stays unchanged, and the precision to compute in. In the copy every batch norm is folded into
the convolution before it. A sealed model carries a copy of this file, so it imports nothing else of Twofold but the
classifier.
"""

import copy
from collections import Counter
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from twofold.model.classifier import Classifier, run_on_meta

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class FusedClassifier(Classifier):
    """Maps images to two logits: the backbone computes in the chosen precision, the head always in float32.

    The head costs almost nothing, and a logit in bfloat16 would keep two or three digits. The weights are copies: later
    changes of the classifier do not affect them.

    Attributes:
        precision: one of PRECISIONS.
    """

    def __init__(self, classifier: Classifier, precision: str) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision: found {precision!r}, allowed are {', '.join(PRECISIONS)}")
        nn.Module.__init__(self)
        self.precision = precision
        # Ordinary tensors even under inference mode: Grad-CAM needs a gradient through the head.
        with torch.inference_mode(mode=False), torch.no_grad():
            self.backbone = copy.deepcopy(classifier.backbone)
            self.head = copy.deepcopy(classifier.head)
            for module in self.backbone.modules():
                # A forward patched in by training computes with the original's weights.
                module.__dict__.pop("forward", None)
            _fold_batchnorms(self.backbone)
            self.backbone.to(PRECISIONS[precision])
            if any(parameter.is_cuda for parameter in self.backbone.parameters()):
                _use_fused_convolutions(self.backbone)
            self.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) normalised -> (N, F) float32: the backbone's last feature map, averaged over its positions."""
        pooled: Tensor = self.backbone(images.to(PRECISIONS[self.precision]))
        return pooled.float()


class _Calls(TorchFunctionMode):
    """Records each call of a torch function that returns tensors: the function, its tensors, and the result."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, list[Tensor], Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if any(isinstance(each, Tensor) for each in tree_leaves(result)):
            self.calls.append((func, given, result))
        return result


def conv_bn_pairs(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution whose output a batch norm reads and nothing else, with that batch norm.

    A run shows them; modules that are defined one after the other need not be called so.
    """
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return pairs
    with _Calls() as record:
        state, _ = run_on_meta(network, getattr(network, "pretrained_cfg", {}).get("input_size", (3, 64, 64)))
    owners = {id(state.get(f"{name}.weight")): module for name, module in network.named_modules()}
    reads = Counter(id(tensor) for _, tensors, _ in record.calls for tensor in tensors)
    convolutions: dict[int, nn.Conv2d] = {}
    for func, tensors, result in record.calls:
        # The module whose own weight is used, once, and not another kernel that is made from it.
        module = next((owners[id(each)] for each in tensors if id(each) in owners and reads[id(each)] == 1), None)
        if func is F.conv2d and isinstance(module, nn.Conv2d):
            convolutions[id(result)] = module
        elif func is F.batch_norm and isinstance(module, nn.BatchNorm2d):
            convolution = convolutions.get(id(tensors[0]))
            if convolution and reads[id(tensors[0])] == 1:
                pairs.append((convolution, module))
    return pairs


def _use_fused_convolutions(network: nn.Module) -> None:
    """Use cuDNN kernels that add bias and residual and apply ReLU within the convolution, on a ResNet.

    Separate kernels would each read and write a whole feature map: an H200 scores twice as many images with fused ones.
    """
    from torchvision.models.resnet import Bottleneck, ResNet  # takes a second to import, and only a GPU needs it

    if not isinstance(network, ResNet):
        return
    network.conv1.forward = partial(_conv_relu, network.conv1)
    network.relu = nn.Identity()
    for module in network.modules():
        if isinstance(module, Bottleneck):
            module.forward = partial(_bottleneck_forward, module)


def _bottleneck_forward(block: Any, images: Tensor) -> Tensor:
    if not images.is_cuda:
        return cast(Tensor, type(block).forward(block, images))
    shortcut = images if block.downsample is None else block.downsample(images)
    maps = _conv_relu(block.conv2, _conv_relu(block.conv1, images))
    last = block.conv3
    return torch.cudnn_convolution_add_relu(
        maps, last.weight, shortcut, 1.0, last.bias, last.stride, last.padding, last.dilation, last.groups
    )


def _conv_relu(layer: Any, images: Tensor) -> Tensor:
    if not images.is_cuda:
        return torch.relu(type(layer).forward(layer, images))
    return torch.cudnn_convolution_relu(
        images, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
    )


def _fold_batchnorms(network: nn.Module) -> None:
    """Fold every batch norm into the convolution before it, in float64, as `twofold.training.conv_bn_folding` does."""
    names = {module: name for name, module in network.named_modules()}
    for convolution, norm in conv_bn_pairs(network):
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None  # noqa: S101  (for the type checker)
        scale = norm.weight.double() / torch.sqrt(variance.double() + norm.eps)
        shift = norm.bias.double() - mean.double() * scale
        if convolution.bias is not None:
            shift += convolution.bias.double() * scale
        kernel = convolution.weight.double() * scale.view(-1, 1, 1, 1)
        convolution.weight = nn.Parameter(kernel.to(convolution.weight.dtype), requires_grad=False)
        convolution.bias = nn.Parameter(shift.to(convolution.weight.dtype), requires_grad=False)
        # timm's batch norms include the activation that follows them.
        network.set_submodule(names[norm], getattr(norm, "act", nn.Identity()))
