"""`python -m bench.studies.preprocessing_profile`: what B1's files and B7's batches take on one core, part by part of the work.

Out: lines, milliseconds a file or a batch, the median of ten rounds. Libraries that twofold does not use are timed
beside Pillow where they are installed (`pip install opencv-python-headless imagecodecs cykooz_resizer`). No peer and no
file: it explains B1's and B7's figures.
"""

import importlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.benchmarks.b01_preprocessing import KINDS, SIZE
from bench.benchmarks.b07_batches import AUGMENTATION, BATCH
from bench.workloads.photographs import cells, made_ready, photographs, preparing, taken_in
from twofold.data.decode_cache import pixel_digest
from twofold.data.decoding import Limits, decode, prepare
from twofold.data.resizing import FILTER
from twofold.data.thumbnails import grey_thumbnail
from twofold.model.classifier import BACKBONES
from twofold.model.device import make_deterministic
from twofold.model.inference import normalise
from twofold.training.augmentation import AugmentationDraws, augment, draw_augmentation, seeded_generator

FILES, BATCHES, ROUNDS = 64, 32, 10


def main() -> None:
    """Every kind of file, and the batches: every part of the work."""
    prepared()
    batched()


def prepared() -> None:
    """B1's files."""
    limits = Limits(2**30, 89_478_485, 1)
    for kind, of in KINDS.items():
        with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
            place = Path(name)
            source = cells(place) if kind.startswith("PNG") else photographs(place, FILES, of.width, of.height)
            paths = sorted(path for path in source.rglob("*.*") if path.suffix in (".jpg", ".png"))[:FILES]
            files = [path.read_bytes() for path in paths]
        whole = [Image.open(io.BytesIO(data)) for data in files]
        for image in whole:
            image.load()
        pixels = [prepare(data, limits, SIZE, "squash").pixels for data in files]
        grey = [image.convert("L") for image in whole]
        print(f"{kind}: ms a file on one core, the median of {ROUNDS} rounds of {len(files)} files", flush=True)
        tell("decode (Pillow)", files, pillow)
        tell("decode, at the smallest scale that is enough (Pillow)", files, drafted)
        tell(f"resize all its pixels to {SIZE} px (Pillow)", whole, lambda image: image.resize((SIZE, SIZE), FILTER))
        tell("prepare: decode, check and resize", files, lambda data: prepare(data, limits, SIZE, "squash"))
        tell("decode in full, as ingest does", files, lambda data: decode(data, limits))
        tell("thumbnail for near duplicates", grey, grey_thumbnail)
        tell("SHA-256 of the prepared pixels", pixels, pixel_digest)
        for name, work, given in others(files, whole):
            tell(name, given, work)


def batched() -> None:
    """B7's batches."""
    make_deterministic()  # as a training does
    torch.set_num_threads(1)
    resnet50 = BACKBONES["resnet50"]
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
        place = Path(name)
        taken_in(photographs(place, BATCHES * BATCH, 500, 375), "bad", place)
        data = made_ready(preparing(SIZE), place)
        rows = [np.arange(start, start + BATCH) for start in range(0, len(data), BATCH)]
        print(f"B7: ms a batch of {BATCH} images of {SIZE} px on one core, the median of {ROUNDS} rounds", flush=True)
        tell("read from the memory map", rows, data.pixels)
        tell("draw at random", rows, drawn)
        both = [(torch.from_numpy(data.pixels(some)), drawn(some)) for some in rows]
        tell("turn", both, lambda given: augment(given[0], AUGMENTATION, given[1]))
        turned = [augment(pixels, AUGMENTATION, draws) for pixels, draws in both]
        tell("normalise", turned, lambda images: normalise(images, resnet50.mean, resnet50.std))


def drawn(rows: NDArray[np.int64]) -> AugmentationDraws:
    """As an epoch draws for a step."""
    return draw_augmentation(len(rows), AUGMENTATION, seeded_generator(0, int(rows[0])))


def tell(name: str, given: Sequence[Any], work: Callable[[Any], Any]) -> None:
    """One line."""
    rounds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for one in given:
            work(one)
        rounds.append(time.perf_counter() - begin)
    print(f"  {1000 * statistics.median(rounds) / len(given):6.2f}  {name}", flush=True)


def pillow(data: bytes) -> None:
    """In full."""
    Image.open(io.BytesIO(data)).load()


def drafted(data: bytes) -> None:
    """As B1's limit decodes."""
    image = Image.open(io.BytesIO(data))
    image.draft(None, (SIZE, SIZE))
    image.load()


def others(files: list[bytes], whole: Sequence[Image.Image]) -> list[tuple[str, Callable[[Any], Any], Sequence[Any]]]:
    """(name, work, what it is given) of the libraries that are installed."""
    found: list[tuple[str, Callable[[Any], Any], Sequence[Any]]] = []
    if cv2 := installed("cv2"):
        buffers = [np.frombuffer(data, np.uint8) for data in files]
        found.append(("decode (OpenCV)", lambda data: cv2.imdecode(data, cv2.IMREAD_UNCHANGED), buffers))
    if codecs := installed("imagecodecs"):
        found.append(("decode (imagecodecs)", codecs.imread, files))
    if resizer := installed("cykooz_resizer"):
        at_work = resizer.Resizer()
        options = resizer.ResizeOptions(resize_alg=resizer.ResizeAlg.convolution(resizer.FilterType.bilinear))

        def resize(image: Image.Image) -> None:
            to = Image.new(image.mode, (SIZE, SIZE))
            at_work.resize_pil(image, to, options)

        found.append((f"resize all its pixels to {SIZE} px (cykooz_resizer)", resize, whole))
    return found


def installed(name: str) -> ModuleType | None:
    """A module; None if it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


if __name__ == "__main__":
    main()
