"""`python -m bench.studies.ingest_throughput [COUNT]`: many JPEGs of 500x375 through ingest and preprocess: rate and peak memory.

In: how many (50,000), made here of one large texture, each a window of its own. Out: lines, and
`ingestion.json` in bench/results/<hardware>/: images a second of either step beside the decode limit, which is Pillow
alone on the same files in as many processes, and the most memory that all processes of a step held together.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from bench.harness.memory import MIB, peak
from bench.harness.results import save
from twofold.data.process_pool import workers

ROOT = Path(__file__).resolve().parents[2]
COUNT, WIDTH, HEIGHT, SIZE = 50_000, 500, 375, 224
LIMIT = 1024 * MIB
TEXTURE = 3000  # px of its side
BATCH = 250
STEP = 1_000_003
# With everything looked for, as users run it; what is found is listed alone, so that no image is left out.
STEPS = {
    "ingest": "make_raw(root / 'images', root / 'raw', "
    "audit=dict.fromkeys(UNJUDGED, 'warn') | {'both_labels': 'fail'})",
    "preprocess": f"make_prepared(root / 'raw', root / 'prepared', image_size={SIZE}, "
    "audit=dict.fromkeys(UNAUDITED, 'warn'))",
}


def run(count: int, place: Path) -> dict[str, Any]:
    """Make the files, run either step in a process of its own, then decode alone."""
    took = seconds(lambda: spread(make, place, count))
    total = sum(item.stat().st_size for item in (place / "images").rglob("*.jpg"))
    print(f"{count} JPEGs of {WIDTH}x{HEIGHT}, {total / count / 1000:.0f} kB each, made in {took:.0f} s", flush=True)
    result: dict[str, Any] = {"count": count, "workers": workers(), "bytes": total}
    for name, call in STEPS.items():
        script = f"from pathlib import Path; from tests.support.makers import *; root = Path({str(place)!r}); {call}"
        begin = time.perf_counter()
        # A memo of its own: one that has seen these files before would answer in the decoder's place.
        environment = {**os.environ, "TWOFOLD_CACHE": str(place / "memo")}
        held, most = peak(subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment))
        rate = count / (time.perf_counter() - begin)
        result[name] = {"images_per_second": rate, "peak_bytes": held, "processes": most}
        figures = json.loads((place / ("raw.json" if name == "ingest" else "prepared.json")).read_text())
        if figures["images"] != count:
            raise SystemExit(f"bench: {name} kept {figures['images']} of {count} images; that is not the work")
    limit = count / seconds(lambda: spread(decode, place, count))
    result["decode_limit"] = limit
    for name in STEPS:
        rate, held, most = result[name].values()
        print(
            f"{name:<10} {rate:6.0f} images/s, {rate / limit:.2f} of the decode limit of {limit:.0f}; "
            f"peak memory {held / MIB:.0f} MiB in {most} processes ({'below' if held < LIMIT else 'ABOVE'} 1024)",
            flush=True,
        )
    return result


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


def decode(place: Path, numbers: Iterable[int]) -> None:
    """What no step can do without."""
    for number in numbers:
        with Image.open(named(place, "bad" if number % 2 else "good", number)) as image:
            image.load()


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
    with ProcessPoolExecutor(workers()) as executor:
        for done in [
            executor.submit(work, place, range(start, min(count, start + BATCH))) for start in range(0, count, BATCH)
        ]:
            done.result()


def seconds(work: Callable[[], object]) -> float:
    """Wall time."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.studies.ingest_throughput")
    parser.add_argument("count", nargs="?", type=int, default=COUNT)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        place = Path(name)
        for label in ("bad", "good"):
            (place / "images" / label).mkdir(parents=True)
        draw_texture().save(place / "texture.png", compress_level=1)
        result = run(count, place)
    save("ingestion", result)


if __name__ == "__main__":
    main()
