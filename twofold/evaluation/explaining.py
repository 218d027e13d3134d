"""What a model looked at, as pictures: in come its answers and the images, out go overlays of Grad-CAM maps.

The most confident errors are explained, and some hits to compare them with. The picture loses its colours, so that
every colour is the map's; what says nothing for the answer stays grey.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twofold.evaluation import gradcam
from twofold.evaluation.error_analysis import Answer, Pixels, hits, worst
from twofold.evaluation.explanations import Explained, Explanations
from twofold.evaluation.gradcam import Maps
from twofold.evaluation.predictions import Predictions
from twofold.model.classifier import Classifier

# From what says little to what says most; they get lighter, so that they can be told apart in grey too.
RAMP = ((59, 15, 112), (222, 73, 104), (254, 224, 120))
STRONGEST = 0.6  # how much of the picture the strongest place covers
LARGEST = 256  # pixels of an overlay's side
QUALITY = 88  # of its JPEG
LEGEND = (240, 14)  # pixels, width and height
NOTHING = "nothing in the map speaks for it"


def explain(
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
    errors, right = worst(test, labels, pixels), hits(test, labels, pixels)
    answers = [*errors, *right]
    missing, found = "", np.zeros((0, 0, 0), np.float32)
    if pixels is None:
        missing = "pictures are left out of this report (evaluate.pictures: false)"
    elif about["backbone"] not in gradcam.POOLS:
        missing = f"it is not known where the network {about['backbone']} averages its last map"
    else:
        images = np.stack([pixels(answer.sha256) for answer in answers])
        found = _maps(classifier, about, images, [labels.index(answer.answer) for answer in answers])
        if found[0].size == 1:
            missing = f"the last map of the network has a single position at images of {len(images[0])} pixels"
    if missing:
        plain = [Explained(answer, None, "") for answer in answers]
        return Explanations(plain[: len(errors)], plain[len(errors) :], None, None, None, missing)
    chance = gradcam.untrained(about["backbone"]).to(next(classifier.parameters()).device)
    others = _maps(chance, about, images, [labels.index(answer.answer) for answer in answers])
    shown = [
        Explained(answer, overlay(image, heat), alternative(answer, heat))
        for answer, image, heat in zip(answers, images, found, strict=True)
    ]
    return Explanations(
        errors=shown[: len(errors)],
        hits=shown[len(errors) :],
        legend=legend(),
        positions=(found.shape[1], found.shape[2]),
        untrained=gradcam.likeness(found, others),
        missing="",
    )


def _maps(classifier: Classifier, about: Mapping[str, Any], images: NDArray[np.uint8], answers: Sequence[int]) -> Maps:
    pool = gradcam.POOLS[about["backbone"]]
    return gradcam.maps(classifier, pool, images, answers, mean=about["mean"], std=about["std"])


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> str:
    """A data address of the (S, S, C) image, C 1 or 3, with its (h, w) map of 0..1 laid over it, as JPEG."""
    grey = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("L")
    side = min(len(pixels), LARGEST)
    grey = grey.resize((side, side), Image.Resampling.BOX if side < len(pixels) else Image.Resampling.NEAREST)
    spread = Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    return _jpeg(paint(np.asarray(grey), np.clip(np.asarray(spread), 0, 1)))


def legend() -> str:
    """A data address of the colours from 0 to 1, laid over middle grey."""
    width, height = LEGEND
    return _jpeg(paint(np.full((height, width), 128, np.uint8), np.tile(np.linspace(0, 1, width), (height, 1))))


def paint(grey: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A grey image (H, W) under a map (H, W) of 0..1: (H, W, 3)."""
    stops = np.linspace(0, 1, len(RAMP))
    colour = np.stack([np.interp(heat, stops, [stop[c] for stop in RAMP]) for c in range(3)], axis=-1)
    cover = (STRONGEST * np.minimum(1, 2 * heat))[..., None]
    mixed: NDArray[np.float64] = grey[..., None] * (1 - cover) + colour * cover
    return np.rint(mixed).astype(np.uint8)


def place(heat: NDArray[np.float32]) -> str:
    """Where a map (h, w) is strongest, in words: "strongest in the upper left"."""
    if not heat.any():
        return NOTHING
    at = np.unravel_index(np.argmax(heat), heat.shape)
    # The third of the image in which the middle of that position lies.
    down, across = (int(3 * (index + 0.5) / size) for index, size in zip(at, heat.shape, strict=True))
    if (down, across) == (1, 1):
        return "strongest in the middle"
    return f"strongest in the {('upper', 'middle', 'lower')[down]} {('left', 'middle', 'right')[across]}"


def alternative(answer: Answer, heat: NDArray[np.float32]) -> str:
    """The overlay in words."""
    return (
        f"What speaks for the answer {answer.answer} in test image {answer.sha256[:12]}, labelled {answer.label}: "
        f"{place(heat)}"
    )


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
