"""Writes the sample data: 2,624 images of solar cells, defective or functional, as a folder with a labels.csv.

Reads the installed package `elpv-dataset`. Writes `<out>/images/*.png`, `<out>/LICENSE.txt` and `<out>/labels.csv`
with the columns path, label, split and type (mono or poly). Defective means a defect probability of at least 0.5.

`--seed` determines the splits, which are stratified by type and label: 656 test images, as many as in the published
benchmark, and 295 (15 % of the others) for validation.

    python data/elpv.py --seed 0 --out data/elpv
"""

import argparse
import csv
import hashlib
import importlib.util
import shutil
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from twofold.core.errors import DataError, TwofoldError

IMAGES, TEST, VALIDATION = 2624, 656, 295
DEFECTIVE = 0.5  # minimum defect probability of a cell labelled defective
LICENCE = """\
The ELPV dataset: images of solar cells from electroluminescence imaging of photovoltaic modules.

Licence of these images and labels: Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International
(CC-BY-NC-SA-4.0), https://creativecommons.org/licenses/by-nc-sa/4.0/
They may not be used commercially, and what is derived from them carries the same licence.

Source: https://github.com/zae-bayern/elpv-dataset, Python package elpv-dataset.
Changed here: the defect probability was turned into a label (defective from 0.5 on), and splits were drawn.

Please cite:
- Buerhop-Lutz, Deitsch, Maier, Gallwitz, Berger, Doll, Hauch, Camus, Brabec: A Benchmark for Visual Identification of
  Defective Solar Cells in Electroluminescence Imagery. EU PVSEC 2018.
- Deitsch, Buerhop-Lutz, Sovetkin, Steland, Maier, Gallwitz, Riess: Segmentation of photovoltaic module cells in
  uncalibrated electroluminescence images. Machine Vision and Applications 32, 2021.
- Deitsch, Christlein, Berger, Buerhop-Lutz, Maier, Gallwitz, Riess: Automatic classification of defective photovoltaic
  module cells in electroluminescence images. Solar Energy 185, 2019.
"""


class Cell(NamedTuple):
    """One image: its path in the package, its label, and the type of the cell."""

    path: str
    label: str
    type: str


def main() -> None:
    """Write the sample data; exit with status 1 and a message on an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of the splits (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("data/elpv"), help="folder to write (%(default)s)")
    options = parser.parse_args()
    try:
        write_sample_data(options.seed, options.out)
    except TwofoldError as error:
        raise SystemExit(f"elpv: error: {error}") from None


def write_sample_data(seed: int, out: Path) -> None:
    """Write images, labels.csv and LICENSE.txt into the folder `out`, which is replaced."""
    source = find_package()
    cells = read_cells(source / "labels.csv")
    splits = draw_splits(cells, seed)
    # Without `artifacts.publish`: syncing 2,626 files to disk one by one takes longer than writing them again.
    draft = out.with_name(f".{out.name}.draft")
    for folder in (draft, out):
        if folder.exists():
            shutil.rmtree(folder)
    (draft / "images").mkdir(parents=True)
    for cell in cells:
        shutil.copyfile(source / cell.path, draft / cell.path)
    with (draft / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "label", "split", "type"])
        writer.writerows([cell.path, cell.label, splits[cell.path], cell.type] for cell in cells)
    (draft / "LICENSE.txt").write_text(LICENCE, encoding="utf-8")
    draft.rename(out)


def find_package() -> Path:
    """The data folder of the installed package.

    Raises:
        DataError: the package is not installed.
    """
    spec = importlib.util.find_spec("elpv_dataset")
    folder = Path(spec.origin or "").parent / "data" if spec else None
    if folder is None or not (folder / "labels.csv").is_file():
        raise DataError("the package elpv-dataset, which holds the sample data, is not installed: run `make setup`")
    return folder


def read_cells(table: Path) -> list[Cell]:
    """Read the package's table (path, probability and type, separated by spaces), sorted by path."""
    rows = [line.split() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(rows) != IMAGES or any(len(row) != 3 for row in rows):
        raise DataError(f"{table}: expected {IMAGES} rows of path, probability, type; found {len(rows)} rows")
    return sorted(Cell(p, "defective" if float(value) >= DEFECTIVE else "functional", t) for p, value, t in rows)


def draw_splits(cells: list[Cell], seed: int) -> dict[str, str]:
    """The split of each path: test, then validation, drawn within each type and label."""
    strata: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cell in cells:
        strata[cell.type, cell.label].append(cell.path)
    splits = {cell.path: "train" for cell in cells}
    for split, count in (("test", TEST), ("validation", VALIDATION)):
        free = {key: [path for path in paths if splits[path] == "train"] for key, paths in sorted(strata.items())}
        for key, share in allocate({key: len(paths) for key, paths in free.items()}, count).items():
            # By hash, because a random generator's stream may change with its library's version.
            shuffled = sorted(free[key], key=lambda path: hashlib.sha256(f"{seed} {split} {path}".encode()).digest())
            splits.update((path, split) for path in shuffled[:share])
    return splits


def allocate(sizes: dict[tuple[str, str], int], count: int) -> dict[tuple[str, str], int]:
    """Distribute `count` over strata in proportion to their sizes, by the largest remainder method."""
    total = sum(sizes.values())
    shares = {key: size * count // total for key, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda key: (-(sizes[key] * count % total), key))
    for key in by_remainder[: count - sum(shares.values())]:
        shares[key] += 1
    return shares


if __name__ == "__main__":
    main()
