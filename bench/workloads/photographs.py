"""Photographs to prepare: generated JPEGs of two classes in class folders, and the solar cells of the sample data.

In: a folder, how many, their size. Out: files; and from them the artifacts of ingest and preprocess.
"""

import csv
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.harness.timing import trial
from bench.workloads.jpeg_files import draw_texture, make, spread
from twofold.data.prepared import PreparedDataset
from twofold.orchestration.params_file import load_yaml
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess

ROOT = Path(__file__).resolve().parents[2]


def photographs(place: Path, count: int, width: int, height: int) -> Path:
    """`count` JPEGs, half of them `bad`, as in class folders."""
    for label in ("bad", "good"):
        (place / "images" / label).mkdir(parents=True)
    draw_texture().save(place / "texture.png", compress_level=1)
    spread(partial(make, width=width, height=height), place, count)
    return place / "images"


def cells(place: Path) -> Path:
    """The 2,624 grey PNGs of solar cells, in a trial every sixteenth; beside them, links in class folders."""
    source = place / "elpv"
    subprocess.run([sys.executable, ROOT / "data" / "elpv.py", "--seed", "0", "--out", source], check=True)
    if trial():
        shorten(source)
    with (source / "labels.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            link = place / "images" / row["label"] / Path(row["path"]).name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source / row["path"])
    return source


def shorten(source: Path) -> None:
    """Leave every sixteenth image."""
    lines = (source / "labels.csv").read_text(encoding="utf-8").splitlines()
    kept = lines[1::16]
    (source / "labels.csv").write_text("\n".join([lines[0], *kept]) + "\n", encoding="utf-8")
    listed = {Path(line.split(",")[0]).name for line in kept}
    for path in (source / "images").iterdir():
        if path.name not in listed:
            path.unlink()


def taken_in(source: Path, positive: str, place: Path) -> Path:
    """What ingest makes of a source, `place`/raw; nothing is looked for but what must be."""
    section = load_yaml(ROOT / "params.yaml")["ingest"]
    audit = dict.fromkeys(section["audit"], "ignore") | {"both_labels": "fail"}
    params = Ingest.model_validate(section | {"source": str(source), "positive": positive, "audit": audit})
    ingest(params, raw=place / "raw", metrics=place / "ingest.json", audit=place / "audit-ingest")
    return place / "raw"


def preparing(size: int) -> Preprocess:
    """The step's parameters as they stand in params.yaml, at a size; it looks for nothing, as a peer does not."""
    section: dict[str, Any] = load_yaml(ROOT / "params.yaml")["preprocess"]
    audit = dict.fromkeys(section["audit"], "ignore")
    return Preprocess.model_validate(section | {"image_size": size, "fit": "squash", "audit": audit})


def made_ready(params: Preprocess, place: Path) -> PreparedDataset:
    """What preprocess makes of `place`/raw."""
    data = place / "data"
    preprocess(params, place / "raw", data=data, metrics=place / "preprocess.json", audit=place / "audit")
    return PreparedDataset.open(data)


def pixel_difference(name: str, data: PreparedDataset, folders: Path, size: int) -> float:
    """Mean absolute difference, in levels, of at most 200 images from torchvision's transform of the same files.

    Raises:
        SystemExit: more than one level; that is not the same work.
    """
    import hashlib

    from PIL import Image
    from torchvision.transforms import Resize

    by_digest = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for path in folders.rglob("*.*")
        if path.suffix in (".jpg", ".png")
    }
    total: list[float] = []
    for row in range(min(200, len(data))):
        with Image.open(by_digest[str(data.sha256[row])]) as opened:
            other: npt.NDArray[np.int16] = np.asarray(Resize((size, size))(opened.convert("RGB"))).astype(np.int16)
        total.append(float(np.abs(data.pixels([row])[0].astype(np.int16) - other).mean()))
    mean = float(np.mean(total))
    if mean > 1:
        raise SystemExit(
            f"bench: {name}: the pixels differ by {mean:.2f} levels in the mean; that is not the same work"
        )
    return mean
