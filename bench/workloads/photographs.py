"""The solar cells of the sample data as files, and what ingest and preprocess make of a folder of images."""

import csv
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.harness.timing import is_trial
from bench.workloads.step_commands import ROOT
from twofold.data.prepared import PreparedDataset
from twofold.orchestration.params_file import load_yaml
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess


def write_cells(folder: Path) -> Path:
    """Write the 2,624 grey PNGs of solar cells, in a trial every sixteenth; returns the folder with their labels.csv.

    `folder`/images holds links to them, in class folders.
    """
    source = folder / "elpv"
    subprocess.run([sys.executable, ROOT / "data" / "elpv.py", "--seed", "0", "--out", source], check=True)
    if is_trial():
        _keep_every_sixteenth(source)
    with (source / "labels.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            link = folder / "images" / row["label"] / Path(row["path"]).name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source / row["path"])
    return source


def _keep_every_sixteenth(source: Path) -> None:
    lines = (source / "labels.csv").read_text(encoding="utf-8").splitlines()
    kept = lines[1::16]
    (source / "labels.csv").write_text("\n".join([lines[0], *kept]) + "\n", encoding="utf-8")
    names = {Path(line.split(",")[0]).name for line in kept}
    for path in (source / "images").iterdir():
        if path.name not in names:
            path.unlink()


def run_ingest(source: Path, positive: str, folder: Path) -> None:
    """Run ingest on a source, to `folder`/raw, without the checks that can be switched off."""
    section = load_yaml(ROOT / "params.yaml")["ingest"]
    audit = dict.fromkeys(section["audit"], "ignore") | {"both_labels": "fail"}
    params = Ingest.model_validate(section | {"source": str(source), "positive": positive, "audit": audit})
    ingest(params, raw=folder / "raw", metrics=folder / "ingest.json", audit=folder / "audit-ingest")


def preprocess_params(size: int) -> Preprocess:
    """The parameters of preprocess in params.yaml, with another image size and without checks, as the peer has none."""
    section: dict[str, Any] = load_yaml(ROOT / "params.yaml")["preprocess"]
    audit = dict.fromkeys(section["audit"], "ignore")
    return Preprocess.model_validate(section | {"image_size": size, "fit": "squash", "audit": audit})


def run_preprocess(params: Preprocess, folder: Path) -> PreparedDataset:
    """Run preprocess on `folder`/raw and open the result."""
    data = folder / "data"
    preprocess(params, folder / "raw", data=data, metrics=folder / "preprocess.json", audit=folder / "audit")
    return PreparedDataset.open(data)


def pixel_difference(name: str, data: PreparedDataset, images: Path, size: int) -> float:
    """Mean absolute difference, in levels, of at most 200 images from torchvision's transform of the same files.

    Raises:
        SystemExit: it is more than one level.
    """
    from torchvision.transforms import Resize

    by_digest = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for path in images.rglob("*.*")
        if path.suffix in (".jpg", ".png")
    }
    differences: list[float] = []
    for row in range(min(200, len(data))):
        with Image.open(by_digest[str(data.sha256[row])]) as image:
            other: npt.NDArray[np.int16] = np.asarray(Resize((size, size))(image.convert("RGB"))).astype(np.int16)
        differences.append(float(np.abs(data.pixels([row])[0].astype(np.int16) - other).mean()))
    mean = float(np.mean(differences))
    if mean > 1:
        raise SystemExit(f"bench: {name}: pixels differ by {mean:.2f} levels on average; this is not the same work")
    return mean
