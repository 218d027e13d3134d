"""A sealed model of a random backbone, made in seconds, for tests of serving, predict, export and drift."""

import numpy as np

from tests.support.registered_case import BACKBONE, images, save_random_weights
from twofold.core.artifacts import file_sha256, read_json, write_json, write_meta
from twofold.serving import sealed_model_writer
from twofold.serving.sealed_model import open_sealed

LIMITS = {"max_bytes": 1 << 20, "max_pixels": 1 << 20, "min_side": 8}


def make(root, *, backbone=BACKBONE, fit="squash", size=32, views=4, scaling=None, precision=None, further=None):
    """Write a sealed model and return its folder; half of `images(16)` are above its threshold."""
    save_model(root / "model", backbone)
    decision = {"labels": ["good", "bad"], "positive": "bad", "threshold": 0.5, "views": views}
    decision |= {} if scaling is None else dict(zip(("platt_slope", "platt_intercept"), scaling, strict=True))
    decision |= {} if precision is None else {"precision": precision}
    pixels = {"image_size": size, "fit": fit, "limits": LIMITS, "padding": 0}
    draft = open_sealed(seal(root, decision, pixels, root / "draft"))
    median = float(np.median(draft.score(draft.pixels(data) for data in images(16))))
    return seal(root, decision | {"threshold": median}, pixels, root / "seal", further=further)


def save_model(folder, backbone=BACKBONE):
    """Write the artifact of finetune_all with random weights."""
    folder.mkdir(parents=True)
    write_meta(folder, "model", 1, dropout=0.5, **save_random_weights(folder, backbone))


def seal(root, decision, pixels, to, splits=None, **more):
    """Write decision.json, seal the model in `root` with it, and return the sealed folder."""
    write_json(root / "decision.json", decision)
    sealed = sealed_model_writer.write_sealed_model(root / "model", root / "decision.json", pixels, to, splits, **more)
    return sealed.directory / "sealed"


def flip_byte(path):
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def change_json(folder, name, change):
    """Change values of a sealed JSON file and rewrite the seal for it."""
    write_json(folder / name, read_json(folder / name) | change)
    seal = read_json(folder / "seal.json")
    seal["files"][name] = file_sha256(folder / name)
    write_json(folder / "seal.json", seal)
