"""Grad-CAM: which regions of an image support the model's answer. Takes a classifier and uint8 images, returns maps.

Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization",
equations 1 and 2). With A_k the k-th channel of the backbone's last feature map, before it is averaged over its
positions, and y the score of an answer,

    alpha_k = mean over the positions of dy / dA_k          map = ReLU(sum over k of alpha_k A_k)

The score y of one of two classes is its logit minus the other's, because the probabilities depend on that difference
alone. The network computes in the classifier's precision, its head and the sums above in float32. The same input gives
the same bits every time, and no image's map depends on another image.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from twofold.core.errors import ArtifactError
from twofold.data.resizing import to_image
from twofold.evaluation.error_analysis import Pixels, ScoredImage, data_url, most_confident_errors, sample_correct
from twofold.evaluation.explanations import Explanation, Explanations
from twofold.evaluation.predictions import Predictions
from twofold.model.classifier import Classifier, build_classifier
from twofold.model.inference import exact_float32, normalise, pixels_to_device

Maps = NDArray[np.float32]

# Colours from 0 to 1; they get lighter, so that they also differ in a grey print.
RAMP = ((59, 15, 112), (222, 73, 104), (254, 224, 120))
STRONGEST = 0.6  # opacity of the overlay where the map is 1
LARGEST = 256  # pixels, the longest side of an overlay
QUALITY = 88  # JPEG quality of an overlay
LEGEND = (240, 14)  # pixels, width and height
NOTHING = "nothing in the map speaks for it"


def gradcam_maps(
    classifier: Classifier,
    pool: str,
    images: NDArray[np.uint8],
    answers: Sequence[int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Maps:
    """Compute one Grad-CAM map per image.

    Args:
        classifier: on any device; this puts it into evaluation mode and turns off the gradients of its parameters.
        pool: name of the backbone's module that averages the last feature map.
        images: (N, S, S, C), C 1 (grey, repeated) or 3; used without test-time augmentation.
        answers: the class to explain for each image: 1 is the positive class, 0 the negative one.
        mean, std: per channel, for pixels in 0..1.

    Returns:
        (N, h, w) in 0..1 at the size of the last feature map, each divided by its largest value: 1 is the strongest
        support for the answer within this image, 0 is none. All 0 where nothing supports the answer.

    Raises:
        ArtifactError: the module `pool` does not take a feature map.
    """
    classifier.eval().requires_grad_(False)
    device = next(classifier.parameters()).device
    maps = []
    with exact_float32(), torch.enable_grad():
        for image, answer in zip(images, answers, strict=True):
            batch = normalise(pixels_to_device(image[None], device), mean, std)
            features, logits = _last_map(classifier, pool, batch)
            (gradient,) = torch.autograd.grad(logits[0, answer] - logits[0, 1 - answer], features)
            alpha = gradient.mean(dim=(2, 3), keepdim=True)
            heat = (alpha * features.detach()).sum(dim=1)[0].relu()
            largest = heat.max()
            maps.append((heat / largest if largest > 0 else heat).cpu().numpy())
    return np.stack(maps) if maps else np.zeros((0, 0, 0), np.float32)


def find_pool(network: nn.Module) -> str | None:
    """Name of the module that averages the last feature map over its positions; None if the network has no such map."""
    pools = [name for name, module in network.named_modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    return pools[-1] if pools else None


def untrained_copy(backbone: str, image_size: int) -> Classifier:
    """The same network with random weights, which are the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_classifier(backbone, 0.0, image_size)


def median_rank_correlation(some: Maps, others: Maps) -> float:
    """Median over the images of the rank correlation (Spearman) of an image's two maps, -1..1.

    A constant map has no ranks; its correlation counts as 0.
    """
    correlations = []
    for one, other in zip(some, others, strict=True):
        constant = one.min() == one.max() or other.min() == other.max()
        correlations.append(0.0 if constant else float(np.corrcoef(_ranks(one), _ranks(other))[0, 1]))
    return float(np.median(correlations))


