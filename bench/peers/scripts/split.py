"""Script 1 of 6: copy the files of labels.csv to one folder per split and class. `split SOURCE OUT`."""

import csv
import shutil
import sys
from pathlib import Path

source, out = Path(sys.argv[1]), Path(sys.argv[2])
with (source / "labels.csv").open(newline="", encoding="utf-8") as stream:
    for row in csv.DictReader(stream):
        folder = out / row["split"] / row["label"]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / row["path"], folder)
