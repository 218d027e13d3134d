"""Many JPEG files of one large texture, each a window of its own, made by many processes."""

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from twofold.data.process_pool import worker_count

WIDTH, HEIGHT = 500, 375  # px
TEXTURE = 3000  # px of its side
BATCH = 250
STEP = 1_000_003


def make(place: Path, numbers: Iterable[int], *, width: int = WIDTH, height: int = HEIGHT) -> None:
    """Windows of the texture, a half in each class; those of `bad` are darker."""
    texture = Image.open(place / "texture.png")
    for number in numbers:
        # A prime step goes round every place once before it comes back: no two windows are the same.
        top, left = divmod(number * STEP % ((TEXTURE - height) * (TEXTURE - width)), TEXTURE - width)
        window = texture.crop((left, top, left + width, top + height))
        label = "bad" if number % 2 else "good"
        window = window.point(lambda level, part=0.8 if number % 2 else 1.0: level * part)
        window.save(named(place, label, number), "JPEG", quality=85)


def named(place: Path, label: str, number: int) -> Path:
    """Where an image lies."""
    return place / "images" / label / f"{number:06d}.jpg"


def draw_texture() -> Image.Image:
    """Noise of several sizes, so that a window weighs about what a photograph of its size does."""
    rng = np.random.default_rng(0)
    total = np.zeros((TEXTURE, TEXTURE, 3), np.float32)
    for side, weight in ((12, 60), (120, 40), (750, 25), (3000, 14)):
        noise = rng.integers(0, 256, (side, side, 3), np.uint8)
        layer = Image.fromarray(noise).resize((TEXTURE, TEXTURE), Image.Resampling.BICUBIC)
        total += (np.asarray(layer.filter(ImageFilter.GaussianBlur(0.6)), np.float32) - 127) * (weight / 74)
    return Image.fromarray(np.clip(total + 127, 0, 255).astype(np.uint8))


def spread(work: Callable[[Path, Iterable[int]], None], place: Path, count: int) -> None:
    """All the numbers, in batches over the workers."""
    with ProcessPoolExecutor(worker_count()) as executor:
        for done in [
            executor.submit(work, place, range(start, min(count, start + BATCH))) for start in range(0, count, BATCH)
        ]:
            done.result()
