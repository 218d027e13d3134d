"""Where in an image a model's answer comes from: in come a classifier and uint8 images, out goes one map an image.

Grad-CAM (Selvaraju et al. 2017, "Grad-CAM: visual explanations from deep networks via gradient-based localization",
equations 1 and 2). With A_k the k-th channel of the backbone's last map, before it is averaged over its positions, and
y the score of an answer,

    alpha_k = mean over the positions of dy / dA_k          map = ReLU(sum over k of alpha_k A_k)

As the score of one of two classes y is its logit minus the other's: the logits have a common part of which no
probability depends. The network up to that map computes in the classifier's precision, all after it in float32. The
same bits every time; no image's map depends on another image.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

from twofold.core.errors import ArtifactError
from twofold.evaluation.error_analysis import Pixels, ScoredImage, most_confident_errors, sample_correct
from twofold.evaluation.explanations import Explanation, Explanations
from twofold.evaluation.predictions import Predictions
from twofold.model.classifier import Classifier, build_classifier
from twofold.model.inference import exact_float32, normalise, pixels_to_device

# The module of each backbone that averages the last map over its positions.
POOLS = {"resnet50": "avgpool", "efficientnet_lite0": "global_pool"}
Maps = npt.NDArray[np.float32]

# From what says little to what says most; they get lighter, so that they can be told apart in grey too.
RAMP = ((59, 15, 112), (222, 73, 104), (254, 224, 120))
STRONGEST = 0.6  # how much of the picture the strongest place covers
LARGEST = 256  # pixels of an overlay's side
QUALITY = 88  # of its JPEG
LEGEND = (240, 14)  # pixels, width and height
NOTHING = "nothing in the map speaks for it"


def gradcam_maps(
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
    with exact_float32(), torch.enable_grad():
        for image, answer in zip(images, answers, strict=True):
            seen, logits = _last_map(classifier, pool, normalise(pixels_to_device(image[None], device), mean, std))
            (slope,) = torch.autograd.grad(logits[0, answer] - logits[0, 1 - answer], seen)
            weights = slope.mean(dim=(2, 3), keepdim=True)
            heat = (weights * seen.detach()).sum(dim=1)[0].relu()
            largest = heat.max()
            found.append((heat / largest if largest > 0 else heat).cpu().numpy())
    return np.stack(found) if found else np.zeros((0, 0, 0), np.float32)


def untrained_copy(backbone: str) -> Classifier:
    """The same network with random weights, the same ones every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_classifier(backbone, 0.0)


def median_rank_correlation(some: Maps, others: Maps) -> float:
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


def explain_answers(
    classifier: Classifier, about: Mapping[str, Any], test: Predictions, labels: tuple[str, str], pixels: Pixels | None
) -> Explanations:
    """Explain the most confident errors and a sample of hits, each for the answer that the model gave.

    Args:
        classifier: or its replica, in the precision to explain; put into evaluation mode, its parameters ask for no
            gradient afterwards.
        about: the meta.json of its folder.
        test: its answers.
        labels: (negative, positive).
        pixels: None leaves every picture out, and with them the maps.
    """
    errors, right = most_confident_errors(test, labels, pixels), sample_correct(test, labels, pixels)
    answers = [*errors, *right]
    missing, found = "", np.zeros((0, 0, 0), np.float32)
    if pixels is None:
        missing = "pictures are left out of this report (evaluate.pictures: false)"
    elif about["backbone"] not in POOLS:
        missing = f"it is not known where the network {about['backbone']} averages its last map"
    else:
        images = np.stack([pixels(answer.sha256) for answer in answers])
        found = _maps(classifier, about, images, [labels.index(answer.answer) for answer in answers])
        if found[0].size == 1:
            missing = f"the last map of the network has a single position at images of {len(images[0])} pixels"
    if missing:
        plain = [Explanation(answer, None, "") for answer in answers]
        return Explanations(plain[: len(errors)], plain[len(errors) :], None, None, None, missing)
    chance = untrained_copy(about["backbone"]).to(next(classifier.parameters()).device)
    others = _maps(chance, about, images, [labels.index(answer.answer) for answer in answers])
    shown = [
        Explanation(answer, overlay_map(image, heat), alt_text(answer, heat))
        for answer, image, heat in zip(answers, images, found, strict=True)
    ]
    return Explanations(
        errors=shown[: len(errors)],
        hits=shown[len(errors) :],
        legend=colour_legend(),
        positions=(found.shape[1], found.shape[2]),
        untrained=median_rank_correlation(found, others),
        missing="",
    )


def _maps(classifier: Classifier, about: Mapping[str, Any], images: NDArray[np.uint8], answers: Sequence[int]) -> Maps:
    pool = POOLS[about["backbone"]]
    return gradcam_maps(classifier, pool, images, answers, mean=about["mean"], std=about["std"])


def overlay_map(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> str:
    """A data address of the (S, S, C) image, C 1 or 3, with its (h, w) map of 0..1 laid over it, as JPEG."""
    grey = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("L")
    side = min(len(pixels), LARGEST)
    grey = grey.resize((side, side), Image.Resampling.BOX if side < len(pixels) else Image.Resampling.NEAREST)
    spread = Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    return _jpeg(colour_map(np.asarray(grey), np.clip(np.asarray(spread), 0, 1)))


def colour_legend() -> str:
    """A data address of the colours from 0 to 1, laid over middle grey."""
    width, height = LEGEND
    return _jpeg(colour_map(np.full((height, width), 128, np.uint8), np.tile(np.linspace(0, 1, width), (height, 1))))


def colour_map(grey: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A grey image (H, W) under a map (H, W) of 0..1: (H, W, 3)."""
    stops = np.linspace(0, 1, len(RAMP))
    colour = np.stack([np.interp(heat, stops, [stop[c] for stop in RAMP]) for c in range(3)], axis=-1)
    cover = (STRONGEST * np.minimum(1, 2 * heat))[..., None]
    mixed: NDArray[np.float64] = grey[..., None] * (1 - cover) + colour * cover
    return np.rint(mixed).astype(np.uint8)


def describe_location(heat: NDArray[np.float32]) -> str:
    """Where a map (h, w) is strongest, in words: "strongest in the upper left"."""
    if not heat.any():
        return NOTHING
    at = np.unravel_index(np.argmax(heat), heat.shape)
    # The third of the image in which the middle of that position lies.
    down, across = (int(3 * (index + 0.5) / size) for index, size in zip(at, heat.shape, strict=True))
    if (down, across) == (1, 1):
        return "strongest in the middle"
    return f"strongest in the {('upper', 'middle', 'lower')[down]} {('left', 'middle', 'right')[across]}"


def alt_text(answer: ScoredImage, heat: NDArray[np.float32]) -> str:
    """The overlay in words."""
    return (
        f"What speaks for the answer {answer.answer} in test image {answer.sha256[:12]}, labelled {answer.label}: "
        f"{describe_location(heat)}"
    )


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
