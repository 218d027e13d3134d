"""A test that can be computed by hand: flat grey images, and a model that reads their upper left corner.

The network's probability of `bad` is sigmoid(8 * grey / 255 - 4). On validation the images at 20, 60 and 100 are good,
those at 140, 180 and 220 bad: symmetric around grey 120, which the calibration puts at a probability of 0.5, and so the
threshold. Its slope is the one at which the derivative of the log loss is 0 with Platt's targets for three images of a
class, 1/5 and 4/5. On the test split the images are

    good: 10, 50, 90 (correctly passed), 150 (a false alarm)      bad: 125, 240 (found), 110 (missed)

so 2 are found (125 with a probability of 0.461), 1 is a false alarm, 3 are passed, 1 is missed. Ranked: 240 bad, 150
good, 125 bad, 110 bad, then the good ones; of 3 x 4 pairs 4 + 3 + 3 = 10 are in the right order.
"""

import csv
import hashlib
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from scipy.optimize import brentq
from torch import Tensor, nn

from twofold.core import artifacts
from twofold.data import prepared
from twofold.data.decode_cache import pixel_digest
from twofold.metrics.decision_threshold import MaxAccuracy
from twofold.model import classifier as models
from twofold.steps.evaluate import Evaluate, evaluate

SIZE = 8
LABELS = ["good", "bad"]
# (split, grey, target, type)
IMAGES = [
    ("train", 0, 0, "mono"),
    ("train", 255, 1, "poly"),
    *(("validation", grey, int(grey > 120), "mono") for grey in (20, 60, 100, 140, 180, 220)),
    ("test", 10, 0, "mono"),
    ("test", 50, 0, "mono"),
    ("test", 90, 0, None),
    ("test", 150, 0, "poly"),
    ("test", 125, 1, "mono"),
    ("test", 240, 1, "poly"),
    ("test", 110, 1, "mono"),
]
GREYS = np.array([20, 60, 100])  # from grey 120, of the validation images
SLOPE = brentq(lambda slope: (GREYS * (1 / (1 + np.exp(-8 * slope * GREYS / 255)) - 4 / 5)).sum(), 0.1, 10)
INTERCEPT = SLOPE * (4 - 8 * 120 / 255)
UNCALIBRATED = (1.0, 0.0)
THRESHOLD = 0.5
PARAMS = Evaluate(
    threshold=MaxAccuracy(policy="max_accuracy"),
    views=1,
    precision="float32",
    batch_size=3,
    robustness=7,
    pictures=True,
)


def sha256(grey: int) -> str:
    return hashlib.sha256(bytes([grey])).hexdigest()


def chance(grey: float, scaling: tuple[float, float] = (SLOPE, INTERCEPT)) -> float:
    return 1 / (1 + math.exp(scaling[0] * (4 - 8 * grey / 255) - scaling[1]))


class Corner(nn.Module):
    """A backbone of one feature: the red of the upper left pixel."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1, 0, 0]


def known_backbone(monkeypatch) -> None:
    corner = models.Backbone(features=1, mean=(0, 0, 0), std=(1, 1, 1), stages=(), make=Corner)
    monkeypatch.setitem(models.BACKBONES, "corner", corner)


def make_model(folder: Path, **changed) -> Path:
    """A model folder; `known_backbone` must have been called."""
    folder.mkdir(parents=True)
    classifier = models.build_classifier("corner", 0.5)
    with torch.no_grad():
        for weight in classifier.parameters():
            weight.zero_()
        classifier.head[0].weight[0, 0] = 1.0
        classifier.head[3].weight[1, 0] = 8.0
        classifier.head[3].bias[1] = -4.0
    save_file(
        {name: value.contiguous() for name, value in classifier.state_dict().items()}, folder / "model.safetensors"
    )
    about = {
        "backbone": "corner",
        "weights": "random",
        "dropout": 0.5,
        "image_size": SIZE,
        "channels": 1,
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
        "labels": LABELS,
        "positive": "bad",
        "winner": "finetuned",
    }
    artifacts.write_meta(folder, "model", 1, **(about | changed))
    return folder


def make_data(folder: Path, images=IMAGES, pixels=None, units=None) -> Path:
    """A prepared folder; by grey, `pixels` replaces some images' flat grey and `units` names their samples."""
    folder.mkdir(parents=True)
    rows = sorted(images, key=lambda image: sha256(image[1]))
    array = np.stack([np.full((SIZE, SIZE, 1), grey, np.uint8) for _, grey, _, _ in rows])
    for number, (_, grey, _, _) in enumerate(rows):
        array[number] = (pixels or {}).get(grey, array[number])
    np.save(folder / "part-00000.npy", array)
    n = len(rows)
    columns = {
        "sha256": pa.array([sha256(grey) for _, grey, _, _ in rows], pa.string()),
        "label": pa.array([LABELS[target] for _, _, target, _ in rows], pa.string()),
        "target": pa.array([target for _, _, target, _ in rows], pa.int8()),
        "split": pa.array([split for split, _, _, _ in rows], pa.string()),
        "group": pa.nulls(n, pa.string()),
        "unit": pa.array([(units or {}).get(grey) for _, grey, _, _ in rows], pa.string()),
        "width": pa.array([SIZE] * n, pa.int32()),
        "height": pa.array([SIZE] * n, pa.int32()),
        "mode": pa.array(["L"] * n, pa.string()),
        "brightness": pa.array([grey / 255 for _, grey, _, _ in rows], pa.float64()),
        "source": pa.nulls(n, pa.string()),
        "part": pa.array([0] * n, pa.int32()),
        "row": pa.array(range(n), pa.int32()),
        "channels": pa.array([1] * n, pa.int8()),
        "pixels": pa.array([pixel_digest(image) for image in array], pa.string()),
        "slice.type": pa.array([kind for _, _, _, kind in rows], pa.string()),
    }
    pq.write_table(pa.table(columns), folder / "index.parquet")
    targets = {split: [row[2] for row in rows if row[0] == split] for split in ("train", "validation", "test")}
    artifacts.write_meta(
        folder,
        prepared.KIND,
        prepared.VERSION,
        n=n,
        parts=1,
        image_size=SIZE,
        channels=1,
        labels=LABELS,
        counts={split: {label: of.count(value) for value, label in enumerate(LABELS)} for split, of in targets.items()},
        positive="bad",
        slices=["type"],
        fingerprint="f" * 64,
    )
    return folder


def run_evaluate(
    root: Path, name="evaluation", images=IMAGES, pixels=None, about=None, units=None, **params
) -> tuple[Path, dict]:
    """Call the step on this case, changed as asked; returns (evaluation folder, metrics)."""
    data = make_data(root / f"data-{name}", images, pixels, units)
    model = make_model(root / f"model-{name}", **({"data_digest": artifacts.digest(data)} | (about or {})))
    evaluation, headline = root / name, root / f"{name}.json"
    evaluate(PARAMS.model_copy(update=params), data, model, evaluation=evaluation, metrics=headline)
    return evaluation, artifacts.read_json(evaluation / "metrics.json")


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
