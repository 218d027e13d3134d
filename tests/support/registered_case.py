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
    """The artifacts that register reads."""
    raw, data = case.make_data(root)
    case.know_corner(patch)
    head, model = (case.make_model(root / kind, kind, 8.0, data) for kind in ("head", "model"))
    about = save_random_weights(model, scale=-20)  # the sign puts images on both sides of the threshold
    meta = read_json(model / "meta.json") | about
    write_meta(model, meta.pop("kind"), meta.pop("schema_version"), **meta)
    paths = case.places(root, (raw, data), head, model)
    threshold = MaxAccuracy(policy="max_accuracy")
    params = Evaluate(threshold=threshold, views=4, precision=precision, batch_size=4, robustness=0, pictures=False)
    evaluate(params, data, model, evaluation=paths.evaluation, metrics=root / "metrics.json")
    return paths


def save_random_weights(folder, backbone=BACKBONE, scale=20.0):
    """Save random weights whose probabilities differ between images; return the backbone's entries of meta.json."""
    torch.manual_seed(0)
    classifier = models.build_classifier(backbone, 0.5)
    with torch.no_grad():
        classifier.head[3].weight.mul_(scale)
    weights = {name: value.contiguous() for name, value in classifier.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    known = models.BACKBONES[backbone]
    return {"backbone": backbone, "mean": list(known.mean), "std": list(known.std)}


def images(count, seed=0):
    """Bytes of image files: grey and colour, PNG and JPEG, of several sizes, some with an EXIF orientation."""
    files = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        array = pixels(rng, 40 + number % 37, bool(number % 2), channels=3 if number % 3 == 0 else 1)
        files.append(turned(array) if number % 16 == 1 else encode(array, "JPEG" if number % 5 == 0 else "PNG"))
    return files


def turned(array):
    """A JPEG with an EXIF orientation of 90 degrees."""
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array[: len(array) // 2]).save(stream, "JPEG", exif=exif)
    return stream.getvalue()
