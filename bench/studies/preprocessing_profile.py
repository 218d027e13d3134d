"""`python -m bench.studies.preprocessing_profile`: time of B1's files and B7's batches on one core, by operation.

Prints milliseconds per file and per batch, the median of ten rounds, which explain the results of B1 and B7. Measures
other libraries for comparison where they are installed (`pip install opencv-python-headless imagecodecs
cykooz_resizer`). Writes no file.
"""

import importlib
import io
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.benchmarks.b01_preprocessing import KINDS, SIZE
from bench.benchmarks.b07_batches import BATCH
from bench.harness.timing import measure_seconds
from bench.workloads.jpeg_files import make_photographs
from bench.workloads.paced_training import AUGMENTATION, RESNET50
from bench.workloads.photographs import preprocess_params, run_ingest, run_preprocess, write_cells
from twofold.data.decode_cache import pixel_digest
from twofold.data.decoding import Limits, decode, prepare
from twofold.data.resizing import FILTER
from twofold.data.thumbnails import thumbnail
from twofold.model.device import make_deterministic
from twofold.model.inference import normalise
from twofold.training.augmentation import AugmentationDraws, augment, draw_augmentation, seeded_generator

FILES, BATCHES, ROUNDS = 64, 32, 10


def main() -> None:
    """Measure every kind of file, and the batches."""
    _profile_files()
    _profile_batches()


def _profile_files() -> None:
    limits = Limits(2**30, 89_478_485, 1)
    for kind, (_, width, height) in KINDS.items():
        with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
            folder = Path(name)
            source = write_cells(folder) if kind.startswith("PNG") else make_photographs(folder, FILES, width, height)
            paths = sorted(path for path in source.rglob("*.*") if path.suffix in (".jpg", ".png"))[:FILES]
            files = [path.read_bytes() for path in paths]
        images = [Image.open(io.BytesIO(data)) for data in files]
        for image in images:
            image.load()
        pixels = [prepare(data, limits, SIZE, "squash").pixels for data in files]
        grey = [image.convert("L") for image in images]
        print(f"{kind}: ms per file on one core, the median of {ROUNDS} rounds of {len(files)} files", flush=True)
        _measure("decode (Pillow)", files, lambda data: Image.open(io.BytesIO(data)).load())
        _measure("decode at the smallest sufficient scale (Pillow)", files, _decode_scaled)
        _measure(f"resize all pixels to {SIZE} px (Pillow)", images, lambda image: image.resize((SIZE, SIZE), FILTER))
        _measure("prepare: decode, check and resize", files, lambda data: prepare(data, limits, SIZE, "squash"))
        _measure("decode in full, as in ingest", files, lambda data: decode(data, limits))
        _measure("thumbnail for near duplicates", grey, thumbnail)
        _measure("digest of the prepared pixels", pixels, pixel_digest)
        _profile_other_libraries(files, images)


def _profile_batches() -> None:
    make_deterministic()  # as in a training
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
        folder = Path(name)
        run_ingest(make_photographs(folder, BATCHES * BATCH), "bad", folder)
        data = run_preprocess(preprocess_params(SIZE), folder)
        batches = [np.arange(start, start + BATCH) for start in range(0, len(data), BATCH)]
        print(f"B7: ms per batch of {BATCH} images of {SIZE} px on one core, the median of {ROUNDS} rounds", flush=True)
        _measure("read from the memory map", batches, data.pixels)
        _measure("draw the augmentation", batches, _draw)
        inputs = [(torch.from_numpy(data.pixels(rows)), _draw(rows)) for rows in batches]
        _measure("augment", inputs, lambda pair: augment(pair[0], AUGMENTATION, pair[1]))
        augmented = [augment(pixels, AUGMENTATION, draws) for pixels, draws in inputs]
        _measure("normalise", augmented, lambda images: normalise(images, RESNET50.mean, RESNET50.std))


def _draw(rows: NDArray[np.int64]) -> AugmentationDraws:
    return draw_augmentation(len(rows), AUGMENTATION, seeded_generator(0, int(rows[0])))


def _measure(name: str, inputs: Sequence[Any], work: Callable[[Any], Any]) -> None:
    """Print the milliseconds of `work` per input."""
    seconds = statistics.median(measure_seconds(lambda: [work(each) for each in inputs]) for _ in range(ROUNDS))
    print(f"  {1000 * seconds / len(inputs):6.2f}  {name}", flush=True)


def _decode_scaled(data: bytes) -> None:
    """Decode as for the limit of B1."""
    image = Image.open(io.BytesIO(data))
    image.draft(None, (SIZE, SIZE))
    image.load()


def _profile_other_libraries(files: list[bytes], images: Sequence[Image.Image]) -> None:
    if cv2 := _import("cv2"):
        buffers = [np.frombuffer(data, np.uint8) for data in files]
        _measure("decode (OpenCV)", buffers, lambda data: cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
    if codecs := _import("imagecodecs"):
        _measure("decode (imagecodecs)", files, codecs.imread)
    if library := _import("cykooz_resizer"):
        resizer = library.Resizer()
        options = library.ResizeOptions(resize_alg=library.ResizeAlg.convolution(library.FilterType.bilinear))

        def resize(image: Image.Image) -> None:
            resizer.resize_pil(image, Image.new(image.mode, (SIZE, SIZE)), options)

        _measure(f"resize all pixels to {SIZE} px (cykooz_resizer)", images, resize)


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


if __name__ == "__main__":
    main()
