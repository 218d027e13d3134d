"""A registered model of a real backbone: a random EfficientNet-Lite0, evaluated by the steps themselves."""

import io

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.support import registration_case as case
from tests.support.makers import encode, pixels
from twofold.core.artifacts import read_json, write_meta
from twofold.metrics.decision_threshold import MaxAccuracy
from twofold.model import classifier as models
from twofold.promotion.gates import Minimum
from twofold.steps.evaluate import Evaluate, evaluate

BACKBONE = "efficientnet_lite0"
ANY = case.PARAMS.model_copy(update={"gates": [Minimum(figure="accuracy", min=0.0)]})


def make(root, patch, precision="float32"):
    """What register reads."""
    raw, data = case.make_data(root)
    torch.manual_seed(0)
    classifier = models.build_classifier(BACKBONE, 0.5)
    with torch.no_grad():
        classifier.head[3].weight.mul_(-20)  # probabilities that differ, on both sides of the threshold
    known = models.BACKBONES[BACKBONE]
    case.know_corner(patch)
    head, model = (case.make_model(root / kind, kind, 8.0, data) for kind in ("head", "model"))
    save_file(
        {name: value.contiguous() for name, value in classifier.state_dict().items()}, model / "model.safetensors"
    )
    about = read_json(model / "meta.json") | {"backbone": BACKBONE, "mean": list(known.mean), "std": list(known.std)}
    write_meta(model, about.pop("kind"), about.pop("schema_version"), **about)
    paths = case.places(root, (raw, data), head, model)
    asked = Evaluate(
        threshold=MaxAccuracy(policy="max_accuracy"),
        views=4,
        precision=precision,
        batch_size=4,
        robustness=0,
        pictures=False,
    )
    evaluate(asked, data, model, evaluation=paths.evaluation, metrics=paths.metrics)
    return paths


def images(count, seed=0):
    """Files' bytes: grey and colour, PNG and JPEG, of several sizes, a turned one among them."""
    found = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        made = pixels(rng, 40 + number % 37, bool(number % 2), channels=3 if number % 3 == 0 else 1)
        found.append(turned(made) if number % 16 == 1 else encode(made, "JPEG" if number % 5 == 0 else "PNG"))
    return found


def turned(array):
    """A JPEG whose EXIF says that it lies on its side."""
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array[: len(array) // 2]).save(stream, "JPEG", exif=exif)
    return stream.getvalue()
