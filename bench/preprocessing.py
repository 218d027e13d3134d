"""B1: the sample data set to uint8 arrays of 224 px, against ImageFolder + Pillow's resize in a DataLoader."""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.rounds import Comparison, compare
from twofold.prepared import Prepared
from twofold.settings import read
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess

ROOT = Path(__file__).resolve().parent.parent
SIZE = 224  # px


def run() -> list[Comparison]:
    """The step as it is, with its files, index and statistics; the peer keeps its arrays in memory."""
    os.environ["TWOFOLD_WORKERS"] = "2"
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as place:
        root = Path(place)
        elpv = root / "elpv"
        subprocess.run([sys.executable, ROOT / "data" / "elpv.py", "--seed", "0", "--out", elpv], check=True)
        folders = class_folders(elpv, root / "folders")
        sections = read(ROOT / "params.yaml")
        taking = Ingest.model_validate(dict(sections["ingest"]) | {"source": str(elpv)})
        # The peer looks for nothing in the data, and remembers nothing.
        audit = dict.fromkeys(dict(dict(sections["preprocess"])["audit"]), "ignore")
        preparing = Preprocess.model_validate(dict(sections["preprocess"]) | {"image_size": SIZE, "audit": audit})
        ingest(taking, raw=root / "raw", metrics=root / "ingest.json", audit=root / "audit-ingest")

        def ours() -> None:
            os.environ["TWOFOLD_CACHE"], os.environ["TWOFOLD_CACHE_LIMIT"] = tempfile.mkdtemp(dir=place), "1"
            preprocess(
                preparing,
                root / "raw",
                data=root / "data",
                metrics=root / "preprocess.json",
                audit=root / "audit",
            )

        ours()
        pixels = Prepared.open(root / "data").pixels(np.arange(200))
        found = compare(
            "B1",
            f"preprocess: {len(list(elpv.rglob('*.png')))} grey PNG images of 300x300 to {SIZE} px, 2 workers",
            ours=("the preprocess step", ours),
            peer=("ImageFolder, Resize (Pillow, bilinear), DataLoader", lambda: peer(folders)),
            part="PNG 300x300",
            equal=f"mean difference of a pixel {difference(pixels, root / 'data', elpv):.2f} levels (at most 1)",
        )
        return [found]


def class_folders(elpv: Path, root: Path) -> Path:
    """The same files as ImageFolder wants them: one folder a class."""
    with (elpv / "labels.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            link = root / row["label"] / Path(row["path"]).name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(elpv / row["path"])
    return root


def peer(folders: Path) -> npt.NDArray[np.uint8]:
    """As most people write it."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, PILToTensor, Resize

    data = ImageFolder(str(folders), Compose([Resize((SIZE, SIZE)), PILToTensor()]))
    images = np.empty((len(data), 3, SIZE, SIZE), np.uint8)
    place = 0
    for batch, _ in DataLoader(data, batch_size=32, num_workers=2):
        images[place : place + len(batch)] = batch.numpy()
        place += len(batch)
    return images


def difference(pixels: npt.NDArray[np.uint8], data: Path, elpv: Path) -> float:
    """Mean absolute difference from the peer's transform, over the same 200 images; more than a level is an error."""
    import hashlib

    from PIL import Image
    from torchvision.transforms import Resize

    by_digest = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in elpv.rglob("*.png")}
    total = 0.0
    for image, sha256 in zip(pixels, Prepared.open(data).sha256, strict=False):
        with Image.open(by_digest[str(sha256)]) as opened:
            other = np.asarray(Resize((SIZE, SIZE))(opened.convert("RGB")))
        total += float(np.abs(image.astype(np.int16) - other.astype(np.int16)).mean())
    mean = total / len(pixels)
    if mean > 1:
        raise SystemExit(f"B1: the pixels differ by {mean:.2f} levels in the mean; that is not the same work")
    return mean
