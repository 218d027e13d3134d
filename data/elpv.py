"""Makes the sample data: 2,624 solar cells, defective or functional, as a folder with a labels.csv.

In: the installed package `elpv-dataset`. Out: `<out>/images/*.png`, `<out>/labels.csv` with the columns path, label,
split and type (mono or poly), and `<out>/LICENSE.txt`. Defective means a defect probability of at least 0.5.

The splits are drawn by `--seed`, stratified by type and label: 656 test images, as many as the published benchmark
has, and 295 (15 % of the rest) for validation.

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
DEFECTIVE = 0.5  # defect probability from which on a cell counts as defective
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
    """Write the sample data; exit 1 with a clear error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="draws the splits (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("data/elpv"), help="folder to write (%(default)s)")
    options = parser.parse_args()
    try:
        make(options.seed, options.out)
    except TwofoldError as error:
        raise SystemExit(f"elpv: error: {error}") from None


def make(seed: int, out: Path) -> None:
    """Write images, labels.csv and LICENSE.txt into the folder `out`, which is replaced."""
    source = package()
    cells = read(source / "labels.csv")
    splits = draw(cells, seed)
    # Not `artifacts.publish`: forcing 2,626 files to the disk one by one takes longer than making them again.
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


def package() -> Path:
    """The folder of the installed package that holds the data.

    Raises:
        DataError: the package is not installed.
    """
    found = importlib.util.find_spec("elpv_dataset")
    place = Path(found.origin or "").parent / "data" if found else None
    if place is None or not (place / "labels.csv").is_file():
        raise DataError("the package elpv-dataset, which holds the sample data, is not installed: run `make setup`")
    return place


def read(table: Path) -> list[Cell]:
    """The cells that the package's table lists (path, probability, type, apart by spaces), sorted by path."""
    rows = [line.split() for line in table.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(rows) != IMAGES or any(len(row) != 3 for row in rows):
        raise DataError(f"{table}: expected {IMAGES} rows of path, probability, type; found {len(rows)} rows")
    return sorted(Cell(p, "defective" if float(value) >= DEFECTIVE else "functional", t) for p, value, t in rows)


def draw(cells: list[Cell], seed: int) -> dict[str, str]:
    """The split of each path: test, then validation, drawn within each type and label."""
    strata: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cell in cells:
        strata[cell.type, cell.label].append(cell.path)
    splits = {cell.path: "train" for cell in cells}
    for split, count in (("test", TEST), ("validation", VALIDATION)):
        free = {key: [path for path in paths if splits[path] == "train"] for key, paths in sorted(strata.items())}
        for key, share in shares({key: len(paths) for key, paths in free.items()}, count).items():
            # By hash instead of a random generator, whose stream may change with its library's version.
            shuffled = sorted(free[key], key=lambda path: hashlib.sha256(f"{seed} {split} {path}".encode()).digest())
            splits.update((path, split) for path in shuffled[:share])
    return splits


def shares(sizes: dict[tuple[str, str], int], count: int) -> dict[tuple[str, str], int]:
    """Distribute `count` over strata in proportion to their sizes, by largest remainder."""
    total = sum(sizes.values())
    whole = {key: size * count // total for key, size in sizes.items()}
    left = sorted(sizes, key=lambda key: (-(sizes[key] * count % total), key))
    for key in left[: count - sum(whole.values())]:
        whole[key] += 1
    return whole


if __name__ == "__main__":
    main()
