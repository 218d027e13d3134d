"""A sealed model with the prepared data that it is of, for `twofold export onnx --precision int8`, in seconds.

A network of random weights cannot tell anything apart, so the images are labelled by what it says of them: those of
which it is least sure are left out, and one in ten gets the other label. So its ROC-AUC is high, and not 1.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests.support import makers, sealed_case
from tests.support.registered_case import images
from twofold.core.artifacts import read_json, write_json
from twofold.data.prepared import PreparedDataset
from twofold.data.splits import SPLITS
from twofold.serving import sealed_model_writer
from twofold.serving.sealed_model import open_sealed

SIZE, IMAGES = 64, 300
SHARES = ("train",) * 4 + ("validation",) + ("test",) * 5


class Case(NamedTuple):
    """The folder of the sealed model, and that of its data."""

    model: Path
    data: Path


def make(root):
    """Label, ingest, preprocess and seal, with a threshold close to which many images lie."""
    draft = open_sealed(sealed_case.make(root, size=SIZE, temperature=2.0))
    files = images(IMAGES)
    said = draft.score(map(draft.pixels, files))
    data = make_data(root, files, said)
    return Case(seal(root, data, threshold=float(np.quantile(said, 0.8))), data)


def make_data(root, files, said):
    """The prepared data, labelled by what the model said of each file."""
    low, high = np.quantile(said, (0.35, 0.65))
    source = root / "images"
    source.mkdir()
    rows = []
    for number in np.flatnonzero((said < low) | (said > high)):
        (source / f"{number}.png").write_bytes(files[number])
        bad = (said[number] > high) != (number % 10 == 0)
        rows.append((f"{number}.png", "bad" if bad else "good", SHARES[len(rows) % 10]))
    makers.write_labels(source, rows, header="path,label,split")
    raw = makers.make_raw(source, root / "raw")
    return makers.make_prepared(raw, root / "data", image_size=SIZE)


def seal(root, data, **changed):
    """The model in a folder, sealed as that of this data; `changed` are values of its decision."""
    prepared = PreparedDataset.open(data)
    decision = read_json(root / "decision.json") | {"fingerprint": prepared.meta["fingerprint"]} | changed
    write_json(root / "decision-of-data.json", decision)
    splits = {split: prepared.sha256[prepared.rows(split)] for split in SPLITS}
    pixels = prepared.meta["pixels"]
    return (
        sealed_model_writer.write_sealed_model(
            root / "model", root / "decision-of-data.json", pixels, root / "own", splits
        ).directory
        / "sealed"
    )
