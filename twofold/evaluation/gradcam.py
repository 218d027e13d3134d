"""Where in an image a model's answer comes from: in come a classifier and uint8 images, out goes one map an image.

Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization",
equations 1 and 2). With A_k the k-th channel of the backbone's last map, before it is averaged over its positions, and
y the score of an answer,

    alpha_k = mean over the positions of dy / dA_k          map = ReLU(sum over k of alpha_k A_k)

As the score of one of two classes y is its logit minus the other's: the logits have a common part of which no
probability depends. The network up to that map computes in the classifier's precision, all after it in float32. The
same bits every time; no image's map depends on another image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from twofold.core.errors import ArtifactError
from twofold.model.classifier import Classifier, build
from twofold.model.inference import exact, normalise, on_device

# The module of each backbone that averages the last map over its positions.
POOLS = {"resnet50": "avgpool", "efficientnet_lite0": "global_pool"}
Maps = npt.NDArray[np.float32]


def maps(
    classifier: Classifier,
    pool: str,
    images: npt.NDArray[np.uint8],
    answers: Sequence[int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Maps:
    """What of each image speaks for an answer.

    Args:
        classifier: on any device; put into evaluation mode, and its parameters ask for no gradient afterwards.
        pool: name of the module of its backbone that averages the last map.
        images: (N, S, S, C), C 1 (grey, repeated) or 3; each is looked at as it is, not in several views.
        answers: the class that each is explained for: 1 is the positive one, 0 the other.
        mean, std: per channel, pixels in 0..1.

    Returns:
        (N, h, w) in 0..1 at the size of the last map, each divided by its largest value: 1 is what speaks most for
        the answer within this image, 0 what does not speak for it. All 0 where nothing does.

    Raises:
        ArtifactError: the module named does not take a map.
    """
    classifier.eval().requires_grad_(False)
    device = next(classifier.parameters()).device
    found = []
    with exact(), torch.enable_grad():
        for image, answer in zip(images, answers, strict=True):
            seen, logits = _last_map(classifier, pool, normalise(on_device(image[None], device), mean, std))
            (slope,) = torch.autograd.grad(logits[0, answer] - logits[0, 1 - answer], seen)
            weights = slope.mean(dim=(2, 3), keepdim=True)
            heat = (weights * seen.detach()).sum(dim=1)[0].relu()
            largest = heat.max()
            found.append((heat / largest if largest > 0 else heat).cpu().numpy())
    return np.stack(found) if found else np.zeros((0, 0, 0), np.float32)


def untrained(backbone: str) -> Classifier:
    """The same network with random weights, the same ones every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(backbone, 0.0)


def likeness(some: Maps, others: Maps) -> float:
    """Median over the images of the rank correlation (Spearman) of two maps of one image, -1..1.

    A map without any difference in it has no ranks, and counts as 0: it has nothing in common with another.
    """
    found = []
    for one, other in zip(some, others, strict=True):
        flat = one.min() == one.max() or other.min() == other.max()
        found.append(0.0 if flat else float(spearmanr(one.ravel(), other.ravel()).statistic))
    return float(np.median(found))


def _last_map(classifier: Classifier, pool: str, image: Tensor) -> tuple[Tensor, Tensor]:
    """The map (1, K, h, w) that goes into the average, as the leaf of a graph, and the logits (1, 2) made from it."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor, ...]:
        kept.append(given[0].detach().float().requires_grad_())
        return (kept[-1], *given[1:])

    hook = classifier.backbone.get_submodule(pool).register_forward_pre_hook(keep)
    try:
        logits = classifier(image.contiguous(memory_format=torch.channels_last))
    finally:
        hook.remove()
    if len(kept) != 1 or kept[0].ndim != 4:
        raise ArtifactError(f"Grad-CAM: '{pool}' of this backbone takes no map (1, K, h, w), or not once")
    return kept[0], logits
