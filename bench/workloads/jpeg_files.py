"""Many JPEG files in class folders, each a different window of one large texture, written by several processes."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from twofold.data.process_pool import worker_count

WIDTH, HEIGHT = 500, 375  # px
TEXTURE = 3000  # px of a side
BATCH = 250
STEP = 1_000_003


def make_photographs(folder: Path, count: int, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """Write `count` JPEGs, half of them `bad`, into class folders; returns the folder of these."""
    write_texture(folder)
    distribute(partial(write_images, width=width, height=height), folder, count)
    return folder / "images"


def write_texture(folder: Path) -> None:
    """Make the class folders, and a texture of noise at several scales, whose windows are as large as photographs."""
    for label in ("bad", "good"):
        (folder / "images" / label).mkdir(parents=True)
    rng = np.random.default_rng(0)
    total = np.zeros((TEXTURE, TEXTURE, 3), np.float32)
    for side, weight in ((12, 60), (120, 40), (750, 25), (3000, 14)):
        noise = rng.integers(0, 256, (side, side, 3), np.uint8)
        layer = Image.fromarray(noise).resize((TEXTURE, TEXTURE), Image.Resampling.BICUBIC)
        total += (np.asarray(layer.filter(ImageFilter.GaussianBlur(0.6)), np.float32) - 127) * (weight / 74)
    texture = Image.fromarray(np.clip(total + 127, 0, 255).astype(np.uint8))
    texture.save(folder / "texture.png", compress_level=1)


def write_images(folder: Path, numbers: Iterable[int], *, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Write windows of the texture, those of odd number to `bad` and darker."""
    texture = Image.open(folder / "texture.png")
    for number in numbers:
        # A prime step visits every position once before it repeats one: no two windows are the same.
        top, left = divmod(number * STEP % ((TEXTURE - height) * (TEXTURE - width)), TEXTURE - width)
        window = texture.crop((left, top, left + width, top + height))
        window = window.point(lambda level, factor=0.8 if number % 2 else 1.0: level * factor)
        window.save(image_path(folder, number), "JPEG", quality=85)


def image_path(folder: Path, number: int) -> Path:
    """The path of an image."""
    return folder / "images" / ("bad" if number % 2 else "good") / f"{number:06d}.jpg"


def distribute(work: Callable[[Path, Iterable[int]], None], folder: Path, count: int) -> None:
    """Call `work` on the numbers below `count`, in batches over the worker processes."""
    batches = [range(start, min(count, start + BATCH)) for start in range(0, count, BATCH)]
    with ProcessPoolExecutor(worker_count()) as executor:
        for future in [executor.submit(work, folder, batch) for batch in batches]:
            future.result()
