"""B1: files to uint8 arrays of 224 px, against ImageFolder and Pillow's resize in a DataLoader; three kinds of file."""

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.harness.timing import Comparison, Limit, compare, measure_seconds, work_size
from bench.workloads.jpeg_files import make_photographs
from bench.workloads.photographs import pixel_difference, preprocess_params, run_ingest, run_preprocess, write_cells
from twofold.data.process_pool import map_in_order

SIZE, WORKERS, CHUNK = 224, 2, 32  # px, processes on either side, files per task


class Kind(NamedTuple):
    """Files of one kind: their number, and their size in pixels."""

    files: int
    width: int
    height: int


KINDS = {
    "JPEG 500x375": Kind(work_size(2000, 60), 500, 375),
    "JPEG 2000x1500": Kind(work_size(384, 30), 2000, 1500),
    "PNG 300x300": Kind(2624, 300, 300),  # the sample data
}


def run() -> list[Comparison]:
    """Compare the whole step, with its files, index and statistics; the peer keeps its arrays in memory."""
    os.environ["TWOFOLD_WORKERS"] = str(WORKERS)
    return [_compare_kind(part, kind) for part, kind in KINDS.items()]


def _compare_kind(part: str, kind: Kind) -> Comparison:
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
        folder = Path(name)
        sample = part.startswith("PNG")
        source = write_cells(folder) if sample else make_photographs(folder, *kind)
        images, params = folder / "images", preprocess_params(SIZE)
        files = sorted(path for path in images.rglob("*.*") if path.is_file())
        _use_empty_cache(folder)
        run_ingest(source, "defective" if sample else "bad", folder)

        def ours() -> None:
            _use_empty_cache(folder)
            run_preprocess(params, folder)

        difference = pixel_difference(f"B1 {part}", run_preprocess(params, folder), images, SIZE)
        chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
        limit = min(measure_seconds(lambda: all(map_in_order(_decode_scaled, chunks, WORKERS))) for _ in range(2))
        return compare(
            "B1",
            f"preprocess, {len(files)} files to {SIZE} px, empty cache, {WORKERS} workers",
            part=part,
            ours=("the preprocess step, which writes its artifact", ours),
            peer=(
                "ImageFolder, Resize (Pillow, bilinear), DataLoader; arrays kept in memory",
                partial(_peer, images),
            ),
            equal=f"mean pixel difference {difference:.2f} levels (at most 1)",
            images=len(files),
            limit=Limit(
                limit,
                f"Pillow's decoder alone in {WORKERS} processes, JPEGs at the smallest scale of at least {SIZE} px",
            ),
        )


def _use_empty_cache(folder: Path) -> None:
    os.environ["TWOFOLD_CACHE"], os.environ["TWOFOLD_CACHE_LIMIT"] = tempfile.mkdtemp(dir=folder), "1"


def _decode_scaled(paths: list[Path]) -> bool:
    for path in paths:
        with Image.open(path) as image:
            image.draft(None, (SIZE, SIZE))
            image.load()
    return True


def _peer(images: Path) -> npt.NDArray[np.uint8]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, PILToTensor, Resize

    data = ImageFolder(str(images), Compose([Resize((SIZE, SIZE)), PILToTensor()]))
    arrays = np.empty((len(data), 3, SIZE, SIZE), np.uint8)
    start = 0
    for batch, _ in DataLoader(data, batch_size=32, num_workers=WORKERS):
        arrays[start : start + len(batch)] = batch.numpy()
        start += len(batch)
    return arrays