def _ranks(heat: Maps) -> NDArray[np.float64]:
    """The ranks of a map's values, from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(heat.ravel(), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _last_map(classifier: Classifier, pool: str, image: Tensor) -> tuple[Tensor, Tensor]:
    """The feature map (1, K, h, w) before the average, as a leaf of the graph, and the logits (1, 2) made from it."""
    captured: list[Tensor] = []

    def capture(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, ...]:
        captured.append(inputs[0].detach().float().requires_grad_())
        # Layers behind the average may be in another precision.
        return (captured[-1].to(inputs[0].dtype), *inputs[1:])

    hook = classifier.backbone.get_submodule(pool).register_forward_pre_hook(capture)
    try:
        logits = classifier(image.contiguous(memory_format=torch.channels_last))
    finally:
        hook.remove()
    if len(captured) != 1 or captured[0].ndim != 4:
        shapes = [tuple(features.shape) for features in captured]
        raise ArtifactError(f"Grad-CAM: '{pool}' of this backbone must take one map (1, K, h, w), found {shapes}")
    return captured[0], logits


def explain_answers(
    classifier: Classifier, meta: Mapping[str, Any], test: Predictions, labels: tuple[str, str], pixels: Pixels | None
) -> Explanations:
    """Explain the most confident errors and a sample of correct answers, each for the answer that the model gave.

    Args:
        classifier: the model or its fused copy, in the precision to explain; this puts it into evaluation mode and
            turns off the gradients of its parameters.
        meta: the model's meta.json.
        test: its predictions on the test images.
        labels: (negative, positive).
        pixels: None leaves out all pictures, and with them the maps.
    """
    errors, correct = most_confident_errors(test, labels, pixels), sample_correct(test, labels, pixels)
    answers = [*errors, *correct]

    def without_maps(reason: str) -> Explanations:
        cases = [Explanation(answer, None, "") for answer in answers]
        return Explanations(cases[: len(errors)], cases[len(errors) :], None, None, None, reason)

    if pixels is None:
        return without_maps("pictures are left out of this report (evaluate.pictures: false)")
    pool = find_pool(classifier.backbone)
    if pool is None:
        return without_maps(
            f"Grad-CAM needs a feature map that is averaged at the end, and {meta['backbone']} has none"
        )
    images = np.stack([pixels(answer.sha256) for answer in answers])

    def maps_of(network: Classifier) -> Maps:
        given = [labels.index(answer.answer) for answer in answers]
        return gradcam_maps(network, pool, images, given, mean=meta["mean"], std=meta["std"])

    maps = maps_of(classifier)
    if maps[0].size == 1:
        return without_maps(f"the last map of the network has a single position at images of {len(images[0])} pixels")
    untrained = untrained_copy(meta["backbone"], len(images[0])).to(next(classifier.parameters()).device)
    cases = [
        Explanation(answer, overlay_map(image, heat), alt_text(answer, heat))
        for answer, image, heat in zip(answers, images, maps, strict=True)
    ]
    return Explanations(
        errors=cases[: len(errors)],
        hits=cases[len(errors) :],
        legend=colour_legend(),
        positions=(maps.shape[1], maps.shape[2]),
        untrained=median_rank_correlation(maps, maps_of(untrained)),
        missing="",
    )


def overlay_map(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> str:
    """An (S, S, C) image, C 1 or 3, in grey under its (h, w) map of 0..1, as the data URL of a JPEG."""
    side = min(len(pixels), LARGEST)
    resampling = Image.Resampling.BOX if side < len(pixels) else Image.Resampling.NEAREST
    grey = to_image(pixels).convert("L").resize((side, side), resampling)
    spread = Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    return data_url(colour_map(np.asarray(grey), np.clip(np.asarray(spread), 0, 1)), QUALITY)


def colour_legend() -> str:
    """The colours from 0 to 1 over middle grey, as the data URL of a JPEG."""
    width, height = LEGEND
    heat = np.tile(np.linspace(0, 1, width), (height, 1))
    return data_url(colour_map(np.full((height, width), 128, np.uint8), heat), QUALITY)


def colour_map(grey: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A grey image (H, W) under a map (H, W) of 0..1: (H, W, 3)."""
    stops = np.linspace(0, 1, len(RAMP))
    colour = np.stack([np.interp(heat, stops, [stop[c] for stop in RAMP]) for c in range(3)], axis=-1)
    opacity = (STRONGEST * np.minimum(1, 2 * heat))[..., None]
    mixed: NDArray[np.float64] = grey[..., None] * (1 - opacity) + colour * opacity
    return np.rint(mixed).astype(np.uint8)


def describe_location(heat: NDArray[np.float32]) -> str:
    """Where a map (h, w) is strongest, in words: "strongest in the upper left"."""
    if not heat.any():
        return NOTHING
    position = np.unravel_index(np.argmax(heat), heat.shape)
    # The third of the image that contains the centre of that position.
    down, across = (int(3 * (index + 0.5) / size) for index, size in zip(position, heat.shape, strict=True))
    if (down, across) == (1, 1):
        return "strongest in the middle"
    return f"strongest in the {('upper', 'middle', 'lower')[down]} {('left', 'middle', 'right')[across]}"


def alt_text(answer: ScoredImage, heat: NDArray[np.float32]) -> str:
    """The overlay in words."""
    return (
        f"What speaks for the answer {answer.answer} in test image {answer.sha256[:12]}, labelled {answer.label}: "
        f"{describe_location(heat)}"
    )
