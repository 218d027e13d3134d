"""Reads the artifact `data/prepared`: every image as uint8 pixels of one size, memory-mapped.

The folder contains

- `part-00000.npy`…: uint8 (N, S, S, C); C is 1 in parts of grey images and 3 in parts of colour images;
- `index.parquet`: one row for each image, sorted by sha256: sha256, label, target (1 is the positive class), split,
  group, unit (the name that images of one group, and near duplicates within a split, share; or null), width, height,
  mode, brightness (0 to 1, see `preprocessing.brightness`), source (see
  `prepared_writer.image_sources`), part, row, channels, pixels (`decode_cache.pixel_digest` of the resized image), and
  each slice column as `slice.<name>`;
- `left_out.csv`: images that are in no split, and why;
- `meta.json`: sizes, labels, counts, channel statistics of train, and everything needed to compute the same pixels
  from the bytes of an image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from twofold.core.artifacts import read_meta
from twofold.core.errors import ArtifactError

KIND, VERSION = "prepared", 4
INDEX, LEFT_OUT = "index.parquet", "left_out.csv"


class PreparedDataset:
    """An opened `data/prepared`.

    `meta`: its meta.json. `size`: pixels of a side. `channels`: 1 if every image is grey, otherwise 3. `sha256`,
    `target` (int64) and `split` are columns in the order of the index; `column(name)` returns any other one.
    """

    def __init__(self, directory: Path, meta: dict[str, Any], table: pa.Table, parts: list[NDArray[np.uint8]]) -> None:
        self.directory = directory
        self.meta = meta
        self.size: int = meta["image_size"]
        self.channels: int = meta["channels"]
        self._table = table
        self._parts = parts
        self.sha256 = self.column("sha256")
        self.target: NDArray[np.int64] = self.column("target").astype(np.int64)
        self.split = self.column("split")
        self._part: NDArray[np.int64] = self.column("part").astype(np.int64)
        self._row: NDArray[np.int64] = self.column("row").astype(np.int64)

    @classmethod
    def open(cls, directory: Path) -> "PreparedDataset":
        """Read the index and memory-map the parts.

        Raises:
            ArtifactError: the artifact is missing, of another kind or version, or its files are inconsistent.
        """
        meta = read_meta(directory, KIND, VERSION)
        try:
            table = pq.ParquetFile(directory / INDEX).read(use_threads=False)
            paths = [directory / part_name(number) for number in range(meta["parts"])]
            # Plain arrays: indexing a numpy memmap costs more than reading a row.
            parts = [np.asarray(np.load(path, mmap_mode="r")) for path in paths]
            part_of, row_of = np.asarray(table.column("part")), np.asarray(table.column("row"))
        except (OSError, KeyError, ValueError) as error:  # Arrow's errors are subclasses
            raise ArtifactError(f"{directory}: files do not match meta.json: {error}; run preprocess again") from None
        size = meta["image_size"]
        lengths = np.array([len(part) for part in parts])
        fits = all(part.dtype == np.uint8 and part.shape[1:3] == (size, size) for part in parts)
        if not fits or table.num_rows != meta["n"] or np.any(row_of >= lengths[part_of]):
            raise ArtifactError(f"{directory}: index, parts and meta.json are inconsistent; run preprocess again")
        return cls(directory, meta, table, parts)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def column(self, name: str) -> NDArray[Any]:
        """A column of the index, or ArtifactError if there is none; text as objects, None for a missing value."""
        if name not in self._table.column_names:
            raise ArtifactError(f"{self.directory / INDEX}: no column {name!r}; found {self._table.column_names}")
        dtype = object if pa.types.is_string(self._table.schema.field(name).type) else None
        return np.array(self._table.column(name).to_pylist(), dtype)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of a split, in the order of the index."""
        return np.flatnonzero(self.split == split)

    def pixels(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pixels of the given rows: uint8 (n, S, S, C), C = `channels`; grey images are repeated where C is 3."""
        chosen = np.asarray(rows, np.int64)
        result = np.empty((len(chosen), self.size, self.size, self.channels), np.uint8)
        for number in np.unique(self._part[chosen]):
            places = np.flatnonzero(self._part[chosen] == number)
            result[places] = self._parts[number][self._row[chosen[places]]]
        return result

    def stored(self, row: int) -> NDArray[np.uint8]:
        """The stored pixels of a row, (S, S, C) with C of that image; read from disk when accessed."""
        pixels: NDArray[np.uint8] = self._parts[self._part[row]][self._row[row]]
        return pixels


def part_name(number: int) -> str:
    """File name of a part."""
    return f"part-{number:05d}.npy"
