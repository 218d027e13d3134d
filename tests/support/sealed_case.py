"""A sealed model of a random EfficientNet-Lite0 in seconds, for what reads one: served, predict, export, drift."""

import numpy as np
import torch
from safetensors.torch import save_file

from tests.support.registered_case import images
from twofold.core.artifacts import read_json, write_json, write_meta
from twofold.model import classifier as models
from twofold.serving import sealed_model_writer
from twofold.serving.sealed_model import open_sealed

BACKBONE = "efficientnet_lite0"
LIMITS = {"max_bytes": 1 << 20, "max_pixels": 1 << 20, "min_side": 8}


def make(root, *, backbone=BACKBONE, fit="squash", size=32, views=4, temperature=None, precision=None, further=None):
    """The sealed model's folder; half of `images(16)` lie above its threshold."""
    model = root / "model"
    model.mkdir(parents=True)
    torch.manual_seed(0)
    classifier = models.build_classifier(backbone, 0.5)
    with torch.no_grad():
        classifier.head[3].weight.mul_(20)  # probabilities that differ
    save_file(
        {name: value.contiguous() for name, value in classifier.state_dict().items()}, model / "model.safetensors"
    )
    known = models.BACKBONES[backbone]
    write_meta(model, "model", 1, backbone=backbone, dropout=0.5, mean=list(known.mean), std=list(known.std))
    decision = {"labels": ["good", "bad"], "positive": "bad", "threshold": 0.5, "views": views}
    decision |= {} if temperature is None else {"temperature": temperature}
    decision |= {} if precision is None else {"precision": precision}
    pixels = {"image_size": size, "fit": fit, "limits": LIMITS, "padding": 0}
    write_json(root / "decision.json", decision)
    draft = open_sealed(
        sealed_model_writer.write_sealed_model(model, root / "decision.json", pixels, root / "draft").directory
        / "sealed"
    )
    middle = float(np.median(draft.score(draft.pixels(data) for data in images(16))))
    write_json(root / "decision.json", read_json(root / "decision.json") | {"threshold": middle})
    sealed = sealed_model_writer.write_sealed_model(
        model, root / "decision.json", pixels, root / "seal", further=further
    )
    return sealed.directory / "sealed"
