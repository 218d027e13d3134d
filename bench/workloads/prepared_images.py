"""Prepared images for the training benchmarks: random grey pixels in the format of the preprocess step."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twofold.core.artifacts import write_meta
from twofold.data.prepared import INDEX, KIND, VERSION, PreparedDataset, part_name


def generated(directory: Path, train: int, validation: int, size: int) -> PreparedDataset:
    """Write `train` + `validation` random images (size, size, 1) with alternating labels."""
    n = train + validation
    directory.mkdir(parents=True)
    random = np.random.default_rng(0)
    np.save(directory / part_name(0), random.integers(0, 256, (n, size, size, 1), np.uint8))
    columns = {
        "sha256": [f"{number:064x}" for number in range(n)],
        "label": ["bad" if number % 2 else "good" for number in range(n)],
        "target": pa.array([number % 2 for number in range(n)], pa.int8()),
        "split": ["train"] * train + ["validation"] * validation,
        "part": pa.array([0] * n, pa.int32()),
        "row": pa.array(range(n), pa.int32()),
        "pixels": [f"{number:032x}" for number in range(n)],
    }
    pq.write_table(pa.table(columns), directory / INDEX)
    write_meta(directory, KIND, VERSION, image_size=size, channels=1, parts=1, n=n, labels=["good", "bad"])
    return PreparedDataset.open(directory)
