"""B1: files to uint8 arrays of 224 px, against ImageFolder + Pillow's resize in a DataLoader; three kinds of file."""

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.harness.timing import Comparison, Limit, clocked, compare, sized
from bench.workloads.photographs import cells, made_ready, photographs, pixel_difference, preparing, taken_in
from twofold.data.process_pool import map_in_order

SIZE, WORKERS, CHUNK = 224, 2, 32  # px, processes of either side, files of a task


class Kind(NamedTuple):
    """Files of one kind: how many, and their size in pixels."""

    files: int
    width: int
    height: int


KINDS = {
    "JPEG 500x375": Kind(sized(2000, 60), 500, 375),
    "JPEG 2000x1500": Kind(sized(384, 30), 2000, 1500),
    "PNG 300x300": Kind(2624, 300, 300),  # those of the sample data
}


def run() -> list[Comparison]:
    """The step as it is, with its files, index and statistics; the peer keeps its arrays in memory."""
    os.environ["TWOFOLD_WORKERS"] = str(WORKERS)
    return [kind(part, of) for part, of in KINDS.items()]


def kind(part: str, of: Kind) -> Comparison:
    """One kind of file."""
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
        place = Path(name)
        own = part.startswith("PNG")
        source = cells(place) if own else photographs(place, of.files, of.width, of.height)
        folders, params = place / "images", preparing(SIZE)
        files = sorted(path for path in folders.rglob("*.*") if path.is_file())
        fresh(place)
        taken_in(source, "defective" if own else "bad", place)

        def ours() -> None:
            fresh(place)
            made_ready(params, place)

        data = made_ready(params, place)
        apart = pixel_difference(f"B1 {part}", data, folders, SIZE)
        chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
        limit = min(clocked(lambda: all(map_in_order(decoded, chunks, WORKERS))) for _ in range(2))
        return compare(
            "B1",
            f"preprocess, {len(files)} files to {SIZE} px, nothing remembered, {WORKERS} workers",
            part=part,
            ours=("the preprocess step, artifact written", ours),
            peer=(
                "ImageFolder, Resize (Pillow, bilinear), DataLoader; arrays kept in memory",
                partial(peer, folders),
            ),
            equal=f"mean difference of a pixel {apart:.2f} levels (at most 1)",
            images=len(files),
            limit=Limit(
                limit,
                f"Pillow's decoder alone in {WORKERS} processes, JPEGs at the smallest scale of at least {SIZE} px",
            ),
        )


def fresh(place: Path) -> None:
    """A memo that has seen nothing."""
    os.environ["TWOFOLD_CACHE"], os.environ["TWOFOLD_CACHE_LIMIT"] = tempfile.mkdtemp(dir=place), "1"


def decoded(paths: list[Path]) -> bool:
    """What no way of preparing can do without."""
    from PIL import Image

    for path in paths:
        with Image.open(path) as image:
            image.draft(None, (SIZE, SIZE))
            image.load()
    return True


def peer(folders: Path) -> npt.NDArray[np.uint8]:
    """As most people write it."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, PILToTensor, Resize

    data = ImageFolder(str(folders), Compose([Resize((SIZE, SIZE)), PILToTensor()]))
    images = np.empty((len(data), 3, SIZE, SIZE), np.uint8)
    place = 0
    for batch, _ in DataLoader(data, batch_size=32, num_workers=WORKERS):
        images[place : place + len(batch)] = batch.numpy()
        place += len(batch)
    return images
