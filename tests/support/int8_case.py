"""A sealed model with its prepared data, made in seconds, for `twofold export onnx --precision int8`.

A network of random weights cannot separate classes, so the images are labelled by its probabilities: images near the
median are left out, and every tenth image gets the other label. So its ROC-AUC is high but not 1.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.support import makers, sealed_case
from tests.support.registered_case import images
from twofold.core.artifacts import read_json
from twofold.data.prepared import PreparedDataset
from twofold.data.splits import SPLITS
from twofold.serving.sealed_model import open_sealed

SIZE, IMAGES = 64, 300
SPLIT_PATTERN = ("train",) * 4 + ("validation",) + ("test",) * 5


class Case(NamedTuple):
    """The folders of the sealed model and of its prepared data."""

    model: Path
    data: Path


def make(root):
    """Label, ingest, preprocess and seal, with a threshold near the probability of many images."""
    draft = open_sealed(sealed_case.make(root, size=SIZE, scaling=(0.5, 0.3)))
    files = images(IMAGES)
    probability = draft.score(map(draft.pixels, files))
    data = make_data(root, files, probability)
    prepared = PreparedDataset.open(data)
    splits = {split: prepared.sha256[prepared.rows(split)] for split in SPLITS}
    decision = read_json(root / "decision.json") | {"fingerprint": prepared.meta["fingerprint"]}
    decision["threshold"] = float(np.quantile(probability, 0.8))
    return Case(sealed_case.seal(root, decision, prepared.meta["pixels"], root / "own", splits), data)


def make_data(root, files, probability):
    """The prepared data, labelled by the model's probability of each file."""
    low, high = np.quantile(probability, (0.35, 0.65))
    source = root / "images"
    source.mkdir()
    rows = []
    for number in np.flatnonzero((probability < low) | (probability > high)):
        (source / f"{number}.png").write_bytes(files[number])
        bad = (probability[number] > high) != (number % 10 == 0)
        rows.append((f"{number}.png", "bad" if bad else "good", SPLIT_PATTERN[len(rows) % 10]))
    makers.write_labels(source, rows, header="path,label,split")
    raw = makers.make_raw(source, root / "raw")
    return makers.make_prepared(raw, root / "data", image_size=SIZE)
