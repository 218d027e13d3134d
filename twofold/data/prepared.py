"""The artifact `data/prepared`: every image as uint8 pixels of one size, read by memory map.

Out: a folder with

- `part-00000.npy`…: uint8 (N, S, S, C); C is 1 in parts of grey images and 3 in parts of colour;
- `index.parquet`: one row an image, sorted by sha256: sha256, label, target (1 is the positive class), split, group,
  width, height, mode, brightness (0 to 1, see `twofold.data.preparing`), source (see `sources`), part, row, channels,
  pixels (their SHA-256, as of `seen.content_of`), and each slice column as `slice.<name>`;
- `left_out.csv`: images that are in no split, and why;
- `meta.json`: sizes, labels, counts, channel statistics of train, and everything needed to make the same pixels
  from an image's bytes.
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

KIND, VERSION = "prepared", 3
INDEX, LEFT_OUT = "index.parquet", "left_out.csv"


class PreparedDataset:
    """An opened `data/prepared`.

    `meta`: its meta.json. `size`: pixels of a side. `channels`: 1 if every image is grey, else 3. Columns, in the
    order of the index: `sha256`, `target` (int64), `split`, and `column(name)` for every other one.
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
        """Read the index and map the parts.

        Raises:
            ArtifactError: it is missing, of another kind or version, or its files do not fit together.
        """
        meta = read_meta(directory, KIND, VERSION)
        try:
            table = pq.read_table(directory / INDEX, use_threads=False)
            # As plain arrays: numpy's own class for maps takes longer over a row than the row does.
            parts = [
                np.asarray(np.load(directory / part_name(number), mmap_mode="r")) for number in range(meta["parts"])
            ]
            used = np.asarray(table.column("part")), np.asarray(table.column("row"))
        except (OSError, KeyError, ValueError) as error:  # Arrow's own errors are among these
            raise ArtifactError(f"{directory}: not the files that meta.json tells of: {error}") from None
        size = meta["image_size"]
        lengths = np.array([len(part) for part in parts])
        fits = all(part.dtype == np.uint8 and part.shape[1:3] == (size, size) for part in parts)
        if not fits or table.num_rows != meta["n"] or np.any(used[1] >= lengths[used[0]]):
            raise ArtifactError(f"{directory}: index, parts and meta.json do not fit together; run preprocess again")
        return cls(directory, meta, table, parts)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def column(self, name: str) -> NDArray[Any]:
        """A column of the index; text as objects, with None where there is none.

        Raises:
            ArtifactError: no such column.
        """
        if name not in self._table.column_names:
            raise ArtifactError(f"{self.directory / INDEX}: no column {name!r}; found {self._table.column_names}")
        return np.array(self._table.column(name).to_pylist(), self._dtype(name))

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of a split, in the order of the index."""
        return np.flatnonzero(self.split == split)

    def pixels(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """The pixels of some rows, in their order: uint8 (n, S, S, C), C = `channels`; grey repeated where C is 3."""
        chosen = np.asarray(rows, np.int64)
        result = np.empty((len(chosen), self.size, self.size, self.channels), np.uint8)
        for number in np.unique(self._part[chosen]):
            here = np.flatnonzero(self._part[chosen] == number)
            result[here] = self._parts[number][self._row[chosen[here]]]
        return result

    def stored(self, row: int) -> NDArray[np.uint8]:
        """The pixels of a row as they lie in its part: (S, S, C) with C of the image itself; read when looked at."""
        pixels: NDArray[np.uint8] = self._parts[self._part[row]][self._row[row]]
        return pixels

    def _dtype(self, name: str) -> Any:
        return object if pa.types.is_string(self._table.schema.field(name).type) else None


def part_name(number: int) -> str:
    """File name of a part."""
    return f"part-{number:05d}.npy"
