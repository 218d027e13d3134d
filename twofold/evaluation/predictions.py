"""The model's predictions on every validation and test image: columns in memory, predictions.parquet on disk.

One row per image, ordered by (split, sha256): sha256, split (test | validation), label (the true class), target
(0 | 1), probability (of the positive class, float64), predicted (0 | 1 at the decision threshold), group (or null),
unit (the name that images of one sample share, see `twofold.data.prepared`, or null) and each slice column as
`slice.<name>` (text or null).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from twofold.core.errors import ArtifactError

PREDICTIONS = "predictions.parquet"
PREFIX = "slice."
COLUMNS = {
    "sha256": pa.string(),
    "split": pa.string(),
    "label": pa.string(),
    "target": pa.int8(),
    "probability": pa.float64(),
    "predicted": pa.int8(),
    "group": pa.string(),
    "unit": pa.string(),
}


@dataclass(frozen=True)
class Predictions:
    """Columns of equal length; text columns are object arrays; `group`, `unit` and the slices may hold None."""

    sha256: NDArray[np.object_]
    split: NDArray[np.object_]
    label: NDArray[np.object_]
    target: NDArray[np.int64]
    probability: NDArray[np.float64]
    predicted: NDArray[np.int64]
    group: NDArray[np.object_]
    unit: NDArray[np.object_]
    slices: Mapping[str, NDArray[np.object_]]

    def __len__(self) -> int:
        return len(self.sha256)

    def of(self, split: str) -> "Predictions":
        """The rows of one split, in the same order."""
        return self.take(np.flatnonzero(self.split == split))

    def take(self, rows: NDArray[np.int64]) -> "Predictions":
        """The rows with these numbers, in this order."""
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Predictions(**columns, slices={name: values[rows] for name, values in self.slices.items()})


def fingerprint(sha256: Iterable[str], label: Iterable[str]) -> str:
    """SHA-256 over the sorted (sha256, label) pairs of some images; it identifies a test set."""
    pairs = sorted(zip(sha256, label, strict=True))
    return hashlib.sha256("".join(f"{image}\0{name}\n" for image, name in pairs).encode()).hexdigest()


def build_predictions(
    columns: Mapping[str, Sequence[Any] | NDArray[Any]], slices: Mapping[str, Sequence[Any] | NDArray[Any]]
) -> Predictions:
    """Build predictions from columns by name, sorted by (split, sha256); without units, groups are the units."""
    columns = {"unit": columns["group"], **columns}
    numeric = {"target": np.int64, "predicted": np.int64, "probability": np.float64}
    table = Predictions(
        **{name: np.asarray(columns[name], dtype=numeric.get(name, object)) for name in COLUMNS},
        slices={name: np.asarray(slices[name], dtype=object) for name in sorted(slices)},
    )
    pairs = list(zip(table.split, table.sha256, strict=True))
    return table.take(np.array(sorted(range(len(pairs)), key=pairs.__getitem__), dtype=np.int64))


def write(path: Path, predictions: Predictions) -> None:
    """Write the table; the same predictions give the same bytes."""
    columns = {name: pa.array(getattr(predictions, name).tolist(), kind) for name, kind in COLUMNS.items()}
    for name, values in predictions.slices.items():
        columns[PREFIX + name] = pa.array(values.tolist(), pa.string())
    pq.write_table(pa.table(columns), path, compression="zstd")


def read(path: Path) -> Predictions:
    """Read the table back.

    Raises:
        ArtifactError: the file is missing or not Parquet, or a column is missing or has another type.
    """
    try:
        table = pq.ParquetFile(path).read()  # `read_table` imports pandas
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}; run evaluate again, or restore it in MLflow") from None
    if "unit" not in table.column_names and "group" in table.column_names:  # written before there were units
        table = table.append_column("unit", table["group"])
    for name, kind in COLUMNS.items():
        if name not in table.column_names or table.schema.field(name).type != kind:
            raise ArtifactError(f"{path}: needs the column '{name}' of type {kind}; found {table.schema.names}")
    names = [name for name in table.column_names if name.startswith(PREFIX)]
    return build_predictions(
        {name: table[name].to_pylist() for name in COLUMNS},
        {name.removeprefix(PREFIX): table[name].to_pylist() for name in names},
    )
